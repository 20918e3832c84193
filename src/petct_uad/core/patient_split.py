"""``split.csv``: which patients train, validate and test, where a data set brings its own split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from petct_uad.core.errors import DatasetError
from petct_uad.core.files import read_table, sha256_bytes, write_table

SPLIT_CSV = "split.csv"

Part = Literal["train", "val", "test"]


@dataclass(frozen=True, order=True)
class PatientSplitRow:
    """One patient, sorted.

    Attributes:
        patient: PatientID (0010,0020) below data/raw, the pseudonym in an output.
        split: train, val or test.
    """

    patient: str
    split: str


def read_patient_split(folder: Path) -> dict[str, Part]:
    """The split of each patient; empty where nobody has assigned any.

    Raises:
        DatasetError: other columns, another split, or a patient twice.
    """
    path = folder / SPLIT_CSV
    if not path.is_file():
        return {}
    try:
        rows = read_table(path, PatientSplitRow)
    except ValueError as error:
        raise _wrong(path, str(error)) from error
    found: dict[str, Part] = {}
    for row in rows:
        if row.split not in get_args(Part):
            raise _wrong(path, f"{row.patient} has the split {row.split!r}")
        if row.patient in found:
            raise _wrong(path, f"{row.patient} is there twice")
        found[row.patient] = cast(Part, row.split)
    return found


def write_patient_split(folder: Path, parts: Mapping[str, Part]) -> None:
    """Write the table into a folder."""
    rows = sorted(PatientSplitRow(*item) for item in parts.items())
    write_table(folder / SPLIT_CSV, PatientSplitRow, rows)


def share_of(name: str) -> float:
    """A number from 0 to 1 that depends on a name alone, and is even over many names.

    The first 64 bits of the SHA-256 of the name, over 2 to the power of 64.
    """
    return int(sha256_bytes(name.encode())[:16], 16) / 2**64


def _wrong(path: Path, found: str) -> DatasetError:
    return DatasetError(
        f"{path}: {found}. Expected the columns patient,split: a PatientID and train, val or test "
        "on each line, no patient twice. Fix the table, or remove it: it is optional."
    )
