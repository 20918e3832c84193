"""Patients who took their consent back: a list in git, which ingest leaves out of everything."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from petct_uad.core.errors import DatasetError
from petct_uad.core.files import read_table, write_table

WITHDRAWN = Path("data/withdrawn.csv")
_PSEUDONYM = re.compile(r"p-[0-9a-f]{10}")


@dataclass(frozen=True, order=True)
class WithdrawnRow:
    """One patient, by pseudonym; never by PatientID."""

    patient: str
    date: str  # of the withdrawal, YYYY-MM-DD, as the person who recorded it gave it


def read_withdrawn(path: Path = WITHDRAWN) -> list[WithdrawnRow]:
    """The list; empty where there is none.

    Raises:
        DatasetError: a row is no pseudonym and date, so that nobody knows who is meant.
    """
    if not path.is_file():
        return []
    try:
        rows = read_table(path, WithdrawnRow)
        for row in rows:
            date.fromisoformat(row.date)
            if not _PSEUDONYM.fullmatch(row.patient):
                raise ValueError(f"{row.patient!r} is no pseudonym such as p-0199e4565b")
    except ValueError as error:
        raise DatasetError(
            f"{path}: {error}. Fix the line, or restore the file with `git restore {path}`; "
            "`petct lineage impact PATIENT --withdraw` writes such lines."
        ) from error
    return rows


def withdrawn_patients(path: Path = WITHDRAWN) -> set[str]:
    """The pseudonyms on the list."""
    return {row.patient for row in read_withdrawn(path)}


def add_withdrawn(patient: str, day: str, path: Path = WITHDRAWN) -> bool:
    """Record one withdrawal; False if the patient stands there already.

    Raises:
        DatasetError: not a pseudonym, not a date, or the list cannot be read.
    """
    rows = read_withdrawn(path)
    if patient in {row.patient for row in rows}:
        return False
    if not _PSEUDONYM.fullmatch(patient):
        raise DatasetError(f"{patient}: not a pseudonym such as p-0199e4565b.")
    try:
        date.fromisoformat(day)
    except ValueError as error:
        raise DatasetError(f"--date {day!r}: expected YYYY-MM-DD.") from error
    write_table(path, WithdrawnRow, sorted([*rows, WithdrawnRow(patient, day)]))
    return True
