from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from petct_uad.core.errors import RegistrationError
from petct_uad.registration.grid import target_grid
from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.resample import (
    antialias,
    native_slices,
    resample_ct,
    resample_mask,
    resample_pet,
)


def _image(values: np.ndarray, spacing: tuple[float, float, float]) -> sitk.Image:
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(spacing)
    image.SetOrigin((-100.0, -90.0, 40.0))
    return image


def test_ct_keeps_its_values_slice_by_slice() -> None:
    levels = np.array([-1000, 40, 300], np.int16)
    ct = _image(np.repeat(levels, 60 * 60).reshape(3, 60, 60), (0.98, 0.98, 5.0))
    on_grid = resample_ct(ct, target_grid(ct, 2.0))
    for z, level in enumerate(levels):
        assert sitk.GetArrayFromImage(on_grid)[z] == pytest.approx(level, abs=0.01)


def test_stripes_finer_than_the_target_pixel_become_grey_not_moire() -> None:
    stripes = np.where(np.arange(120) % 2, 200, -200).astype(np.int16)
    ct = _image(np.broadcast_to(stripes, (2, 120, 120)).copy(), (0.5, 0.5, 5.0))
    on_grid = sitk.GetArrayFromImage(resample_ct(ct, target_grid(ct, 1.7)))
    assert np.abs(on_grid[:, 3:-3, 3:-3]).max() < 20


def test_pet_follows_the_transform_in_the_stated_direction() -> None:
    uptake = np.zeros((20, 40, 40), np.float32)
    uptake[10, 20, 20] = 5.0
    pet = _image(uptake, (4.0, 4.0, 3.0))
    grid = target_grid(pet, 4.0)
    # A point at x in the CT lies at x + 8 mm in the PET, so the hot voxel appears 2 voxels earlier.
    moved = resample_pet(pet, grid, RigidTransform(translation_mm=(8.0, 0.0, 0.0)))
    assert np.argwhere(sitk.GetArrayFromImage(moved) > 4).tolist() == [[10, 20, 18]]


def test_shrinking_a_label_keeps_its_area_on_average() -> None:
    rows, columns = np.indices((200, 200))
    native = target = 0.0
    # 50 native pixels are one beat between the two grids, so every phase occurs.
    for row, column in np.random.default_rng(0).uniform(75, 125, (40, 2)):
        disc = (rows - row) ** 2 + (columns - column) ** 2 <= 15**2
        label = _image(disc[None].astype(np.uint8), (0.98, 0.98, 5.0))
        on_grid = resample_mask(label, target_grid(label, 2.0))
        assert set(np.unique(sitk.GetArrayFromImage(on_grid))) <= {0, 1}
        native += disc.sum() * 0.98**2
        target += sitk.GetArrayFromImage(on_grid).sum() * 2.0**2
    assert target == pytest.approx(native, rel=0.02)


def test_an_axis_that_does_not_shrink_is_not_blurred() -> None:
    noise = np.random.default_rng(0).normal(size=(12, 30, 30)).astype(np.float32)
    pet = _image(noise, (4.07, 4.07, 3.0))
    assert sitk.GetArrayFromImage(antialias(pet, (2.9, 2.9, 3.0))) == pytest.approx(noise)
    along = sitk.GetArrayFromImage(antialias(pet, (2.9, 2.9, 5.0)))
    # Each column is blurred on its own: what one holds, no other gets.
    alone = noise.copy()
    alone[:, :, 1:] = 0
    by_itself = sitk.GetArrayFromImage(antialias(_image(alone, (4.07, 4.07, 3.0)), (2.9, 2.9, 5.0)))
    assert along[:, :, 0] == pytest.approx(by_itself[:, :, 0], abs=1e-6)
    assert not by_itself[:, :, 1:].any()
    assert along.std() < 0.9 * noise.std()


def test_the_blur_is_that_which_widens_a_native_pixel_to_a_target_pixel() -> None:
    point = np.zeros((3, 81, 81), np.float32)
    point[:, 40, 40] = 1.0
    blurred = sitk.GetArrayFromImage(antialias(_image(point, (1.0, 1.0, 5.0)), (5.0, 5.0, 5.0)))
    x = np.arange(81) - 40
    profile = blurred[1].sum(axis=0)
    assert profile.sum() == pytest.approx(1.0, abs=1e-4)
    # Two Gaussians of 1 and 5 mm FWHM; 2.3548 standard deviations are one FWHM.
    assert (profile * x**2).sum() == pytest.approx((5.0**2 - 1.0**2) / 2.3548**2, rel=0.02)


def test_the_native_slices_of_a_grid_are_found() -> None:
    levels = np.arange(9, dtype=np.int16)
    ct = _image(np.repeat(levels, 64).reshape(9, 8, 8), (1.0, 1.0, 5.0))
    kept = native_slices(ct, target_grid(ct, 2.0)[:, :, 2:6])
    assert sitk.GetArrayFromImage(kept)[:, 0, 0].tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("shift_mm", "step_mm"), [(2.0, 5.0), (30.0, 5.0), (-5.0, 5.0), (0.0, 4.0), (0.0, 5.05)]
)
def test_slices_that_the_ct_lacks_are_refused(shift_mm: float, step_mm: float) -> None:
    ct = _image(np.zeros((9, 8, 8), np.int16), (1.0, 1.0, 5.0))
    other = _image(np.zeros((9, 8, 8), np.int16), (1.0, 1.0, step_mm))
    other.SetOrigin((-100.0, -90.0, 40.0 + shift_mm))
    with pytest.raises(RegistrationError, match="not the CT that was registered; run register"):
        native_slices(ct, other)
