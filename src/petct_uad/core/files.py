"""Atomic, byte-stable files: hashes, JSON and CSV tables of dataclasses."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from time import time
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from petct_uad.core.archives import Extent, find_extent

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = TypeVar("Row", bound="DataclassInstance")

DECIMALS = 6  # of every float that is written

_KNOWN_SHA256: dict[tuple[int, ...], str] = {}
_MOST_KNOWN = 1 << 16
# A file that changed less long ago may change again under the same time, or leave its inode to one.
_SETTLED_S = 2.0
_PIECE = 1 << 18  # bytes that are hashed at once: a slice whole, and no large file is held


def rounded(value: float) -> float:
    """A float as files hold it: six decimals, no negative zero."""
    return round(float(value), DECIMALS) + 0.0


def sha256_file(path: Path) -> str:
    """SHA-256 of the bytes of a file, or of a member of an archive, in hexadecimal."""
    return _hashed(find_extent(path))


def sha256_once(path: Path) -> str:
    """SHA-256 of a file, which is not read again where this process has hashed it as it is.

    That is told by device, inode, size and time of modification, so that a file under two names is
    hashed once. For inputs and outputs of a stage; what may be damaged is hashed each time.
    """
    extent = find_extent(path)
    return _KNOWN_SHA256.get(_same(extent.file.stat(), extent)) or _hashed(extent)


def _hashed(extent: Extent) -> str:
    digest = hashlib.sha256()
    with extent.raw() as stream:
        seen = extent.file.stat()
        while piece := stream.read(_PIECE):
            digest.update(piece)
    if len(_KNOWN_SHA256) >= _MOST_KNOWN:
        _KNOWN_SHA256.clear()
    if time() - seen.st_mtime > _SETTLED_S:
        _KNOWN_SHA256[_same(seen, extent)] = digest.hexdigest()
    return digest.hexdigest()


def _same(seen: os.stat_result, extent: Extent) -> tuple[int, ...]:
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, extent.start, extent.size


def sha256_bytes(content: bytes) -> str:
    """SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it on success and vanishes on failure.

    The temporary name keeps ``path``'s suffixes, because SimpleITK chooses the format by them. A
    disk that is full does not say which; the error that leaves here names ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    suffixes = "".join(path.suffixes)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-", suffix=suffixes)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces ``path`` whole on success and vanishes on failure.

    Killed at any point, it leaves the old folder, the new one or none under the name ``path``, and
    never a part of one. Of two runs at once the one that ends last is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=".tmp-"))
    try:
        yield temporary
        temporary.chmod(0o755)
        while not _take_the_place(temporary, path):
            pass
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _take_the_place(temporary: Path, path: Path) -> bool:
    """Move what stands at ``path`` aside, ``temporary`` there; False if another run was faster."""
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=".tmp-"))
    try:
        with suppress(FileNotFoundError):
            path.replace(aside)
        temporary.replace(path)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        return False
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return True


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write JSON in a stable form: keys as given, two-space indent, no NaN."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_table(path: Path, row_type: type[Row], rows: Sequence[Row]) -> None:
    """Write frozen dataclass rows as CSV, one column per field, floats to six decimals.

    The order of the rows is the caller's: sort them by their identity first.
    """
    columns = [field.name for field in fields(row_type)]
    write_columns(path, columns, ([getattr(row, name) for name in columns] for row in rows))


def write_columns(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write values below these column names as :func:`write_table` does."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_to_text(value) for value in row])


def read_table(path: Path, row_type: type[Row]) -> list[Row]:
    """Read what ``write_table`` wrote; columns must be exactly the fields of ``row_type``.

    Raises:
        ValueError: a column is missing or extra, or a value does not fit its field's type.
    """
    names = [field.name for field in fields(row_type)]
    hints = get_type_hints(row_type)
    readers = [_reader_of(hints[name]) for name in names]
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream)
        header = next(reader, [])
        if header != names:
            raise ValueError(f"{path}: columns {header}, expected {names}")
        return [
            row_type(*(read(text) for read, text in zip(readers, line, strict=True)))
            for line in reader
        ]


def _to_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(rounded(value))
    return str(value)


def _reader_of(hint: Any) -> Callable[[str], Any]:
    """What makes the value of a field with this type hint from its text."""
    if get_origin(hint) is UnionType:
        read = _reader_of(next(one for one in get_args(hint) if one is not type(None)))
        return lambda text: None if text == "" else read(text)
    if hint is bool:
        return {"true": True, "false": False}.__getitem__
    return hint if hint in (int, float) else str
