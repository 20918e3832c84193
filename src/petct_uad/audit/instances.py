"""``instances.csv`` of every ingested data set, of which only rows that matter are parsed."""

from __future__ import annotations

import csv
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
        head, *lines = path.read_bytes().split(b"\n")
        if not head.decode().startswith(",".join(_COLUMNS)):
            raise LineageError(f"{path}: not the table that ingest writes. Run ingest again.")
        kept = [line.decode() for line in lines if line and wanted in line]
        raw = Path("data/raw") / folder.parent.name
        for file, *others in csv.reader(kept):
            found.append(InstanceFile((raw / file).as_posix(), *others[: len(_COLUMNS) - 1]))
    return found


def series_of(uid: str) -> list[str]:
    """SOPInstanceUIDs of a series; all pseudonyms."""
    return [row.sop_instance_uid for row in instance_rows(uid) if row.series_instance_uid == uid]
