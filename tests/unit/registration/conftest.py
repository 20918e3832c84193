from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from petct_uad.volumes.motion.rigid import RigidTransform

Vector = tuple[float, float, float]
Pair = tuple[sitk.Image, sitk.Image]

# Organ (centre, half axes in mm; None: along the whole body), HU, SUVbw. Later ones win.
_ORGANS: list[tuple[Vector, tuple[float, float, float | None], float, float]] = [
    ((0, 0, 0), (175, 115, None), -90, 0.25),  # fat under the skin
    ((0, 0, 0), (155, 95, None), 40, 0.7),  # muscle
    ((75, 0, 40), (55, 75, 110), -800, 0.4),  # left lung
    ((-75, 5, 45), (55, 75, 105), -800, 0.4),  # right lung
    ((25, -35, -10), (45, 38, 40), 50, 3.0),  # heart
    ((-60, 0, -60), (85, 75, 55), 60, 2.2),  # liver
    ((0, 70, 0), (18, 20, None), 300, 1.2),  # spine
]


def _voxel_centres(image: sitk.Image) -> NDArray[np.float64]:
    columns, rows, slices = image.GetSize()
    k, j, i = np.indices((slices, rows, columns))
    spacing, origin = np.array(image.GetSpacing()), np.array(image.GetOrigin())
    return np.asarray(np.stack([i, j, k], -1) * spacing + origin, np.float64)


def _torso(points: NDArray[np.float64], column: int) -> NDArray[np.float64]:
    values = np.full(points.shape[:-1], (-1000.0, 0.0)[column])
    for centre, (a, b, c), *tissue in _ORGANS:
        x, y, z = np.moveaxis(points - np.array(centre), -1, 0)
        taper = 1.0 if c else 1 + 0.0008 * z
        inside = (x / (a * taper)) ** 2 + (y / (b * taper)) ** 2 + (z / c if c else 0 * z) ** 2 <= 1
        values[inside] = tissue[column]
    return values


def _image(size: tuple[int, ...], spacing: Vector, origin: Vector) -> sitk.Image:
    image = sitk.Image(size, sitk.sitkFloat32)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    return image


def _filled(image: sitk.Image, values: NDArray[np.float64]) -> sitk.Image:
    filled = sitk.GetImageFromArray(values.astype(np.float32))
    filled.CopyInformation(image)
    return filled


@pytest.fixture(scope="session")
def make_pair() -> Callable[[RigidTransform], Pair]:
    """CT (int16 HU) and blurred, noisy PET (float32 SUVbw) of a torso that moved in between."""

    def make(motion: RigidTransform) -> Pair:
        noise = np.random.default_rng(0)
        ct = _image((128, 128, 28), (3.9, 3.9, 5.0), (-247.65, -247.65, -70.0))
        hu = _torso(_voxel_centres(ct), 0)
        hu += noise.normal(0, 15, hu.shape)
        pet = _image((96, 96, 54), (5.47, 5.47, 3.27), (-259.0, -260.0, -87.0))
        inverse = motion.to_sitk().GetInverse()
        rotation = np.array(inverse.GetMatrix()).reshape(3, 3)
        shift = np.array(inverse.TransformPoint((0.0, 0.0, 0.0)))
        suv = _torso(_voxel_centres(pet) @ rotation.T + shift, 1)
        blurred = sitk.SmoothingRecursiveGaussian(_filled(pet, suv), 2.8)
        clean = sitk.GetArrayFromImage(blurred).clip(0)
        noisy = clean + 0.08 * noise.normal(size=clean.shape) * np.sqrt(clean + 0.05)
        return sitk.Cast(_filled(ct, hu), sitk.sitkInt16), _filled(pet, noisy.clip(0))

    return make
