"""How well PET and CT lie on one another under a transform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from sklearn.metrics import mutual_info_score

from petct_uad.registration.comparable import ComparablePair
from petct_uad.registration.masks import dice
from petct_uad.registration.rigid import Vector
from petct_uad.registration.transforms import BsplineTransform, Transform

_FOLD_GRID_MM = 8.0


@dataclass(frozen=True)
class Alignment:
    """One transform's quality: mutual information in nats, Dice of the CT and the PET body."""

    mutual_information: float
    body_overlap: float


def measure(pair: ComparablePair, transform: Transform, field: sitk.Image, bins: int) -> Alignment:
    """Quality of ``transform`` over ``field``, a mask on the grid of ``pair.ct``."""
    body = _onto_ct(sitk.Cast(pair.pet_body, sitk.sitkFloat32), pair, transform) >= 0.5
    return Alignment(
        information(pair, transform, field, bins), dice(pair.body & field, body & field)
    )


def information(pair: ComparablePair, transform: Transform, field: sitk.Image, bins: int) -> float:
    """Mutual information over ``field``, in nats."""
    pet = _onto_ct(pair.pet, pair, transform)
    chosen = _array(field) > 0
    return mutual_information(_array(pair.ct)[chosen], _array(pet)[chosen], bins)


def mutual_information(first: NDArray[np.float32], second: NDArray[np.float32], bins: int) -> float:
    """Of two equally long samples, in nats, from their joint histogram; 0 where one is empty."""
    if not len(first):
        return 0.0
    counts, _, _ = np.histogram2d(first, second, bins=bins)
    return float(mutual_info_score(None, None, contingency=counts))


def common_field(pair: ComparablePair, transforms: Sequence[Transform]) -> sitk.Image:
    """Every voxel of the region that lies in the PET under all of ``transforms``."""
    field = pair.region
    for transform in transforms:
        field = field & _in_pet(pair, transform)
    return field


def sharpness(
    pair: ComparablePair, transform: Transform, step_mm: float, bins: int
) -> tuple[float, float, float]:
    """How fast mutual information falls when the PET is moved along x, y and z: nat per mm2.

    The second difference over ``step_mm`` either way; below zero on a slope, where one way rises.
    """
    x, y, z = (_sharpness_along(pair, transform, axis, step_mm, bins) for axis in range(3))
    return x, y, z


def smallest_jacobian(pair: ComparablePair, transform: BsplineTransform) -> float:
    """Least determinant of the spline's Jacobian around the CT; 0 or less where it folds.

    By central differences on a grid of 8 mm along the patient's axes.
    """
    corners = np.array([pair.ct.TransformIndexToPhysicalPoint(c) for c in _corners(pair.ct)])
    low, high = corners.min(axis=0), corners.max(axis=0)
    counts = [max(2, int(n) + 1) for n in np.ceil((high - low) / _FOLD_GRID_MM)]
    field = sitk.TransformToDisplacementField(
        transform.spline_sitk(), sitk.sitkVectorFloat64, counts, low.tolist(), [_FOLD_GRID_MM] * 3
    )
    slopes = list(np.gradient(_array(field), _FOLD_GRID_MM, axis=(2, 1, 0)))  # along x, y, z
    return float(np.linalg.det(np.stack(slopes, axis=-1) + np.eye(3)).min())


def _sharpness_along(
    pair: ComparablePair, transform: Transform, axis: int, step_mm: float, bins: int
) -> float:
    step = tuple(step_mm if i == axis else 0.0 for i in range(3))
    back = tuple(-mm for mm in step)
    moved = [_moved(pair, shift) for shift in (step, back)]  # type: ignore[arg-type]
    field = common_field(pair, [transform])
    for other in moved:
        field = field & _in_pet(other, transform)
    middle = information(pair, transform, field, bins)
    drops = [middle - information(other, transform, field, bins) for other in moved]
    if min(drops) < 0:
        return min(drops) / step_mm**2
    return sum(drops) / 2 / step_mm**2


def _moved(pair: ComparablePair, shift_mm: Vector) -> ComparablePair:
    """The pair with its PET, not its CT, moved by ``shift_mm``."""
    pet = sitk.Image(pair.pet)
    pet.SetOrigin([o + s for o, s in zip(pet.GetOrigin(), shift_mm, strict=True)])
    return replace(pair, pet=pet)


def _in_pet(pair: ComparablePair, transform: Transform) -> sitk.Image:
    return _onto_ct(_ones(pair.pet), pair, transform) >= 0.5


def _onto_ct(image: sitk.Image, pair: ComparablePair, transform: Transform) -> sitk.Image:
    return sitk.Resample(image, pair.ct, transform.to_sitk(), sitk.sitkLinear, 0.0)


def _corners(image: sitk.Image) -> list[tuple[int, int, int]]:
    x, y, z = (count - 1 for count in image.GetSize())
    return [(i, j, k) for i in (0, x) for j in (0, y) for k in (0, z)]


def _ones(like: sitk.Image) -> sitk.Image:
    ones = sitk.Image(like.GetSize(), sitk.sitkFloat32) + 1.0
    ones.CopyInformation(like)
    return ones


def _array(image: sitk.Image) -> NDArray[np.float32]:
    return np.asarray(sitk.GetArrayViewFromImage(image))
