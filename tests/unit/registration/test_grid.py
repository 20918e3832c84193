from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from petct_uad.registration.grid import covered_slices, target_grid
from petct_uad.volumes.motion.rigid import RigidTransform

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


@pytest.mark.parametrize(("wide", "kept"), [(1, (2, 10)), (8, (0, 8))])
def test_the_longest_covered_run_is_kept_wherever_it_lies(wide: int, kept: tuple[int, int]) -> None:
    """A tilt lifts the sides of one wide slice out of the PET, and leaves narrow ones inside."""
    narrow = np.zeros((10, 51, 51), np.uint8)
    narrow[:, 25, 25] = 1
    narrow[wide] = 1
    body = _image(narrow, (4.0, 4.0, 5.0))
    pet = _image(np.ones((10, 51, 51), np.float32), (4.0, 4.0, 5.0))
    tilt = RigidTransform(rotation_deg=(5.0, 0.0, 0.0), centre_mm=(0.0, 10.0, 62.5))
    run = covered_slices(body, pet, tilt)
    assert (run.first, run.end, run.cut) == (*kept, 2)
