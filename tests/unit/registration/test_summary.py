from __future__ import annotations

from dataclasses import replace

import pytest

from petct_uad.ingest.tables import StudyId, StudyRow
from petct_uad.registration.summary import summarise
from petct_uad.registration.tables import RegistrationRow
from tests.samples import study_row

STUDY = study_row(study_id="a", patient="A", ct_slices=28, pet_slices=49)
ROW = RegistrationRow("a", True, True, "rose", 0.5, 0.8, 0.95, 0.98, 5.0, 7.0, 28, 0)


def _reasons(study: StudyRow, row: RegistrationRow) -> list[str]:
    return [item["reason"] for item in summarise([study], [row])["flagged"]]


def test_a_sound_study_is_not_flagged() -> None:
    assert _reasons(STUDY, ROW) == []


def test_each_oddity_is_flagged_with_its_reason() -> None:
    assert "too flat" in _reasons(STUDY, replace(ROW, accepted=False, reason="too flat"))[0]
    assert "frames" in _reasons(replace(STUDY, same_frame_of_reference=False), ROW)[0]
    assert "overlap" in _reasons(STUDY, replace(ROW, body_overlap_after=0.7))[0]
    assert "only 18 of 28" in _reasons(STUDY, replace(ROW, slices=18, slices_cut=10))[0]


def test_a_study_that_was_not_to_be_refined_is_counted_but_not_flagged() -> None:
    row = replace(ROW, attempted=False, accepted=False, reason="aligned by the scanner")
    summary = summarise([STUDY], [row])
    assert summary["flagged"] == []
    assert (summary["refused"], summary["as_scanned"]) == (0, 1)


def test_only_a_displacement_far_above_the_cohort_stands_out() -> None:
    moved = [4.0, 4.5, 5.0, 5.5, 6.0, 0.5, 21.0]
    rows = [replace(ROW, study_id=str(i), displacement_median_mm=d) for i, d in enumerate(moved)]
    studies = [replace(STUDY, study_id=StudyId(row.study_id)) for row in rows]
    flagged = summarise(studies, rows)["flagged"]
    assert [item["study_id"] for item in flagged] == ["6"]


@pytest.mark.parametrize(("odd_mm", "flagged"), [(7.5, []), (7.7, ["5"])])
def test_in_a_cohort_that_moved_alike_a_small_difference_is_no_oddity(
    odd_mm: float, flagged: list[str]
) -> None:
    """Deviations count as at least 0.5 mm: 3.5 x 1.4826 x 0.5 mm is 2.6 mm."""
    moved = [5.0, 5.0, 5.0, 5.0, 5.0, odd_mm]
    rows = [replace(ROW, study_id=str(i), displacement_median_mm=d) for i, d in enumerate(moved)]
    studies = [replace(STUDY, study_id=StudyId(row.study_id)) for row in rows]
    assert [item["study_id"] for item in summarise(studies, rows)["flagged"]] == flagged


def test_an_empty_cohort_has_a_summary() -> None:
    assert summarise([], [])["studies"] == 0
