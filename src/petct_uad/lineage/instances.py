"""``instances.csv`` of every ingested data set, of which only rows that matter are parsed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from petct_uad.core.archives import is_archive, member_path, read_members
from petct_uad.core.errors import ArchiveError, LineageError
from petct_uad.ingest.tables import INSTANCES
from petct_uad.lineage.hashing import Expected, files_below, hash_files

_INTERIM = Path("data/interim")
_COLUMNS = ("file", "sha256", "sop_instance_uid", "series_instance_uid", "study_id")


@dataclass(frozen=True, order=True)
class InstanceFile:
    """One DICOM file or picture, under its pseudonyms."""

    file: str  # data/raw/<dataset>/<published path>
    sha256: str
    sop_instance_uid: str
    series_instance_uid: str
    study_id: str


def ingest_folders() -> list[Path]:
    """Of every data set that was ingested."""
    return sorted(path.parent for path in _INTERIM.glob(f"*/ingest/{INSTANCES}"))


def instance_rows(text: str) -> list[InstanceFile]:
    """Rows that hold this text, in any data set."""
    wanted = text.encode()
    found = []
    for folder in ingest_folders():
        path = folder / INSTANCES
        content = path.read_bytes()
        head = ",".join(_COLUMNS).encode()
        if not content.startswith(head):
            raise LineageError(f"{path}: not the table that ingest writes. Run ingest again.")
        raw = Path("data/raw") / folder.parent.name
        for file, *others in csv.reader(_lines_with(content, wanted)):
            found.append(InstanceFile((raw / file).as_posix(), *others[: len(_COLUMNS) - 1]))
    return found


def locate(rows: Iterable[InstanceFile]) -> list[InstanceFile]:
    """The rows with the files' own names below data/raw, found by their bytes.

    These names may name a person: they are for the owner's screen. A row whose file is not there
    keeps its published name.
    """
    wanted = list(rows)
    folders = sorted({Path(*Path(row.file).parts[:3]) for row in wanted})
    files = [folder / name for folder in folders for name in inputs_below(folder)]
    digests = hash_files([Expected(file, "sha256", "") for file in files], "looking for files")
    names = dict(zip(digests, (file.as_posix() for file in files), strict=True))
    return sorted(replace(row, file=names.get(row.sha256, row.file)) for row in wanted)


def inputs_below(folder: Path) -> Iterator[str]:
    """Every file, and every member of an archive that can be read."""
    for name in files_below(folder):
        yield name
        with suppress(ArchiveError):
            members = read_members(folder / name) if is_archive(folder / name) else ()
            yield from (member_path(name, member) for member in members)


def _lines_with(content: bytes, wanted: bytes) -> Iterator[str]:
    """Lines after the first one that hold these bytes."""
    end = content.find(b"\n")
    while (hit := content.find(wanted, end + 1)) >= 0:
        start = content.rfind(b"\n", 0, hit) + 1
        end = content.find(b"\n", hit)
        end = len(content) if end < 0 else end
        if start < end:
            yield content[start:end].decode()


def series_of(uid: str) -> list[str]:
    """SOPInstanceUIDs of a series; all pseudonyms."""
    return [row.sop_instance_uid for row in instance_rows(uid) if row.series_instance_uid == uid]
