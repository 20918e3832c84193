"""How well PET and CT lie on one another under a transform."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.special import rel_entr

from petct_uad.registration.masks import dice
from petct_uad.registration.metric_images import ComparablePair
from petct_uad.volumes.motion.transforms import BsplineTransform, Transform

Mask = NDArray[np.bool_]

_FOLD_GRID_MM = 8.0
_OUTSIDE = -1.0  # no PET value, which is a root, is negative


@dataclass(frozen=True)
class Alignment:
    """One transform's quality: mutual information in nats, Dice of the CT and the PET body."""

    mutual_information: float
    body_overlap: float


@dataclass(frozen=True)
class View:
    """A comparable pair under one transform; arrays (z, y, x) on the grid of its CT.

    Attributes:
        pair: what is compared.
        transform: from the CT frame to the PET frame.
        pet: the PET's values, negative where the PET does not reach.
    """

    pair: ComparablePair
    transform: Transform
    pet: NDArray[np.float32]

    @property
    def field(self) -> Mask:
        """Every voxel of the region that lies in the PET."""
        return np.asarray((self.pet > _OUTSIDE / 2) & _inside(self.pair.region))


def resample_under(pair: ComparablePair, transform: Transform) -> View:
    """Bring the PET of a pair onto its CT."""
    return View(pair, transform, _onto_ct(pair.pet, pair, transform, _OUTSIDE))


def common_field(views: Iterable[View]) -> Mask:
    """Every voxel of the region that lies in the PET under all of ``views``."""
    return np.asarray(np.logical_and.reduce([view.field for view in views]), dtype=np.bool_)


def measure(view: View, field: Mask, bins: int) -> Alignment:
    """Quality of a transform over ``field``."""
    pair = view.pair
    body = _onto_ct(sitk.Cast(pair.pet_body, sitk.sitkFloat32), pair, view.transform) >= 0.5
    overlap = dice(_inside(pair.body) & field, body & field)
    return Alignment(information(view, field, bins), overlap)


def information(view: View, field: Mask, bins: int) -> float:
    """Mutual information over ``field``, in nats."""
    return mutual_information(_array(view.pair.ct)[field], view.pet[field], bins)


def mutual_information(first: NDArray[np.float32], second: NDArray[np.float32], bins: int) -> float:
    """Of two equally long samples, in nats, from their joint histogram; 0 where one is empty."""
    if not len(first):
        return 0.0
    cells = _bin(first, bins) * bins + _bin(second, bins)
    joint = np.bincount(cells, minlength=bins**2).reshape(bins, bins) / len(first)
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
    return float(rel_entr(joint, apart).sum())


def sharpness(view: View, step_mm: float, bins: int) -> tuple[float, float, float]:
    """How fast mutual information falls when the PET is moved along x, y and z: nat per mm2.

    The second difference over ``step_mm`` either way; below zero on a slope, where one way rises.
    """
    x, y, z = (_sharpness_along(view, axis, step_mm, bins) for axis in range(3))
    return x, y, z


def moved_along(view: View, axis: int, step_mm: float) -> tuple[View, View]:
    """The view with its PET moved along ``axis`` (0 is x) by ``step_mm``, and back by as much."""
    step = [step_mm if i == axis else 0.0 for i in range(3)]
    return _moved(view, step), _moved(view, [-mm for mm in step])


def fall(view: View, moved: Sequence[View], field: Mask, bins: int) -> float:
    """By how much mutual information over ``field`` falls from ``view`` to the views beside it.

    In nats: their mean; where it rises to one of them, by how much, below zero.
    """
    middle = information(view, field, bins)
    drops = [middle - information(other, field, bins) for other in moved]
    return min(drops) if min(drops) < 0 else sum(drops) / len(drops)


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


def _sharpness_along(view: View, axis: int, step_mm: float, bins: int) -> float:
    moved = moved_along(view, axis, step_mm)
    return fall(view, moved, common_field([view, *moved]), bins) / step_mm**2


def _moved(view: View, shift_mm: Sequence[float]) -> View:
    """The view with its PET, not its CT, moved by ``shift_mm``."""
    pet = sitk.Image(view.pair.pet)
    pet.SetOrigin([o + s for o, s in zip(pet.GetOrigin(), shift_mm, strict=True)])
    return resample_under(replace(view.pair, pet=pet), view.transform)


def _bin(values: NDArray[np.float32], bins: int) -> NDArray[np.intp]:
    """Which of ``bins`` equal parts of its range each value falls in."""
    low, high = float(values.min()), float(values.max())
    scaled = (values.astype(np.float64) - low) * (bins / (high - low) if high > low else 0.0)
    return np.asarray(np.minimum(scaled.astype(np.intp), bins - 1))


def _onto_ct(
    image: sitk.Image, pair: ComparablePair, transform: Transform, outside: float = 0.0
) -> NDArray[np.float32]:
    linear = sitk.sitkLinear
    return _array(sitk.Resample(image, pair.ct, transform.to_sitk(), linear, outside))


def _corners(image: sitk.Image) -> list[tuple[int, int, int]]:
    x, y, z = (count - 1 for count in image.GetSize())
    return [(i, j, k) for i in (0, x) for j in (0, y) for k in (0, z)]


def _inside(mask: sitk.Image) -> Mask:
    return np.asarray(sitk.GetArrayFromImage(mask) > 0)


def _array(image: sitk.Image) -> NDArray[np.float32]:
    return np.asarray(sitk.GetArrayFromImage(image))
