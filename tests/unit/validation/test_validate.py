"""Validation stops the pipeline on a broken promise and names the rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from petct_uad.dicom.tables import InstanceRow, SeriesRow, StudyRow
from petct_uad.errors import ValidationFailedError
from petct_uad.files import write_table
from petct_uad.params import Protocol, ValidateParams
from petct_uad.registration.tables import RegistrationRow
from petct_uad.slices.tables import ImageRow, SliceRow
from petct_uad.validation.tables import TableFiles
from petct_uad.validation.validate import (
    Outcome,
    stop_on_critical,
    validate_tables,
    write_outcomes,
)

BOUNDS = ValidateParams(
    max_lost_study_fraction=0.1, min_train_slices=1, max_suv=100.0, max_spacing_mm=8.0
)


def slice_row(patient: str, index: int, split: str, label: int = 0) -> SliceRow:
    return SliceRow(
        f"{patient}_{index:04d}", patient, patient, "GE", index, 5.0 * index, 0.5,
        50.0 * label, label, split, "stated",
    )  # fmt: skip


def image_row(row: SliceRow) -> ImageRow:
    return ImageRow(
        row.slice_id, row.study_id, row.patient, row.scanner, row.split, row.label, row.position,
        0, row.lesion_area_mm2, 1.0, 4.0, 1.0, 1.0, 5e4, -100.0, 0.3, 0.1,
        f"{hash(row):064x}"[-64:],
    )  # fmt: skip


class Cohort:
    """A small, sound cohort on disk, of which a test breaks one thing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.slices = [
            slice_row("P1", 0, "train"),
            slice_row("P1", 1, "train"),
            slice_row("P2", 0, "val"),
            slice_row("P3", 0, "test"),
            slice_row("P3", 1, "test", label=1),
        ]
        self.study = StudyRow("P1", "P1", "GE", "1", "2", "3", "seg", "x", 9, 9, True, "")
        self.registration = RegistrationRow(
            "P1", True, True, "better", 0.1, 0.2, 0.8, 0.9, 1, 2, 10, 0
        )

    def outcomes(
        self, images: list[ImageRow] | None = None, protocol: Protocol = "patient"
    ) -> list[Outcome]:
        ingest = self.folder / "ingest"
        sha = "0" * 64
        write_table(
            ingest / "instances.csv",
            InstanceRow,
            [InstanceRow("a.dcm", sha, "1.2", "1", "P1", "ct", 0)],
        )
        write_table(
            ingest / "series.csv",
            SeriesRow,
            [SeriesRow("1", 1, "1", "P1", "CT", "GE", "STE", "", 9, 9, 9, 1, 1, 5, "P1", "ct", "")],
        )
        write_table(
            ingest / "studies.csv",
            StudyRow,
            [self.study],
        )
        write_table(self.folder / "registration.csv", RegistrationRow, [self.registration])
        write_table(self.folder / "slices.csv", SliceRow, self.slices)
        rows = images if images is not None else [image_row(row) for row in self.slices]
        write_table(self.folder / "index.csv", ImageRow, rows)
        files = TableFiles(
            "test",
            ingest,
            self.folder / "registration.csv",
            self.folder / "slices.csv",
            self.folder / "index.csv",
        )
        return validate_tables(files, protocol, BOUNDS)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path)


def failed(outcomes: list[Outcome]) -> dict[str, tuple[str, ...]]:
    return {f"{o.table}.{o.name}": o.failing_rows for o in outcomes if not o.passed}


def test_sound_cohort_passes_every_check(cohort: Cohort) -> None:
    outcomes = cohort.outcomes()
    assert failed(outcomes) == {}
    stop_on_critical(outcomes)


def test_patient_in_two_splits_stops_the_pipeline_and_is_named(cohort: Cohort) -> None:
    cohort.slices.append(slice_row("P1", 2, "test"))
    outcomes = cohort.outcomes()
    assert failed(outcomes) == {"patients.one_patient_one_split": ("P1",)}
    with pytest.raises(ValidationFailedError, match=r"one_patient_one_split.*P1"):
        stop_on_critical(outcomes)


def test_abnormal_training_slice_stops_the_pipeline_and_is_named(cohort: Cohort) -> None:
    cohort.slices.append(slice_row("P1", 2, "train", label=1))
    outcomes = cohort.outcomes()
    assert failed(outcomes) == {"slices.no_abnormal_in_train": ("P1_0002",)}
    with pytest.raises(ValidationFailedError, match="P1_0002"):
        stop_on_critical(outcomes)


def test_image_that_disagrees_with_its_slice_is_named(cohort: Cohort) -> None:
    images = [image_row(row) for row in cohort.slices]
    images[1] = replace(images[1], split="val")
    assert failed(cohort.outcomes(images)) == {"images.matches_slices": ("P1_0001",)}


def test_nan_is_a_failure_and_not_an_absence(cohort: Cohort) -> None:
    images = [image_row(row) for row in cohort.slices]
    images[0] = replace(images[0], suv_max=float("nan"))
    assert failed(cohort.outcomes(images)) == {"images.suv_not_nan": ("P1_0000",)}


def test_identical_slices_are_a_warning_that_does_not_stop(cohort: Cohort) -> None:
    images = [image_row(row) for row in cohort.slices]
    images[3] = replace(images[3], sha256=images[0].sha256)
    outcomes = cohort.outcomes(images)
    assert failed(outcomes) == {"images.no_identical_slices": ("P1_0000", "P3_0000")}
    stop_on_critical(outcomes)


def test_leaking_protocol_reports_straddling_patients_without_stopping(cohort: Cohort) -> None:
    cohort.slices.append(slice_row("P1", 2, "test"))
    outcomes = cohort.outcomes(protocol="cmad")
    assert failed(outcomes) == {"patients.one_patient_one_split": ("P1",)}
    stop_on_critical(outcomes)


def test_results_file_names_rows_and_is_byte_stable(cohort: Cohort, tmp_path: Path) -> None:
    cohort.slices.append(slice_row("P1", 2, "test"))
    write_outcomes(tmp_path / "a.json", cohort.outcomes())
    write_outcomes(tmp_path / "b.json", cohort.outcomes())
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    result = json.loads((tmp_path / "a.json").read_text())
    assert not result["passed"]
    assert result["critical_failures"] == 1


def test_label_object_without_a_matching_lesion_stops_the_pipeline(cohort: Cohort) -> None:
    cohort.study = replace(cohort.study, lesion_kind="none")
    outcomes = cohort.outcomes()
    assert failed(outcomes) == {"studies.label_names_a_lesion": ("P1",)}
    with pytest.raises(ValidationFailedError, match=r"ingest\.label_roi"):
        stop_on_critical(outcomes)
