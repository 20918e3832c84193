"""The digital cohort, read back from its DICOM files."""

import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from petct_uad.core.livers import read_livers
from petct_uad.phantom.cohort import make_cohort
from petct_uad.phantom.params import PhantomParams
from petct_uad.phantom.physics import to_sitk
from petct_uad.phantom.truth import PhantomTruth, read_truth

PARAMS = PhantomParams(
    patients=16, seed=7, extent_mm=140.0, ct_matrix=64, max_shift_mm=8.0, max_rotation_deg=2.0
)
SMALL = PARAMS.model_copy(update={"patients": 4, "extent_mm": 80.0})


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    make_cohort(PARAMS, folder / "raw", folder / "truth", workers=1)
    return folder


def _truths(cohort: Path) -> Iterator[tuple[PhantomTruth, Path]]:
    for path in sorted((cohort / "truth").glob("*.json")):
        yield read_truth(path), cohort / "raw" / path.stem


def _series(folder: Path) -> list[pydicom.Dataset]:
    files = [pydicom.dcmread(path) for path in folder.glob("*.dcm")]
    return sorted(files, key=lambda dataset: float(dataset.ImagePositionPatient[2]))


def _suv(series: list[pydicom.Dataset]) -> np.ndarray:
    """SUVbw (z, y, x) from nothing but the header, as a reader would compute it."""
    first = series[0]
    item = first.RadiopharmaceuticalInformationSequence[0]
    dose = float(item.RadionuclideTotalDose)
    if first.DecayCorrection == "START":
        start = datetime.fromisoformat(f"{first.SeriesDate}T{str(first.SeriesTime)[:6]}")
        injected = datetime.fromisoformat(
            f"{first.SeriesDate}T{str(item.RadiopharmaceuticalStartTime)[:6]}"
        )
        waited = (start - injected).total_seconds()
        dose *= 0.5 ** (waited / float(item.RadionuclideHalfLife))
    factor = float(first.PatientWeight) * 1000 / dose
    return np.stack([d.pixel_array * float(d.RescaleSlope) * factor for d in series])


def _sample(volume: np.ndarray, series: list[pydicom.Dataset], point: tuple[float, ...]) -> float:
    """Mean of the 3 x 3 x 3 voxels around a point of the PET frame."""
    first, second = series[0], series[1]
    origin = np.array(first.ImagePositionPatient, dtype=float)
    dz = float(second.ImagePositionPatient[2]) - origin[2]
    step = np.array([*map(float, first.PixelSpacing), dz])
    index = ((np.array(point) - origin) / step)[::-1]
    smooth = ndimage.uniform_filter(volume, 3)
    return float(ndimage.map_coordinates(smooth, index[:, None], order=1, mode="nearest")[0])


