"""Our volumes against dcm2niix, which the field trusts: every voxel and the affine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import Dataset

from tests.func.ingest.conftest import Patient, Run

dcm2niix = pytest.importorskip("dcm2niix", reason="dcm2niix is not installed (dev extra)")

_AFFINE_MM = 2e-3  # NIfTI keeps its affine in single precision, DICOM in decimal strings


def converted(folder: Path, out: Path) -> dict[str, sitk.Image]:
    """What dcm2niix makes of every series below a folder, by SeriesInstanceUID."""
    out.mkdir()
    command = [dcm2niix.bin, "-z", "n", "-b", "n", "-f", "%j", "-o", out, folder]
    subprocess.run(command, check=True, capture_output=True)
    return {file.stem: sitk.ReadImage(file) for file in sorted(out.glob("*.nii"))}


def assert_same_place(ours: sitk.Image, theirs: sitk.Image) -> None:
    """Both ends of the diagonal: origin, spacing, direction and size at once."""
    assert ours.GetSize() == theirs.GetSize()
    corner = [count - 1 for count in ours.GetSize()]
    for index in ([0, 0, 0], corner, [corner[0], 0, 0], [0, corner[1], 0]):
        here, there = (image.TransformIndexToPhysicalPoint(index) for image in (ours, theirs))
        assert np.allclose(here, there, atol=_AFFINE_MM)


def assert_agree(done: Run, folder: Path, out: Path) -> list[float]:
    """Compare every study of a run; answers the factor from stored values to SUVbw of each."""
    theirs = converted(folder, out)
    factors = []
    for study in done.tables.studies:
        volumes = done.out / "volumes" / study.study_id
        ours = {name: sitk.ReadImage(volumes / f"{name}.nii.gz") for name in ("ct", "pet")}
        # dcm2niix flips the rows; both are brought to one order of axes.
        pairs = {
            name: [sitk.DICOMOrient(image, "LPS") for image in (ours[name], theirs[uid])]
            for name, uid in (
                ("ct", study.ct_series_instance_uid),
                ("pet", study.pet_series_instance_uid),
            )
        }
        for pair in pairs.values():
            assert_same_place(*pair)
        ct, pet = ([sitk.GetArrayFromImage(image) for image in pairs[n]] for n in ("ct", "pet"))
        assert np.array_equal(*ct)
        # dcm2niix leaves Bq/ml or g/ml: one factor takes the whole series to SUVbw.
        suv, activity = (image.astype(np.float64) for image in pet)
        factor = suv.sum() / activity.sum()
        assert np.allclose(suv, activity * factor, rtol=1e-5, atol=1e-5)
        factors.append(float(factor))
    return factors


def test_every_phantom_series_agrees(
    phantom_raw: Path, run: Callable[..., Run], tmp_path: Path
) -> None:
    assert len(assert_agree(run(phantom_raw), phantom_raw, tmp_path / "theirs")) == 4


@pytest.mark.parametrize(
    "cosines",
    [
        [-1, 0, 0, 0, -1, 0],  # prone
        [-1, 0, 0, 0, 1, 0],  # feet first
        [0.9998477, 0.0174524, 0, -0.0174524, 0.9998477, 0],  # rolled by a degree
        [1, 0, 0, 0, 0.9961947, 0.0871557],  # oblique: pitched by five degrees
    ],
)
def test_every_patient_position_agrees(
    cosines: Any,
    patient: Callable[..., Patient],
    run: Callable[..., Run],
    raw: Path,
    tmp_path: Path,
) -> None:
    normal = np.cross(cosines[:3], cosines[3:])

    def turn(dataset: Dataset, index: int) -> None:
        dataset.ImageOrientationPatient = cosines
        corner = np.array(dataset.ImagePositionPatient[:2])
        place = corner[0] * np.array(cosines[:3]) + corner[1] * np.array(cosines[3:])
        dataset.ImagePositionPatient = [f"{v:.7f}" for v in place + 4.0 * index * normal]
        dataset.InstanceNumber = index + 1

    case = patient()
    case.ct(edit=turn)
    case.pet(edit=turn)
    assert len(assert_agree(run(), raw, tmp_path / "theirs")) == 1


def test_every_real_series_agrees(
    shared_data: Path, run: Callable[..., Run], raw: Path, tmp_path: Path
) -> None:
    for study in sorted((shared_data / "sts" / "dicom").iterdir()):
        for series in ("CT", "PET"):
            shutil.copytree(study / series / "image", raw / study.name / series)
    factors = assert_agree(run(), raw, tmp_path / "theirs")
    assert len(factors) == 25
    assert factors == pytest.approx([1.0] * 25, rel=1e-6)  # published as SUVbw


def test_whole_body_pet_in_becquerel_agrees(
    shared_data: Path, run: Callable[..., Run], raw: Path, tmp_path: Path
) -> None:
    """267 slices of five bed positions, whose rescale slopes differ, with one factor to SUVbw."""
    shutil.copytree(shared_data / "sts" / "dicom" / "STS_001" / "CT" / "image", raw / "STS" / "CT")
    shutil.copytree(shared_data / "sts_raw" / "STS_001_PET_bqml" / "image", raw / "STS" / "PET")
    (factor,) = assert_agree(run(), raw, tmp_path / "theirs")
    waited_s = (11 * 3600 + 20 * 60 + 11) - (10 * 3600 + 35 * 60)  # 10:35:00 to 11:20:11
    left_bq = 3.88777472e8 * 0.5 ** (waited_s / 6588.0)
    assert factor == pytest.approx(71_000 / left_bq, rel=1e-6)
