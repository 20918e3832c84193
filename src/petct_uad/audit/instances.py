"""``instances.csv`` of every ingested data set, of which only rows that matter are parsed."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from petct_uad.errors import LineageError

_INTERIM = Path("data/interim")
_COLUMNS = ("file", "sha256", "sop_instance_uid", "series_instance_uid", "study_id")


@dataclass(frozen=True, order=True)
class InstanceFile:
    """One DICOM file, under its pseudonyms."""

    file: str  # data/raw/<dataset>/<published path>
    sha256: str
    sop_instance_uid: str
    series_instance_uid: str
    study_id: str


def ingest_folders() -> list[Path]:
    """Of every data set that was ingested."""
    return sorted(path.parent for path in _INTERIM.glob("*/ingest/instances.csv"))


def instance_rows(text: str) -> list[InstanceFile]:
    """Rows that hold this text, in any data set."""
    wanted = text.encode()
    found = []
    for folder in ingest_folders():
        path = folder / "instances.csv"
        content = path.read_bytes()
        head = ",".join(_COLUMNS).encode()
        if not content.startswith(head):
            raise LineageError(f"{path}: not the table that ingest writes. Run ingest again.")
        raw = Path("data/raw") / folder.parent.name
        for file, *others in csv.reader(_lines_with(content, wanted)):
            found.append(InstanceFile((raw / file).as_posix(), *others[: len(_COLUMNS) - 1]))
    return found


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
