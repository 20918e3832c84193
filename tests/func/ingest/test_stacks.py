"""Series that are more than one stack: separated, ranked by stated rules, and accounted for."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset

from tests.func.ingest.conftest import Patient, Run

Change = Callable[[Dataset, int], None]
CORNER_MM = -46.0  # of the CT that conftest makes


def add(
    case: Patient, folder: str, name: str, change: Change, keep: Iterable[int] = range(12)
) -> None:
    """More slices under the SeriesInstanceUID of ``folder``."""
    for index in keep:
        dataset = copy.deepcopy(case.datasets[folder][index])
        uid = case.uid(f"{folder}-{name}-{index}")
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        change(dataset, index)
        file = case.root / case.patient / folder / f"{name}-{index}.dcm"
        dataset.save_as(file, enforce_file_format=True)


def darker(dataset: Dataset, by: int) -> None:
    pixels = np.frombuffer(dataset.PixelData, np.int16) - np.int16(by)
    dataset.PixelData = pixels.tobytes()


def of(run: Run, name: str) -> np.ndarray:
    image = sitk.ReadImage(next(run.out.rglob(f"{name}.nii.gz")))
    voxels: np.ndarray = sitk.GetArrayFromImage(image)
    return voxels


def told(run: Run, modality: str) -> list[tuple[int, int, str]]:
    """Stack, instances and role of every stack of one modality."""
    rows = (row for row in run.tables.series if row.modality == modality)
    return [(row.stack, row.instances, row.role) for row in rows]


def of_kind(image_type: list[str], dataset: Dataset, _index: int) -> None:
    dataset.ImageType = image_type


def reasons(run: Run) -> str:
    return "; ".join(row.reason for row in run.tables.series if row.role == "unused")


def test_a_localiser_inside_the_series_is_passed_over(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient().both()
    alone = of(run(), "ct")

    def localiser(dataset: Dataset, _index: int) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    add(case, "CT", "scout", localiser, keep=[3, 4])
    done = run()
    assert np.array_equal(of(done, "ct"), alone)
    assert told(done, "CT") == [(1, 12, "ct"), (2, 2, "unused")]
    assert "LOCALIZER" in reasons(done)
    assert not done.tables.rejected


def test_other_matrices_spacings_and_orientations_are_other_stacks(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient().both()
    alone = of(run(), "ct")

    def coronal(dataset: Dataset, index: int) -> None:
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        dataset.ImagePositionPatient = [CORNER_MM, 4.0 * index, 0]

    def small(dataset: Dataset, _index: int) -> None:
        dataset.Rows = dataset.Columns = 12
        dataset.PixelData = dataset.PixelData[: 12 * 12 * 2]

    def zoomed(dataset: Dataset, _index: int) -> None:
        dataset.PixelSpacing = [2.0, 2.0]

    add(case, "CT", "coronal", coronal)
    add(case, "CT", "small", small, keep=range(4))
    add(case, "CT", "zoomed", zoomed, keep=range(6))
    done = run()
    assert np.array_equal(of(done, "ct"), alone)
    assert sorted(count for _, count, _ in told(done, "CT")) == [4, 6, 12, 12]
    assert "not axial" in reasons(done)
    assert "fewer mm over the PET: 20 against 44" in reasons(done)
    assert not done.tables.rejected


def test_thin_and_thick_slices_in_one_series_are_two_stacks(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient().both()

    def thick(dataset: Dataset, index: int) -> None:
        dataset.SliceThickness = 8.0
        dataset.ImagePositionPatient = [CORNER_MM, CORNER_MM, 8.0 * index]
        darker(dataset, 7)

    add(case, "CT", "thick", thick, keep=range(6))
    done = run()
    assert sorted(told(done, "CT")) == [(1, 12, "ct"), (2, 6, "unused")]
    assert of(done, "ct")[3, 0, 5] == 3 + 5 - 1024


def test_two_acquisitions_of_the_same_places_are_two_stacks(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient()
    case.ct(edit=lambda dataset, _: setattr(dataset, "AcquisitionNumber", 1))
    case.pet()

    def second(dataset: Dataset, _index: int) -> None:
        dataset.AcquisitionNumber = 2
        darker(dataset, 7)

    add(case, "CT", "second", second)
    done = run()
    assert [count for _, count, _ in told(done, "CT")] == [12, 12]
    assert "the first UID is taken" in reasons(done)
    assert not done.tables.rejected


def test_frames_of_a_dynamic_pet_differ_by_their_time(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient().both()
    add(case, "PET", "later", lambda dataset, _: setattr(dataset, "AcquisitionTime", "103000"))
    patient("good").both()
    assert "frames" in run().codes()
    done = run(dynamic="last")
    mine = [row for row in done.tables.series if (row.modality, row.patient) == ("PT", "P1")]
    assert [(row.stack, row.role) for row in mine] == [(1, "unused"), (2, "pet")]


def test_beds_are_no_stacks_of_their_own(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    """A slice at one place twice stays a refusal where only the bed's time could tell."""
    case = patient()
    case.ct()

    def bed(dataset: Dataset, index: int) -> None:
        dataset.AcquisitionTime = "100000" if index < 6 else "100300"

    case.pet(edit=bed)
    whole = run()
    assert told(whole, "PT") == [(1, 12, "pet")]
    add(case, "PET", "again", lambda dataset, _: setattr(dataset, "AcquisitionTime", "100300"), [5])
    patient("good").both()
    done = run()
    assert [row.role for row in done.tables.series if row.patient == "P1"] == ["unused"] * 2
    assert any("twice" in row.found for row in done.tables.rejected)


