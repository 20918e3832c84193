"""A dynamic or gated PET gives the image that a param names, from the same reference time, or none.

``Patient`` got 350 MBq at 09:00:00 and weighs 70 kg. The scan begins at 10:00:00; its series is
written at 15:00:00. Frame n (from 1) holds n times the activity of the first.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset

from tests.func.ingest.conftest import Edit, Patient, Run

SUV_PER_BQML = 70_000 / 350e6 * 2 ** (3600 / 6586.2)  # at 10:00:00
LASTS_S = (600, 600, 1200)
BEGINS_S = (0, 600, 1200)


def write_frames(
    case: Patient, times: Edit, name: str = "PET", count: int = 3, backward: bool = False
) -> None:
    """A PET of ``count`` images in one series, in folders that sort forward or backward."""
    for frame in range(count):

        def edit(dataset: Dataset, index: int, frame: int = frame) -> None:
            dataset.SeriesInstanceUID = case.uid(name)
            dataset.SOPInstanceUID = case.uid(f"{name}-{frame}-{index}")
            dataset.DecayCorrection = "START"
            dataset.SeriesTime = "150000"
            dataset.RescaleSlope = (10 + index) * (frame + 1)
            times(dataset, frame)

        case.pet(f"{name}-{count - frame if backward else frame}", edit)


def dynamic(dataset: Dataset, frame: int) -> None:
    dataset.SeriesType = ["DYNAMIC", "IMAGE"]
    dataset.NumberOfTimeSlices, dataset.NumberOfSlices = 3, 12
    dataset.AcquisitionTime = f"10{BEGINS_S[frame] // 60:02d}00"
    dataset.ActualFrameDuration = str(1000 * LASTS_S[frame])
    dataset.FrameReferenceTime = str(1000 * (BEGINS_S[frame] + LASTS_S[frame] / 2))


def gated(dataset: Dataset, gate: int) -> None:
    dataset.SeriesType = ["GATED", "IMAGE"]
    dataset.NumberOfTimeSlots, dataset.NumberOfSlices = 4, 12
    dataset.TriggerTime = str(250 * gate)
    dataset.ActualFrameDuration, dataset.FrameReferenceTime = "180000", "90000"


def then(*edits: Edit) -> Edit:
    def edit(dataset: Dataset, frame: int) -> None:
        for one in edits:
            one(dataset, frame)

    return edit


def sets(**values: object) -> Edit:
    def edit(dataset: Dataset, _frame: int) -> None:
        for name, value in values.items():
            setattr(dataset, name, value)

    return edit


def pet(done: Run) -> np.ndarray:
    """SUV of the only study."""
    (path,) = done.out.rglob("pet.nii.gz")
    voxels: np.ndarray = sitk.GetArrayFromImage(sitk.ReadImage(path))
    return voxels


def suv(case: Patient, frame: float, name: str = "PET") -> np.ndarray:
    """The true SUV where the activity is ``frame`` times that of the first image."""
    stored = [np.frombuffer(d.PixelData, np.int16) for d in case.datasets[f"{name}-1"]]
    slopes = 10 + np.arange(case.slices)
    volume = np.stack(stored).reshape(-1, 12, 12) * slopes[:, None, None]
    return np.asarray(volume * frame * SUV_PER_BQML)


def frames_refusal(done: Run) -> str:
    (row,) = [row for row in done.tables.rejected if row.code == "frames"]
    return f"{row.found}; {row.expected}; {row.advice}"


def pet_roles(done: Run) -> list[str]:
    return [row.role for row in done.tables.series if row.modality == "PT"]


@pytest.fixture
def with_frames(patient: Callable[..., Patient]) -> Callable[..., Patient]:
    """A CT and a PET of several images, beside a whole study, so that something can be used."""

    def make(times: Edit, **values: Any) -> Patient:
        patient("good").both()
        case = patient("P1")
        case.ct()
        write_frames(case, times, **values)
        return case

    return make


@pytest.fixture
def alone(patient: Callable[..., Patient]) -> Callable[..., Patient]:
    def make(times: Edit, **values: Any) -> Patient:
        case = patient("P1")
        case.ct()
        write_frames(case, times, **values)
        return case

    return make


@pytest.mark.parametrize("backward", [False, True])
def test_a_dynamic_pet_is_refused_as_one_and_says_how_many_frames(
    with_frames: Callable[..., Patient], run: Callable[..., Run], backward: bool
) -> None:
    with_frames(dynamic, backward=backward)
    done = run()
    told = frames_refusal(done)
    assert "a dynamic PET of 3 frames" in told
    assert "(0054,0101) 3" in told
    assert "ingest.dynamic: last" in told
    assert [row.patient for row in done.tables.studies] == ["good"]
    assert done.codes() == ["frames", "pairing"]


@pytest.mark.parametrize("backward", [False, True])
def test_last_is_the_last_in_time_and_its_decay_is_that_of_the_series(
    alone: Callable[..., Patient], run: Callable[..., Run], backward: bool
) -> None:
    case = alone(dynamic, backward=backward)
    done = run(dynamic="last")
    np.testing.assert_allclose(pet(done), suv(case, 3), rtol=1e-3)
    assert "the PET is the last of 3 frames of a dynamic PET" in done.tables.studies[0].notes
    assert pet_roles(done) == ["unused", "unused", "pet"]
    assert not done.tables.rejected


def test_the_order_of_the_files_changes_no_voxel(
    patient: Callable[..., Patient], run: Callable[..., Run], raw: Path
) -> None:
    found = []
    for backward in (False, True):
        case = patient("P1")
        case.ct()
        write_frames(case, dynamic, backward=backward)
        found.append(run(dynamic="sum"))
        for path in sorted(raw.rglob("*.dcm")):
            path.unlink()
    assert np.array_equal(pet(found[0]), pet(found[1]))
    assert found[0].tables.series == found[1].tables.series


def test_a_static_pet_beside_a_dynamic_one_is_taken(
    alone: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = alone(dynamic)
    case.pet("static")
    done = run()
    assert sorted(pet_roles(done)) == ["pet", "unused", "unused", "unused"]
    assert done.codes() == ["frames"]


def test_sum_is_the_mean_of_its_window_weighted_by_duration(
    alone: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = alone(dynamic)
    done = run(dynamic="sum", dynamic_window_s=(600.0, 2400.0))
    expected = (2 * 600 + 3 * 1200) / 1800
    np.testing.assert_allclose(pet(done), suv(case, expected), rtol=1e-3)
    assert "of 2 of 3 frames of a dynamic PET, 600 to 2400 s" in done.tables.studies[0].notes
    assert pet_roles(done) == ["unused", "pet", "pet"]
    used = [row for row in done.tables.instances if row.role == "pet"]
    assert sorted(row.slice_index for row in used if row.slice_index is not None) == sorted(
        2 * [*range(12)]
    )


def test_frames_that_the_window_cuts_are_left_out_and_no_frame_is_a_refusal(
    with_frames: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = with_frames(dynamic)
    cut = run(dynamic="sum", dynamic_window_s=(0.0, 1800.0))
    assert "of 2 of 3 frames" in next(s.notes for s in cut.tables.studies if s.patient == "P1")
    told = frames_refusal(run(dynamic="sum", dynamic_window_s=(700.0, 1100.0)))
    assert "0 to 600, 600 to 1200, 1200 to 2400" in told
    assert "ingest.dynamic_window_s" in told
    assert case.slices == 12


def test_frames_that_differ_in_their_reference_time_alone_are_put_in_its_order(
    alone: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = alone(then(dynamic, sets(AcquisitionTime="100000")), backward=True)
    shown = run(dynamic="sum", dynamic_window_s=(0.0, 1200.0)).tables.studies[0].notes
    assert "of 2 of 3 frames of a dynamic PET, 0 to 1200 s" in shown
    assert pet_roles(run(dynamic="last")) == ["unused", "unused", "pet"]
    assert case.slices == 12


def test_frames_of_two_beds_stay_whole(
    alone: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    """Three passes over two beds: each bed has its own clock."""

    def passes(dataset: Dataset, frame: int) -> None:
        dynamic(dataset, frame)
        second = dataset.ImagePositionPatient[2] >= 24
        dataset.AcquisitionTime = f"10{20 * frame + 10 * second:02d}00"
        dataset.FrameReferenceTime = str(1000 * (1200 * frame + 600 * second + 300))
        dataset.ActualFrameDuration = "600000"

    case = alone(passes)
    done = run(dynamic="last")
    np.testing.assert_allclose(pet(done), suv(case, 3), rtol=1e-3)
    assert not done.tables.rejected


def test_a_frame_with_a_missing_slice_is_never_made_good(
    with_frames: Callable[..., Patient], run: Callable[..., Run], raw: Path
) -> None:
    with_frames(dynamic)
    (raw / "P1" / "PET-0" / "95.dcm").unlink()
    assert frames_refusal(run()).startswith("a dynamic PET of 3 frames")
    whole = run(dynamic="last")
    assert [row.patient for row in whole.tables.studies if "last of 3" in row.notes] == ["P1"]
    broken = run(dynamic="sum")
    assert any("a gap of 8.000 mm" in row.found for row in broken.tables.rejected)
    assert [row.patient for row in broken.tables.studies] == ["good"]


def test_sum_refuses_frames_without_their_duration(
    with_frames: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    with_frames(then(dynamic, sets(ActualFrameDuration="")))
    done = run(dynamic="sum")
    assert any("(0018,1242) missing" in row.found for row in done.tables.rejected)


def test_frames_that_are_a_series_each_are_one_scan(
    with_frames: Callable[..., Patient], run: Callable[..., Run], patient: Callable[..., Patient]
) -> None:
    def own_series(dataset: Dataset, frame: int) -> None:
        dynamic(dataset, frame)
        dataset.SeriesInstanceUID = patient("P1").uid(f"series-{frame}")
        dataset.SeriesTime = "100000"

    with_frames(own_series, backward=True)
    assert "a dynamic PET of 3 frames" in frames_refusal(run())
    done = run(dynamic="last")
    (study,) = [row for row in done.tables.studies if row.patient == "P1"]
    assert study.pet_series_instance_uid == patient("P1").uid("series-2")


def test_a_lone_frame_of_several_is_not_taken_for_the_whole(
    with_frames: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    with_frames(dynamic, count=1)
    assert "1 of them there" in frames_refusal(run())
    noted = [row.notes for row in run(dynamic="last").tables.studies if row.patient == "P1"]
    assert "Number of Time Slices (0054,0101) says 3" in noted[0]


def test_a_series_that_calls_itself_dynamic_but_is_one_image_is_plain(
    alone: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    alone(then(dynamic, sets(NumberOfTimeSlices=1)), count=1)
    done = run()
    assert pet_roles(done) == ["pet"]
    assert not done.tables.rejected


@pytest.mark.parametrize("kind", ["STATIC", "WHOLE BODY"])
def test_time_slices_of_a_whole_body_pet_are_its_beds(
    alone: Callable[..., Patient], run: Callable[..., Run], kind: str
) -> None:
    """GE writes so: one image of six beds."""
    alone(then(dynamic, sets(SeriesType=[kind, "IMAGE"], NumberOfTimeSlices=6)), count=1)
    done = run()
    assert pet_roles(done) == ["pet"]
    assert not done.tables.rejected


@pytest.mark.parametrize("backward", [False, True])
def test_frames_that_the_series_does_not_call_dynamic_are_found(
    with_frames: Callable[..., Patient], run: Callable[..., Run], backward: bool
) -> None:
    with_frames(then(dynamic, sets(SeriesType=["STATIC", "IMAGE"])), backward=backward)
    assert "a dynamic PET of 3 frames" in frames_refusal(run())


@pytest.mark.parametrize("backward", [False, True])
def test_a_gated_pet_is_refused_as_one_and_says_how_many_gates(
    with_frames: Callable[..., Patient], run: Callable[..., Run], backward: bool
) -> None:
    with_frames(gated, count=4, backward=backward)
    told = frames_refusal(run())
    assert "a gated PET of 4 gates" in told
    assert "(0054,0071) 4" in told
    assert "twice" not in told


@pytest.mark.parametrize(("wanted", "factor"), [("last", 4.0), ("sum", 2.5)])
def test_gates_are_ordered_by_their_trigger(
    alone: Callable[..., Patient], run: Callable[..., Run], wanted: str, factor: float
) -> None:
    case = alone(gated, count=4, backward=True)
    done = run(dynamic=wanted, dynamic_window_s=(0.0, 1.0))  # gates have no start in the scan
    np.testing.assert_allclose(pet(done), suv(case, factor), rtol=1e-3)


def test_gates_that_only_their_image_index_tells_apart(
    alone: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    def numbered(dataset: Dataset, gate: int) -> None:
        gated(dataset, gate)
        del dataset.TriggerTime
        place = round(dataset.ImagePositionPatient[2] / 4)
        dataset.ImageIndex = 12 * gate + place + 1

    case = alone(numbered, count=4, backward=True)
    np.testing.assert_allclose(pet(run(dynamic="last")), suv(case, 4), rtol=1e-3)


def test_gates_that_nothing_tells_apart_are_still_called_gated(
    with_frames: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    with_frames(then(gated, sets(TriggerTime="0")), count=4)
    assert "a gated PET of 4 gates" in frames_refusal(run())


def test_beds_of_a_whole_body_pet_are_no_frames(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    def bed(dataset: Dataset, index: int) -> None:
        dataset.SeriesType = ["WHOLE BODY", "IMAGE"]
        dataset.AcquisitionTime = "100000" if index < 6 else "100300"
        dataset.FrameReferenceTime = "90000" if index < 6 else "270000"

    case = patient()
    case.ct()
    case.pet(edit=bed)
    assert pet_roles(run()) == ["pet"]


def decay_factor(to_scan_start: bool) -> Edit:
    """Decay Factor as DICOM has it, for one reference time or for each frame's own start."""

    def edit(dataset: Dataset, frame: int) -> None:
        decay = np.log(2) / 6586.2
        over = decay * LASTS_S[frame]
        start = decay * BEGINS_S[frame] if to_scan_start else 0.0
        dataset.DecayFactor = f"{np.exp(start) * over / -np.expm1(-over):.6f}"

    return edit


def test_frames_that_are_corrected_to_their_own_start_are_refused(
    with_frames: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    with_frames(then(dynamic, decay_factor(to_scan_start=False)))
    for wanted in ("last", "sum"):
        refused = [row for row in run(dynamic=wanted).tables.rejected if row.code == "units"]
        assert "Decay Factor (0054,1321)" in refused[0].found


def test_decay_factors_of_one_reference_time_are_accepted(
    with_frames: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    with_frames(then(dynamic, decay_factor(to_scan_start=True)))
    assert not run(dynamic="sum").tables.rejected
