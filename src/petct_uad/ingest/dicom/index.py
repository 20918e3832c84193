"""Which DICOM files lie in a folder: the header of each, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from petct_uad.core.errors import IdentityError, RejectedInputError
from petct_uad.core.files import sha256_bytes
from petct_uad.core.store.map_stored import map_stored
from petct_uad.core.store.study_store import Storable, StudyStore
from petct_uad.ingest.dicom.header import Header, read_header
from petct_uad.ingest.dicom.identity import Identity, refused_identity
from petct_uad.ingest.files import find_inputs
from petct_uad.ingest.found import FoundRejection
from petct_uad.ingest.pseudonyms import Pseudonyms
from petct_uad.ingest.rejections import NOTHING_LOST, rejected_row

_FILES_PER_BATCH = 64  # on average
_WORTH_A_PROCESS = 1000


@dataclass(frozen=True)
class Index:
    """Every usable header, sorted by file, and every refused file."""

    headers: tuple[Header, ...]
    rejected: tuple[FoundRejection, ...]


@dataclass(frozen=True)
class _Batch(Storable):
    """Some files of one folder."""

    raw: Path
    files: tuple[str, ...]

    @property
    def sources(self) -> tuple[Path, ...]:
        """The files."""
        return tuple(self.raw / file for file in self.files)

    @property
    def said(self) -> str:
        """Their names, which headers and refusals tell."""
        return json.dumps([self.raw.as_posix(), *self.files])


@dataclass(frozen=True)
class _Headers:
    """What a batch holds."""

    read: tuple[Header, ...]
    refused: tuple[FoundRejection, ...]


def index_files(raw: Path, workers: int, store: StudyStore | None = None) -> Index:
    """Read the header of every file below ``raw`` and hash it; keep one of identical duplicates.

    Files that are in the ``store`` are hashed, and not parsed again.
    """
    files, rejected = find_inputs(raw)
    batches = _batches(raw, files)
    # Starting a process takes as long as reading a thousand headers.
    workers = workers if len(files) > _WORTH_A_PROCESS else 1
    results = map_stored(
        _read_batch, batches, _Headers, "reading headers", workers=workers, store=store
    )
    headers = [header for found in results for header in found.read]
    rejected += [row for found in results for row in found.refused]
    unique, shared = _without_shared_uids(headers)
    return Index(tuple(sorted(unique)), tuple(sorted([*rejected, *shared])))


def leave_out(index: Index, raw: Path, pseudonyms: Pseudonyms, gone: Collection[str]) -> Index:
    """The index without the files of some patients, refused ones included.

    Args:
        index: what was found below ``raw``.
        raw: the data set.
        pseudonyms: those that ``gone`` is written in.
        gone: who took their consent back.
    """
    if not gone:
        return index

    def kept(identity: Identity | None) -> bool:
        return identity is None or pseudonyms.patient(identity.patient) not in gone

    headers = (h for h in index.headers if pseudonyms.patient(h.patient) not in gone)
    rejected = (row for row in index.rejected if kept(refused_identity(raw, row.subject)))
    return Index(tuple(headers), tuple(rejected))


def _batches(raw: Path, files: Sequence[str]) -> list[_Batch]:
    """Files by folder, cut where a name's hash says so: a file more or less moves no other."""
    groups: dict[str, list[list[str]]] = {}
    for file in files:
        folder, _, name = file.rpartition("/")
        parts = groups.setdefault(folder, [[]])
        if parts[-1] and int(sha256_bytes(name.encode())[:8], 16) % _FILES_PER_BATCH == 0:
            parts.append([])
        parts[-1].append(file)
    return [_Batch(raw, tuple(part)) for parts in groups.values() for part in parts]


def _read_batch(batch: _Batch) -> _Headers:
    found = [_header_or_row(batch.raw, file) for file in batch.files]
    return _Headers(
        tuple(item for item in found if isinstance(item, Header)),
        tuple(item for item in found if isinstance(item, FoundRejection)),
    )


def _header_or_row(raw: Path, file: str) -> Header | FoundRejection:
    try:
        return read_header(raw, file)
    except RejectedInputError as error:
        return rejected_row(error)


def _without_shared_uids(headers: Sequence[Header]) -> tuple[list[Header], list[FoundRejection]]:
    """Keep one file per SOPInstanceUID, and none where two files with it differ."""
    by_uid: dict[str, list[Header]] = {}
    for header in sorted(headers):
        by_uid.setdefault(header.sop_instance_uid, []).append(header)
    kept: list[Header] = []
    rejected: list[FoundRejection] = []
    for group in by_uid.values():
        same = len({header.sha256 for header in group}) == 1
        kept += group[:1] if same else []
        refused = group[1:] if same else group
        rejected += [rejected_row(_shared(header, group, same)) for header in refused]
    return kept, rejected


def _shared(header: Header, group: Sequence[Header], same: bool) -> IdentityError:
    other = next(item.file for item in group if item is not header)
    content = "the same bytes" if same else "different bytes"
    advice = f"{NOTHING_LOST}: {other} is used." if same else "Keep the right one of the files."
    return IdentityError(
        header.file,
        found=f"SOPInstanceUID (0008,0018) {header.sop_instance_uid} with {content} in {other}",
        expected="one file per SOPInstanceUID",
        advice=advice,
    )
