from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from petct_uad.registration.grid import (
    covered_slices,
    resample_ct,
    resample_label,
    resample_pet,
    target_grid,
)
from petct_uad.registration.rigid import RigidTransform

# Rotated by 10 degrees about z and running towards the feet, as an odd but legal CT.
OBLIQUE = (0.984808, -0.173648, 0.0, 0.173648, 0.984808, 0.0, 0.0, 0.0, -1.0)
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def _image(
    values: np.ndarray,
    spacing: tuple[float, float, float],
    direction: tuple[float, ...] = IDENTITY,
) -> sitk.Image:
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(spacing)
    image.SetOrigin((-100.0, -90.0, 40.0))
    image.SetDirection(direction)
    return image


def test_each_target_slice_is_one_ct_slice() -> None:
    ct = _image(np.zeros((7, 50, 40), np.int16), (0.98, 0.98, 3.27), OBLIQUE)
    grid = target_grid(ct, 2.0)
    assert grid.GetSize() == (20, 25, 7)
    for z in range(7):
        assert grid.TransformIndexToPhysicalPoint((0, 0, z)) == pytest.approx(
            ct.TransformIndexToPhysicalPoint((0, 0, z))
        )


def test_ct_keeps_its_values_slice_by_slice() -> None:
    levels = np.array([-1000, 40, 300], np.int16)
    ct = _image(np.repeat(levels, 60 * 60).reshape(3, 60, 60), (0.98, 0.98, 5.0))
    on_grid = resample_ct(ct, target_grid(ct, 2.0))
    assert on_grid.GetPixelID() == sitk.sitkInt16
    for z, level in enumerate(levels):
        assert np.unique(sitk.GetArrayFromImage(on_grid)[z]).tolist() == [level]


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
    assert moved.GetPixelID() == sitk.sitkFloat32
    assert np.argwhere(sitk.GetArrayFromImage(moved) > 4).tolist() == [[10, 20, 18]]


def test_shrinking_a_label_keeps_its_area_on_average() -> None:
    rows, columns = np.indices((200, 200))
    native = target = 0.0
    # 50 native pixels are one beat between the two grids, so every phase occurs.
    for row, column in np.random.default_rng(0).uniform(75, 125, (40, 2)):
        disc = (rows - row) ** 2 + (columns - column) ** 2 <= 15**2
        label = _image(disc[None].astype(np.uint8), (0.98, 0.98, 5.0))
        on_grid = resample_label(label, target_grid(label, 2.0))
        assert set(np.unique(sitk.GetArrayFromImage(on_grid))) <= {0, 1}
        native += disc.sum() * 0.98**2
        target += sitk.GetArrayFromImage(on_grid).sum() * 2.0**2
    assert target == pytest.approx(native, rel=0.02)


def test_slices_outside_the_pet_are_cut() -> None:
    body = _image(np.ones((10, 8, 8), np.uint8), (4.0, 4.0, 5.0))
    pet = _image(np.ones((6, 8, 8), np.float32), (4.0, 4.0, 5.0))
    identity = covered_slices(body, pet, RigidTransform())
    assert (identity.first, identity.end, identity.cut) == (0, 6, 4)
    shifted = covered_slices(body, pet, RigidTransform(translation_mm=(0.0, 0.0, -15.0)))
    assert (shifted.first, shifted.end) == (3, 9)
    away = covered_slices(body, pet, RigidTransform(translation_mm=(0.0, 0.0, 500.0)))
    assert away.count == 0


def test_a_slice_of_which_a_tilt_leaves_half_uncovered_is_cut() -> None:
    body = _image(np.ones((10, 50, 50), np.uint8), (4.0, 4.0, 5.0))
    pet = _image(np.ones((10, 50, 50), np.float32), (4.0, 4.0, 5.0))
    tilt = RigidTransform(rotation_deg=(5.0, 0.0, 0.0), centre_mm=(0.0, 8.0, 62.5))
    kept = covered_slices(body, pet, tilt)
    assert kept.first > 0
    assert kept.end < 10
