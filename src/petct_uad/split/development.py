"""A part of the test patients to choose params on, and the rest to report.

A set of pictures without abnormal validation pictures, and a cohort without abnormal validation
patients, have nothing but their test split to compare settings on, and what was chosen there must
not be reported there. So a quarter of the test patients may be set aside, by a hash of their
names: the same ones on every machine, whatever else the data set holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from petct_uad.core.errors import SplitError
from petct_uad.core.params.base import TestPatients
from petct_uad.core.patient_split import share_of
from petct_uad.slices.tables import SliceRow


def keep_test_patients(rows: Sequence[SliceRow], which: TestPatients) -> list[SliceRow]:
    """Exclude the test slices of the other patients; training and validation stay as they are.

    Args:
        rows: with their splits.
        which: ``split.test_patients``.

    Raises:
        SplitError: no normal or no abnormal slice would be left in the test split.
    """
    if which == "all":
        return list(rows)
    kept = [_keep(row, which) for row in rows]
    for label, what in enumerate(("normal", "abnormal")):
        if not any(row.split == "test" and row.label == label for row in kept):
            patients = len({row.patient for row in rows if row.split == "test"})
            raise SplitError(
                f"split.test_patients: {which} leaves no {what} slice of {patients} test "
                "patient(s). Set split.test_patients: all, or add patients."
            )
    return kept


def is_for_development(patient: str) -> bool:
    """Does the share of its pseudonym lie in the lowest quarter?"""
    return share_of(patient) < 0.25


def _keep(row: SliceRow, which: TestPatients) -> SliceRow:
    part: TestPatients = "development" if is_for_development(row.patient) else "held_out"
    if row.split != "test" or part == which:
        return row
    what = "for development" if part == "development" else "held out"
    return replace(row, split="excluded", reason=f"{row.reason}, of a test patient {what}")
