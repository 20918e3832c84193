"""A cohort of whole bodies, read back from its DICOM files."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pydicom
import pytest

from petct_uad.core.files import read_table
from petct_uad.ingest.run import ingest_dataset
from petct_uad.ingest.tables import SeriesRow, StudyRow
from petct_uad.phantom.truth import PhantomTruth, read_truth, write_truth
from petct_uad.schema import load_params
from petct_uad.split.patients import assign_patients
from tests.whole_bodies import PARAMS, made_once

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory)


def _truths(cohort: Path) -> dict[str, PhantomTruth]:
    return {path.stem: read_truth(path) for path in sorted((cohort / "truth").glob("*.json"))}


def _headers(folder: Path) -> list[pydicom.Dataset]:
    found = [pydicom.dcmread(path, stop_before_pixels=True) for path in folder.glob("*.dcm")]
    return sorted(found, key=lambda header: float(header.ImagePositionPatient[2]))


def test_truth_says_where_the_lungs_end_and_the_ct_shows_them_there(cohort: Path) -> None:
    for name, truth in _truths(cohort).items():
        assert truth.whole_body is not None
        base, apex = truth.whole_body.lung_base_mm, truth.whole_body.lung_apex_mm
        folder = cohort / "raw" / truth.patient / ("FOLLOW-UP" if "FOLLOW" in name else "")
        images = [pydicom.dcmread(path) for path in sorted((folder / "CT").glob("*.dcm"))]
        couch = _lung_like(images[0])
        for image in images:
            z, lung = float(image.ImagePositionPatient[2]), _lung_like(image) - couch
            if base + 90 < z < apex - 40:
                assert lung > 0.02, (name, z)
            elif not base - 5 < z < apex + 5:
                assert abs(lung) < 0.03, (name, z)


def _lung_like(image: pydicom.Dataset) -> float:
    """Which part of a slice is as dark as lung, the couch's foam included."""
    hu = image.pixel_array - 1024.0
    return float(((hu > -930) & (hu < -760)).mean())


def test_a_whole_body_is_scanned_in_the_ways_that_hospitals_do(cohort: Path) -> None:
    bodies = [t.whole_body for t in _truths(cohort).values() if t.whole_body]
    assert {body.arms for body in bodies} == {"up", "down"}
    assert {body.contrast for body in bodies} == {True, False}
    assert {body.label_on for body in bodies} == {"ct", "pet"}
    assert {body.pet_series for body in bodies} == {1, 2}


def test_label_lies_on_the_grid_that_the_truth_names(cohort: Path) -> None:
    seen = set()
    for name, truth in _truths(cohort).items():
        home = cohort / "raw" / truth.patient / ("FOLLOW-UP" if "FOLLOW" in name else "")
        for path in (home / "SEG").glob("*.dcm"):
            assert truth.whole_body is not None
            on = truth.whole_body.label_on
            seen.add(on)
            series = _headers(home / on.upper())
            seg = pydicom.dcmread(path)
            assert (seg.Rows, seg.Columns) == (series[0].Rows, series[0].Columns)
            assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == series[0].SeriesInstanceUID
            assert seg.pixel_array.any()
    assert seen == {"ct", "pet"}


def test_second_pet_says_that_it_is_not_corrected_and_is_darker_inside(cohort: Path) -> None:
    folders = sorted((cohort / "raw").glob("*/PET-NAC"))
    assert folders
    for folder in folders:
        corrected, without = _headers(folder.parent / "PET"), _headers(folder)
        assert corrected[0].SeriesInstanceUID != without[0].SeriesInstanceUID
        assert "ATTN" in corrected[0].CorrectedImage
        assert "ATTN" not in without[0].CorrectedImage
        assert _largest(folder) < 0.7 * _largest(folder.parent / "PET")


def _largest(folder: Path) -> float:
    images = map(pydicom.dcmread, folder.glob("*.dcm"))
    return float(max(np.max(image.pixel_array) * float(image.RescaleSlope) for image in images))


def test_pet_is_made_in_several_bed_positions(cohort: Path) -> None:
    times = {str(header.AcquisitionTime) for header in _headers(cohort / "raw/PHANTOM-0001/PET")}
    assert len(times) >= 2


def test_a_second_study_is_of_the_same_patient_months_later(cohort: Path) -> None:
    studies: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for path in (cohort / "raw").glob("**/CT/CT.0001.dcm"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        studies[str(header.PatientID)].add((str(header.StudyInstanceUID), str(header.StudyDate)))
    assert len(studies) == PARAMS.patients
    twice = [found for found in studies.values() if len(found) == 2]
    assert twice
    for (one, day), (other, another_day) in map(sorted, twice):
        assert one != other
        assert day != another_day


@pytest.fixture(scope="module")
def ingested(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ingest")
    ingest_dataset(cohort / "raw", folder, load_params(ROOT / "params.yaml").ingest, workers=0)
    return folder


def test_ingest_takes_the_corrected_pet_and_says_why_not_the_other(ingested: Path) -> None:
    series = read_table(ingested / "series.csv", SeriesRow)
    without = [row for row in series if "NAC" in row.description]
    assert without
    assert {row.role for row in without} == {"unused"}
    assert all("attenuation correction" in row.reason for row in without)
    assert len([row for row in series if row.role == "pet"]) == PARAMS.patients + 1


def test_label_on_the_pet_moves_with_the_pet(ingested: Path, cohort: Path) -> None:
    on = {row.label_drawn_on for row in read_table(ingested / "studies.csv", StudyRow)}
    told = {t.whole_body.label_on for t in _truths(cohort).values() if t.whole_body and t.lesions}
    assert told <= on
    assert on <= {"ct", "pet", "none"}


def test_two_studies_of_a_patient_are_in_one_split(ingested: Path) -> None:
    studies = read_table(ingested / "studies.csv", StudyRow)
    assert len(studies) == PARAMS.patients + 1
    assert len({row.patient for row in studies}) == PARAMS.patients
    split = load_params(ROOT / "params.yaml").split
    assigned = assign_patients(studies, split.model_copy(update={"val_fraction": 0.25}))
    assert set(assigned) == {row.patient for row in studies}


def test_a_thorax_says_nothing_of_a_whole_body(cohort: Path, tmp_path: Path) -> None:
    for name, truth in _truths(cohort).items():
        path = tmp_path / f"{name}.json"
        write_truth(path, truth.model_copy(update={"whole_body": None}))
        assert b"whole_body" not in path.read_bytes()
        assert read_truth(path).whole_body is None