def _slice_table(cohort: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label, SUVmax and closeness to the middle for each CT slice of the cohort."""
    labels, suv_max, closeness = [], [], []
    for _, folder in _truths(cohort):
        ct, pet = _series(folder / "CT"), _series(folder / "PET")
        lesion = _lesion_heights(folder / "SEG")
        heights = np.array([float(d.ImagePositionPatient[2]) for d in ct])
        pet_heights = np.array([float(d.ImagePositionPatient[2]) for d in pet])
        nearest = np.abs(pet_heights[None] - heights[:, None]).argmin(axis=1)
        labels.append([any(abs(z - h) < 0.1 for h in lesion) for z in heights])
        suv_max.append(_suv(pet).max(axis=(1, 2))[nearest])
        closeness.append(1 - np.abs(np.linspace(-1, 1, len(ct))))
    return np.concatenate(labels), np.concatenate(suv_max), np.concatenate(closeness)


def _lesion_heights(folder: Path) -> set[float]:
    heights: set[float] = set()
    for path in folder.glob("*.dcm"):
        for frame in pydicom.dcmread(path).PerFrameFunctionalGroupsSequence:
            heights.add(float(frame.PlanePositionSequence[0].ImagePositionPatient[2]))
    return heights


def test_suv_from_the_tags_is_the_true_suv_of_the_liver(cohort: Path) -> None:
    checked = 0
    for truth, folder in _truths(cohort):
        if truth.liver_mm is None:
            continue
        series = _series(folder / "PET")
        point = to_sitk(truth.displacement).TransformPoint(truth.liver_mm)
        assert _sample(_suv(series), series, point) == pytest.approx(truth.liver_suv, rel=0.15)
        checked += 1
    assert checked >= PARAMS.patients // 2


def test_lesion_uptake_lies_where_the_displacement_puts_it(cohort: Path) -> None:
    ratios = []
    for truth, folder in _truths(cohort):
        series = _series(folder / "PET")
        low, high = (float(series[i].ImagePositionPatient[2]) for i in (1, -2))
        suv = _suv(series)
        for lesion in truth.lesions:
            point = to_sitk(truth.displacement).TransformPoint(lesion.centre_mm)
            if low <= point[2] <= high and lesion.visibility != "ct":
                ratios.append(_sample(suv, series, point) / lesion.suv_recovered)
    assert len(ratios) >= 10
    assert 0.75 < float(np.median(ratios)) < 1.1


def test_slice_suv_max_alone_is_a_weak_detector(cohort: Path) -> None:
    labels, suv_max, _ = _slice_table(cohort)
    assert 0.6 <= roc_auc_score(labels, suv_max) <= 0.8


def test_slice_position_alone_detects_nothing(cohort: Path) -> None:
    labels, _, closeness = _slice_table(cohort)
    assert 0.45 <= roc_auc_score(labels, closeness) <= 0.55


def test_segments_are_labelled_by_kind_on_the_ct_frame(cohort: Path) -> None:
    for truth, folder in _truths(cohort):
        files = list((folder / "SEG").glob("*.dcm"))
        assert len(files) == bool(truth.lesions)
        if not files:
            continue
        ct, seg = _series(folder / "CT")[0], pydicom.dcmread(files[0])
        assert seg.FrameOfReferenceUID == ct.FrameOfReferenceUID
        assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == ct.SeriesInstanceUID
        labels = {segment.SegmentLabel for segment in seg.SegmentSequence}
        assert labels == {lesion.kind for lesion in truth.lesions}


def test_ct_and_pet_share_study_and_frame_but_not_grid(cohort: Path) -> None:
    for _, folder in _truths(cohort):
        ct, pet = _series(folder / "CT")[0], _series(folder / "PET")[0]
        assert ct.StudyInstanceUID == pet.StudyInstanceUID
        assert ct.FrameOfReferenceUID == pet.FrameOfReferenceUID
        assert list(ct.ImagePositionPatient) != list(pet.ImagePositionPatient)


def test_pet_reaches_beyond_both_ends_of_the_ct(cohort: Path) -> None:
    for _, folder in _truths(cohort):
        ct, pet = (
            [float(dataset.ImagePositionPatient[2]) for dataset in _series(folder / name)]
            for name in ("CT", "PET")
        )
        half = (ct[1] - ct[0]) / 2
        assert pet[0] < ct[0] - half
        assert pet[-1] > ct[-1] + half


def test_pet_slices_carry_their_own_slope(cohort: Path) -> None:
    series = _series(next(_truths(cohort))[1] / "PET")
    assert len({float(dataset.RescaleSlope) for dataset in series}) > len(series) // 2


def test_both_scanners_decay_conventions_occur(cohort: Path) -> None:
    found = {_series(folder / "PET")[0].DecayCorrection for _, folder in _truths(cohort)}
    assert found == {"START", "ADMIN"}


def test_same_seed_gives_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    runs = []
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        params = SMALL.model_copy(update={"seed": seed})
        folder = tmp_path / name
        files = make_cohort(params, folder / "raw", folder / "truth", workers=1)
        runs.append({path.relative_to(folder): path.read_bytes() for path in files})
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_cohort_says_where_its_livers_are_as_any_data_set_may(cohort: Path) -> None:
    told = {place.patient: place.point_mm for place in read_livers(cohort / "raw")}
    known = {truth.patient: truth.liver_mm for truth, _ in _truths(cohort) if truth.liver_mm}
    assert told == known
    assert known


@pytest.mark.parametrize("series", ["CT", "PET"])
def test_dcm2niix_makes_one_volume_of_each_series(
    cohort: Path, tmp_path: Path, series: str
) -> None:
    if shutil.which("dcm2niix") is None:
        pytest.skip("dcm2niix is not installed")
    folder = next(_truths(cohort))[1] / series
    command = ["dcm2niix", "-f", "%j", "-o", str(tmp_path), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    assert len(list(tmp_path.glob("*.nii"))) == 1


def _some_files(cohort: Path, series: str) -> list[Path]:
    """Every fortieth file of a kind: one at least, or a check of them all would check nothing."""
    files = sorted(cohort.glob(f"raw/*/{series}/*.dcm"))[::40]
    assert files
    return files


@pytest.mark.parametrize("series", ["CT", "PET", "SEG"])
def test_dcmdump_reads_every_object(cohort: Path, series: str) -> None:
    files = _some_files(cohort, series)
    if shutil.which("dcmdump") is None:
        pytest.skip("dcmtk's dcmdump is not installed")
    done = subprocess.run(["dcmdump", "-q", *map(str, files)], check=True, capture_output=True)
    assert done.stderr == b""


@pytest.mark.parametrize("series", ["CT", "PET", "SEG"])
def test_dciodvfy_finds_no_error(cohort: Path, series: str) -> None:
    files = _some_files(cohort, series)
    if shutil.which("dciodvfy") is None:
        pytest.skip("dicom3tools' dciodvfy is not installed")
    for path in files:
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in done.stderr, path
