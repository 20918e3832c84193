"""A quarter of the test patients chooses params, and only the others are reported."""

from __future__ import annotations

import pytest

from petct_uad.core.errors import SplitError
from petct_uad.slices.tables import SliceRow
from petct_uad.split.development import is_for_development, keep_test_patients

PATIENTS = [f"patient-{i:04d}" for i in range(1000)]


def row(patient: str, label: int = 0, split: str = "test") -> SliceRow:
    return SliceRow(
        slice_id=f"{patient}_{split}_{label}",
        study_id=patient,
        patient=patient,
        scanner="GE",
        slice_index=0,
        z_mm=0.0,
        position=0.0,
        lesion_area_mm2=100.0 * label,
        label=label,
        split=split,
        reason="abnormal" if label else "normal",
    )


ROWS = [row(patient, label) for patient in PATIENTS for label in (0, 1)]


def patients_tested(rows: list[SliceRow]) -> set[str]:
    return {one.patient for one in rows if one.split == "test"}


def test_who_chooses_is_never_reported_and_together_they_are_all() -> None:
    development = patients_tested(keep_test_patients(ROWS, "development"))
    held_out = patients_tested(keep_test_patients(ROWS, "held_out"))
    assert not development & held_out
    assert development | held_out == set(PATIENTS)
    assert 200 < len(development) < 300


def test_a_patient_stays_where_it_is_whoever_else_comes() -> None:
    few = keep_test_patients(ROWS[:200], "development")
    many = keep_test_patients(ROWS, "development")
    assert patients_tested(few) == patients_tested(many) & set(PATIENTS[:100])


def test_training_and_validation_do_not_change_and_excluded_slices_say_why() -> None:
    others = [row(patient, 0, split) for patient in PATIENTS[:9] for split in ("train", "val")]
    kept = keep_test_patients([*ROWS, *others], "held_out")
    assert kept[len(ROWS) :] == others
    excluded = [one for one in kept if one.split == "excluded"]
    assert {one.reason for one in excluded} == {
        f"{what}, of a test patient for development" for what in ("normal", "abnormal")
    }
    assert all(is_for_development(one.patient) for one in excluded)


def test_all_is_the_split_as_it_was() -> None:
    assert keep_test_patients(ROWS, "all") == ROWS


def test_a_part_without_abnormal_slices_is_refused() -> None:
    first = next(patient for patient in PATIENTS if is_for_development(patient))
    with pytest.raises(SplitError, match="development leaves no abnormal slice of 1 test patient"):
        keep_test_patients([row(first)], "development")
