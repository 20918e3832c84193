"""Series from the buckets of an archive: every object verified, none that is cut taken for whole.

The archive's index has no hash of an instance, so three things must agree: what the bucket says of
each object (its size, and its MD5 where it was uploaded in one part), what the index says of the
series (how many instances, how many bytes), and what each instance says of itself (whose it is).
A version of a series has a folder of its own in the bucket, in which no byte ever changes.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from petct_uad.cohorts.index import IndexedSeries
from petct_uad.core.errors import CohortError
from petct_uad.core.files import atomic_path, sha256_bytes, sha256_file
from petct_uad.ingest.reader import Whose
from petct_uad.ingest.run import whose_file

_REGION = "us-east-1"
_URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{2,62})/(?P<folder>[A-Za-z0-9._-]+)/\*?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_MD5 = re.compile(r"[0-9a-f]{32}")
_AT_ONCE = 16  # objects: a slice is half a megabyte, and each waits for an answer first
_TRIES = 3
_MB = 1e6
_PIECE = 1 << 20
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Instance:
    """One instance that was fetched and verified.

    Attributes:
        file: where it lies.
        sop_instance_uid: (0008,0018).
        size_bytes: of the file.
        sha256: of the file.
        has_md5: was it held against an MD5, and not its size alone?
    """

    file: Path
    sop_instance_uid: str
    size_bytes: int
    sha256: str
    has_md5: bool


@dataclass(frozen=True, order=True)
class _Object:
    """What a bucket says of one object; its MD5 is "" where it was uploaded in parts."""

    key: str
    size_bytes: int
    md5: str


@dataclass(frozen=True)
class Buckets:
    """Where series are fetched from.

    Attributes:
        endpoint: of an S3 server; None is Amazon's, where the buckets are public.
    """

    endpoint: str | None = None

    def fetch_series(self, series: IndexedSeries, folder: Path) -> tuple[Instance, ...]:
        """Fetch a series into a folder of its own; what is there and whole is not fetched again.

        Raises:
            CohortError: the server, the index and the instances do not agree, or nobody answers.
        """
        store, prefix = self._open(series.url)
        objects = _listed(store, prefix, series)
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            instances = tuple(pool.map(partial(_fetch, store, folder, series), objects))
        twice = [uid for uid, n in Counter(x.sop_instance_uid for x in instances).items() if n > 1]
        if twice:
            raise _disagree(series, f"SOPInstanceUID {twice[0]} twice", "one instance of each")
        return instances

    def _open(self, url: str) -> tuple[Any, str]:
        """The bucket of a URL, unsigned, and the folder in it."""
        match = _URL.fullmatch(url)
        if match is None:
            raise CohortError(f"{url!r}: expected s3://BUCKET/FOLDER/*, as the index has it.")
        if find_spec("obstore") is None:
            raise CohortError("obstore is not installed: pip install '.[cohorts]'.")
        from obstore.store import S3Store

        store = S3Store(
            match["bucket"],
            endpoint=self.endpoint,
            region=_REGION,
            skip_signature=True,
            client_options={"allow_http": self.endpoint is not None, "timeout": "120s"},
            retry_config={"max_retries": 5},
        )
        return store, match["folder"]


def series_hash(instances: Sequence[Instance]) -> str:
    """SHA-256 of a line ``SOPInstanceUID SHA-256`` per instance, sorted."""
    lines = sorted(f"{x.sop_instance_uid} {x.sha256}\n" for x in instances)
    return sha256_bytes("".join(lines).encode())


def _listed(store: Any, prefix: str, series: IndexedSeries) -> tuple[_Object, ...]:
    """What the bucket has of a series, as the index has it too."""
    found: list[_Object] = []
    with _named(series.url):
        for batch in store.list(prefix=f"{prefix}/"):
            found += map(_object, batch)
            if len(found) > series.images:  # a hostile list has no end
                break
    size, told = sum(x.size_bytes for x in found), round(series.size_mb * _MB)
    if len(found) != series.images:
        more = "more" if len(found) > series.images else f"{len(found)}"
        raise _disagree(series, f"{more} objects", f"{series.images}, by the index")
    if size != told:
        raise _disagree(series, f"{size} bytes", f"{told} bytes, by the index")
    wrong = [x.key for x in found if not _NAME.fullmatch(PurePosixPath(x.key).name)]
    if wrong:
        raise _disagree(series, f"an object {wrong[0]!r}", "letters, digits, '.', '-' and '_'")
    return tuple(sorted(found))


def _object(meta: Any) -> _Object:
    told = (meta["e_tag"] or "").strip('"')
    return _Object(meta["path"], meta["size"], told if _MD5.fullmatch(told) else "")


def _fetch(store: Any, folder: Path, series: IndexedSeries, item: _Object) -> Instance:
    path = folder / PurePosixPath(item.key).name
    if not (path.is_file() and not _wrong(path, item)):
        _download(store, series, item, path)
    uid = _whose(path, series, item)
    return Instance(path, uid, item.size_bytes, sha256_file(path), bool(item.md5))


def _download(store: Any, series: IndexedSeries, item: _Object, path: Path) -> None:
    for left in reversed(range(_TRIES)):
        try:
            _download_once(store, series, item, path)
        except CohortError:
            if not left:
                raise
        else:
            return


def _download_once(store: Any, series: IndexedSeries, item: _Object, path: Path) -> None:
    """Under a temporary name until it is known to be whole."""
    with atomic_path(path) as temporary:
        with _named(item.key), temporary.open("wb") as file:
            file.writelines(_bounded(store, item))
        found = _wrong(temporary, item)
        if found:
            expected = f"{item.size_bytes} bytes with MD5 {item.md5 or 'of parts'}, by the bucket"
            raise _disagree(series, f"{item.key} with {found}", expected)


def _bounded(store: Any, item: _Object) -> Iterator[bytes]:
    """The bytes of an object, and no more than it is said to have."""
    left = item.size_bytes
    for piece in store.get(item.key).stream(min_chunk_size=_PIECE):
        left -= len(piece)
        if left < 0:
            return
        yield bytes(piece)


def _wrong(path: Path, item: _Object) -> str:
    """How a file differs from what the bucket says of it; "" if it does not."""
    size = path.stat().st_size
    if size != item.size_bytes:
        return f"{size} bytes"
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest() if item.md5 else ""
    return f"MD5 {md5}" if md5 != item.md5 else ""


def _whose(path: Path, series: IndexedSeries, item: _Object) -> str:
    """The SOPInstanceUID of a file that is of its series.

    Raises:
        CohortError: it is no DICOM, or another's.
    """
    whose = whose_file(path)
    if whose == Whose():
        raise _disagree(series, f"{item.key}, which cannot be read", "a DICOM file")
    found = [whose.patient, whose.study, whose.series]
    expected = [series.patient, series.study, series.series]
    if found != expected or whose.instance is None:
        what = f"{item.key} of {found} with SOPInstanceUID {whose.instance!r}"
        raise _disagree(series, what, f"{expected}")
    return whose.instance


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Whatever goes wrong on the way is said of what was asked for."""
    from obstore.exceptions import BaseError

    try:
        yield
    except BaseError as error:
        why = " ".join(str(error).split())[:_SHOWN_CHARACTERS]
        raise CohortError(
            f"{what}: no answer that can be used ({why}). What was fetched is kept: run the "
            "same command again."
        ) from error


def _disagree(series: IndexedSeries, found: str, expected: str) -> CohortError:
    return CohortError(
        f"{series.url} (series {series.series}): found {found}; expected {expected}. Nothing of "
        "its study was added, and what is sound is kept: run the same command again. If it says "
        "the same, the archive or the server is not what the index says."
    )
