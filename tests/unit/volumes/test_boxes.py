from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from petct_uad.core.volumes import AIR_HU
from petct_uad.registration.masks import body_mask
from petct_uad.volumes.boxes import Box
from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.motion.transforms import AffineTransform, Transform
from petct_uad.volumes.resample import (
    add_moved,
    antialias,
    interpolate,
    resample_ct,
    resample_mask,
    resample_pet,
)


@pytest.fixture
def ct() -> sitk.Image:
    """Tissue with a lung in wide air; oblique, since a scanner's axes need not be the patient's."""
    hu = np.full((7, 90, 120), AIR_HU, np.float32)
    hu[:, 20:60, 30:80] = np.random.default_rng(0).normal(40, 20, (7, 40, 50))
    hu[:, 35:45, 48:60] = -800
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((1.0, 1.0, 4.0))
    image.SetOrigin((-40.0, 12.0, 100.0))
    image.SetDirection((0.96, -0.28, 0, 0.28, 0.96, 0, 0, 0, 1))
    return image


def _grid(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    width, height, depth = image.GetSize()
    grid = sitk.Image(int(width // spacing_mm), int(height // spacing_mm), depth, sitk.sitkUInt8)
    grid.SetOrigin(image.GetOrigin())
    grid.SetDirection(image.GetDirection())
    grid.SetSpacing((spacing_mm, spacing_mm, image.GetSpacing()[2]))
    return grid


def _array(image: sitk.Image) -> NDArray[Any]:
    return np.asarray(sitk.GetArrayFromImage(image))


def test_a_ct_is_the_same_in_the_body_whether_or_not_its_surroundings_are_looked_at(
    ct: sitk.Image,
) -> None:
    mask, grid = body_mask(ct, -300.0), _grid(ct, 3.0)
    body = Box.occupied(mask, (0, 0, 0)).of(mask)
    inside = _array(resample_mask(body, grid)) > 0
    assert inside.any()
    whole = interpolate(antialias(ct, grid.GetSpacing()), grid, outside=AIR_HU)
    for near in (resample_ct(ct, grid, within=body), resample_ct(ct, grid)):
        np.testing.assert_array_equal(_array(near)[inside], _array(whole)[inside])


@pytest.mark.parametrize(
    "motion",
    [
        RigidTransform(),
        RigidTransform((12.0, -6.0, 18.0), (9.0, -14.0, 5.0), (-10.0, 50.0, 110.0)),
        AffineTransform((1.1, 0, 0.1, 0, 0.9, 0, 0, 0.2, 1), (3.0, 4.0, -2.0), (0.0, 40.0, 110.0)),
    ],
)
def test_a_pet_is_the_same_in_the_body_wherever_the_motion_takes_it(
    ct: sitk.Image, motion: Transform
) -> None:
    mask = body_mask(ct, -300.0)
    body, grid = Box.occupied(mask, (0, 0, 0)).of(mask), _grid(ct, 3.0)
    inside = _array(resample_mask(body, grid)) > 0
    pet = sitk.Image(60, 60, 40, sitk.sitkFloat32)
    pet.SetSpacing((2.5, 2.0, 1.5))
    pet.SetOrigin((-50.0, 0.0, 90.0))
    pet = sitk.AdditiveGaussianNoise(pet, 1.0, 5.0, 1)
    whole = interpolate(antialias(pet, grid.GetSpacing()), grid, motion)
    near = resample_pet(pet, grid, motion, within=body)
    np.testing.assert_array_equal(_array(near)[inside], _array(whole)[inside])


@pytest.mark.parametrize("spacing_mm", [0.5, 1.0, 3.0, 7.0])
def test_a_mask_is_resampled_as_if_all_of_its_matrix_were_blurred(
    ct: sitk.Image, spacing_mm: float
) -> None:
    mask, grid = ct > -300, _grid(ct, spacing_mm)
    whole = interpolate(antialias(mask, grid.GetSpacing()), grid) >= 0.5
    np.testing.assert_array_equal(_array(resample_mask(mask, grid)), _array(whole))


@pytest.mark.parametrize("first", [(30, 40, 2), (0, 0, 0), (114, 83, 4)])
@pytest.mark.parametrize(
    "motion",
    [
        RigidTransform(),
        RigidTransform(translation_mm=(3.3, -2.1, 4.7)),
        RigidTransform((3.0, -6.0, 18.0), (9.0, -5.0, 5.0), (-10.0, 50.0, 110.0)),
        RigidTransform(translation_mm=(0.0, 900.0, 0.0)),
        AffineTransform((1.1, 0, 0.1, 0, 0.9, 0, 0, 0.2, 1), (3.0, 4.0, -2.0), (0.0, 40.0, 110.0)),
    ],
)
def test_a_lesion_is_moved_as_if_all_of_its_matrix_were(
    ct: sitk.Image, motion: Transform, first: tuple[int, int, int]
) -> None:
    x, y, z = first
    drawn = np.zeros((7, 90, 120), np.uint8)
    drawn[z : z + 3, y : y + 7, x : x + 6] = 1
    mask = sitk.GetImageFromArray(drawn)
    mask.CopyInformation(ct)
    on_ct = sitk.Image(mask.GetSize(), sitk.sitkUInt8)
    on_ct.CopyInformation(mask)
    on_ct[60:70, 40:44, 1:3] = 1
    whole = sitk.Or(on_ct, interpolate(mask, mask, motion) >= 0.5)
    part = Box.occupied(mask, (1, 1, 1)).of(mask)
    np.testing.assert_array_equal(_array(add_moved(part, on_ct, motion)), _array(whole))


def test_an_empty_mask_stays_empty(ct: sitk.Image) -> None:
    assert not _array(resample_mask(ct > 3000, _grid(ct, 3.0))).any()
    assert not Box.occupied(ct > 3000, (1, 1, 1))


def test_a_body_does_not_depend_on_how_much_air_is_around_it(ct: sitk.Image) -> None:
    body = _array(body_mask(ct, -300.0))
    cut = _array(body_mask(ct[29:81, 19:61, :], -300.0))
    np.testing.assert_array_equal(body[:, 19:61, 29:81], cut)
    assert body.sum() == cut.sum()


def test_a_lung_is_filled_where_tissue_surrounds_it_and_left_where_it_is_open(
    ct: sitk.Image,
) -> None:
    assert _array(body_mask(ct, -300.0))[3, 40, 54] == 1
    hu = _array(ct)
    hu[3, 35:45, 30:60] = AIR_HU
    opened = sitk.GetImageFromArray(hu)
    opened.CopyInformation(ct)
    body = _array(body_mask(opened, -300.0))
    assert body[3, 40, 54] == 0
    assert body[2, 40, 54] == body[4, 40, 54] == 1


def test_a_box_ends_where_the_image_ends(ct: sitk.Image) -> None:
    assert Box.occupied(ct > -300, (5, 100, 2)) == Box((25, 0, 0), (60, 90, 7))
    assert Box.under(ct, ct, (9, 9, 9)) == Box((0, 0, 0), ct.GetSize())
