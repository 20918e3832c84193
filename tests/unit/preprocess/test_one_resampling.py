"""Every pixel that a model sees is the native image at that point, through one interpolation."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from petct_uad.preprocess.measures import suv_total_ratio
from petct_uad.preprocess.params import PreprocessParams
from petct_uad.preprocess.shards import Planes, resample_study
from petct_uad.registration.grid import target_grid
from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.motion.transforms import write_transform
from petct_uad.volumes.resample import resample_ct, resample_pet
from petct_uad.volumes.study import StudyFolder, StudyVolumes, read_study

Points = NDArray[np.float64]  # (..., 3) in mm, CT frame

PARAMS = PreprocessParams(
    image_size_px=96,
    roi_margin_mm=4.0,
    neighbours_mm=0.0,
    ct_low_hu=-1000.0,
    ct_high_hu=1000.0,
    suv_high=10.0,
    bilateral_ct=False,
    bilateral_pet=False,
    bilateral_sigma_mm=2.0,
    bilateral_range_fraction=0.1,
    pictures="stretch",
)
MOTION = RigidTransform((2.0, -3.0, 4.0), (9.0, -6.0, 5.0), (10.0, 0.0, -20.0))
WAVELENGTH_MM = 50.0
K2_PER_MM2 = (2 * np.pi / WAVELENGTH_MM) ** 2
CT_SPACING_MM, PET_SPACING_MM = (0.98, 0.98, 5.0), (4.07, 4.07, 3.0)
HU, SUV = (100.0, 200.0), (4.0, 1.0)  # mean and amplitude


def waves(points: Points, mean: float, amplitude: float) -> Points:
    """A smooth function whose second derivative along each axis is at most amplitude x k^2."""
    waved = np.cos(2 * np.pi / WAVELENGTH_MM * points).sum(axis=-1)
    return np.asarray(mean + amplitude * waved)


def empty(
    size: tuple[int, int, int],
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
) -> sitk.Image:
    image = sitk.Image(size, sitk.sitkFloat32)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    return image


def centres(image: sitk.Image) -> Points:
    k, j, i = np.indices(image.GetSize()[::-1])
    spacing, origin = np.array(image.GetSpacing()), np.array(image.GetOrigin())
    return np.asarray(np.stack([i, j, k], -1) * spacing + origin, np.float64)


def filled(image: sitk.Image, values: NDArray[np.generic]) -> sitk.Image:
    result = sitk.GetImageFromArray(values)
    result.CopyInformation(image)
    return result


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyVolumes:
    """CT and PET files of the same waves, the PET taken after a known motion."""
    folder = tmp_path_factory.mktemp("volumes")
    files = StudyFolder(folder / "ingest/S", folder / "register/S")
    (folder / "ingest/S").mkdir(parents=True)
    (folder / "register/S").mkdir(parents=True)
    ct = empty((320, 260, 14), CT_SPACING_MM, (-156.0, -127.0, -60.0))
    pet = empty((100, 90, 40), PET_SPACING_MM, (-201.0, -181.0, -84.0))
    body = empty((156, 127, 11), (2.0, 2.0, 5.0), (-156.0, -127.0, -50.0))
    sitk.WriteImage(filled(ct, np.rint(waves(centres(ct), *HU)).astype(np.int16)), files.ct)
    inverse = MOTION.to_sitk().GetInverse()
    rotation = np.array(inverse.GetMatrix()).reshape(3, 3)
    shift = np.array(inverse.TransformPoint((0.0, 0.0, 0.0)))
    before = centres(pet) @ rotation.T + shift
    sitk.WriteImage(filled(pet, waves(before, *SUV).astype(np.float32)), files.pet)
    x, y, _ = np.moveaxis(centres(body), -1, 0)
    inside = (x / 130) ** 2 + (y / 100) ** 2 <= 1
    sitk.WriteImage(filled(body, inside.astype(np.uint8)), files.body)
    write_transform(files.transform, MOTION)
    return read_study(files)


@pytest.fixture(scope="module")
def planes(study: StudyVolumes) -> Planes:
    return resample_study(study, PARAMS)


def largest_error(planes: Planes, image: sitk.Image, values: tuple[float, float]) -> float:
    """Over the body, as a fraction of the amplitude."""
    truth = waves(centres(image), *values)
    inside = sitk.GetArrayFromImage(planes.body) > 0
    return float(np.abs(sitk.GetArrayFromImage(image) - truth)[inside].max() / values[1])


def allowed(native_mm: tuple[float, ...], target_mm: tuple[float, ...], axes: int) -> float:
    """Of one blur to the wider of two pixels, and of one linear interpolation, per amplitude."""
    error = 0.0
    for native, target in list(zip(native_mm, target_mm, strict=True))[:axes]:
        variance = max(0.0, target**2 - native**2) / 2.3548**2
        error += K2_PER_MM2 * (variance / 2 + native**2 / 8)
    return error


def allowed_ct(planes: Planes) -> float:
    """Along z nothing is interpolated: the slices are the CT's own. Half a HU is for int16."""
    return allowed(CT_SPACING_MM, planes.ct.GetSpacing(), 2) + 0.5 / HU[1]


def allowed_pet(planes: Planes) -> float:
    return allowed(PET_SPACING_MM, planes.pet.GetSpacing(), 3)


def test_each_ct_pixel_is_the_function_at_its_point(planes: Planes) -> None:
    assert largest_error(planes, planes.ct, HU) < allowed_ct(planes) < 0.03


def test_each_pet_pixel_is_the_function_at_its_point_through_the_motion(planes: Planes) -> None:
    assert largest_error(planes, planes.pet, SUV) < allowed_pet(planes) < 0.11


def test_resampling_twice_would_break_both_promises(study: StudyVolumes, planes: Planes) -> None:
    """Onto a grid of 2 mm, and from there to the model's."""
    between = target_grid(study.ct, 2.0)
    ct = resample_ct(resample_ct(study.ct, between), planes.ct)
    pet = resample_pet(resample_pet(study.pet, between, MOTION), planes.pet, RigidTransform())
    assert largest_error(planes, ct, HU) > allowed_ct(planes)
    assert largest_error(planes, pet, SUV) > allowed_pet(planes)


def test_the_grid_is_a_square_around_the_body_on_the_slices_of_the_ct(
    study: StudyVolumes, planes: Planes
) -> None:
    size_px, _, slices = planes.ct.GetSize()
    assert slices == study.body.GetSize()[2] == 11
    x_mm, y_mm, _ = planes.ct.GetSpacing()
    assert size_px * x_mm == pytest.approx(2 * 130 + 2 * 4, abs=4.1)
    assert x_mm == y_mm
    for z in range(slices):
        here = planes.ct.TransformIndexToPhysicalPoint((0, 0, z))[2]
        assert here == pytest.approx(-50.0 + 5.0 * z, abs=1e-4)


def test_the_activity_in_the_body_is_the_native_one(study: StudyVolumes, planes: Planes) -> None:
    ratio = suv_total_ratio(study.pet, planes.pet, study.body, MOTION)
    assert ratio == pytest.approx(1.0, abs=0.01)