def test_a_missing_slice_is_never_made_good_by_splitting(
    patient: Callable[..., Patient], run: Callable[..., Run], raw: Path
) -> None:
    """Step-and-shoot numbers and times differ from slice to slice: a gap stays a gap."""
    patient("good").both()
    case = patient("bad")

    def step(dataset: Dataset, index: int) -> None:
        dataset.AcquisitionNumber = 1 + index // 4
        dataset.AcquisitionTime = f"1000{index:02d}"

    case.ct(edit=step)
    case.pet()
    (raw / "bad" / "CT" / "95.dcm").unlink()
    done = run()
    assert done.codes() == ["geometry", "pairing"]
    assert any("a gap of 8.000 mm" in row.found for row in done.tables.rejected)


def test_uncorrected_pet_says_why_it_lost(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient().both()
    case.pet("A-uncorrected", lambda dataset, _: setattr(dataset, "CorrectedImage", ["DECY"]))
    done = run()
    assert sorted(told(done, "PT")) == [(1, 12, "pet"), (1, 12, "unused")]
    assert "lacks attenuation correction (0028,0051)" in reasons(done)


def test_a_ct_in_another_frame_says_why_it_lost(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient().both()
    case.ct("A", lambda dataset, _: setattr(dataset, "FrameOfReferenceUID", "1.2.3"))
    done = run()
    assert "Frame of Reference UID (0020,0052)" in reasons(done)
    assert done.tables.studies[0].same_frame_of_reference


@pytest.mark.parametrize("by_mm", [-12.0, 12.0])
def test_ct_slices_beyond_the_pet_do_not_count_for_a_ct(
    patient: Callable[..., Patient], run: Callable[..., Run], by_mm: float
) -> None:
    case = patient().both()

    def beyond(dataset: Dataset, _index: int) -> None:
        dataset.ImagePositionPatient[2] += by_mm

    case.ct("beyond", beyond)
    assert "fewer mm over the PET: 32 against 44" in reasons(run())


def test_mip_and_dose_screens_are_passed_over_by_their_image_type(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient().both()
    kinds = {"mip": ["DERIVED", "SECONDARY", "MIP"], "dose": ["DERIVED", "SECONDARY", "DOSE_INFO"]}
    for name, kind in kinds.items():
        case.ct(name, partial(of_kind, kind))
    done = run()
    assert done.tables.studies[0].ct_slices == 12
    assert "says MIP" in reasons(done)
    assert "says DOSE" in reasons(done)
    assert not done.tables.rejected


def test_secondary_capture_and_dose_report_are_listed_and_lose_nothing(
    patient: Callable[..., Patient], run: Callable[..., Run], raw: Path
) -> None:
    patient().both()
    kinds = {
        "capture": (pydicom.uid.SecondaryCaptureImageStorage, "OT"),
        "report": (pydicom.uid.XRayRadiationDoseSRStorage, "SR"),
    }
    for name, (sop_class, modality) in kinds.items():
        dataset = pydicom.dcmread(raw / "P1" / "CT" / "99.dcm")
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class
        dataset.Modality, dataset.SOPInstanceUID = modality, pydicom.uid.generate_uid()
        dataset.save_as(raw / f"{name}.dcm")
    done = run()
    assert [row.subject for row in done.tables.rejected] == ["capture.dcm", "report.dcm"]
    assert done.codes() == ["unsupported", "unsupported"]
    assert len(done.tables.studies) == 1
