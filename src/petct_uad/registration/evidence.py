"""What speaks for a motion where the scanner has aligned PET and CT: more than the method's bias.

A refinement by mutual information moves even what lies right: a PET is blurred beyond the skin, so
that one which shows the skin on one side only is drawn inwards. How far, this study's own null test
says. And a patient who moved did so on both sides: a bias betters the fit at one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from petct_uad.registration.masks import centroid_mm, points_mm
from petct_uad.registration.metric_images import ComparablePair
from petct_uad.registration.quality import (
    Mask,
    View,
    common_field,
    fall,
    information,
    moved_along,
    resample_under,
)
from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.motion.transforms import Transform

_POINTS = 4000  # of the body, evenly: a rigid motion is known from far fewer
_SKIN_MM = 15.0  # the depth of what the skin's own blur reaches
_FEWEST = 500  # voxels that make a histogram
_IDENTITY = RigidTransform()


@dataclass(frozen=True)
class NullTest:
    """What a refinement is worth beside that of an image which lies right.

    Attributes:
        bias_mm: root mean square over the body of what the null test moved.
        excess_mm: the same of what the refinement moved beyond any part of the bias, or its
            ``null_factor``.
    """

    bias_mm: float
    excess_mm: float


@dataclass(frozen=True)
class Gain:
    """By how much a refinement raises mutual information in one part of the body, in nats."""

    part: str
    nats: float


def beyond_null(
    pair: ComparablePair, candidate: Transform, bias: Transform, factor: float
) -> NullTest:
    """Compare a refinement with what the method moves by itself, in amount and in direction.

    Args:
        pair: whose body counts.
        candidate: the refinement.
        bias: the refinement of the pair of :func:`~petct_uad.registration.null_pet.make_null`.
        factor: up to how many times the bias a refinement may be explained by it.
    """
    points = points_mm(pair.body)
    points = points[:: max(1, len(points) // _POINTS)]
    moved, biased = candidate.apply(points) - points, bias.apply(points) - points
    length = float((biased**2).sum())
    along = float((moved * biased).sum()) / length if length else 0.0
    return NullTest(_rms(biased), _rms(moved - np.clip(along, 0.0, factor) * biased))


def gains(pair: ComparablePair, candidate: Transform, bins: int) -> tuple[Gain, ...]:
    """What the refinement betters in each half of the body, and below the skin.

    The halves are those of either side of the body's centre along each axis: the skin that shows on
    one side only lies in one of two. Below the skin are the organs, each against its CT.
    """
    start, end = resample_under(pair, _IDENTITY), resample_under(pair, candidate)
    field = common_field([start, end])
    found = []
    for name, part in _parts(pair):
        inside = field & part
        if inside.sum() >= _FEWEST:
            nats = information(end, inside, bins) - information(start, inside, bins)
            found.append(Gain(name, nats))
    return tuple(found)


def least_sharpness(view: View, axis: int, step_mm: float, bins: int) -> float:
    """How fast mutual information falls along ``axis`` (0 is x) in the part where it falls least.

    In nat per mm2, over ``step_mm`` either way, of the same parts as :func:`gains`; below zero
    where the peak of one lies elsewhere. A flat peak that all of them have in one place is a peak.
    Where the body is alike from slice to slice each has its own, and that of the whole is drift.
    """
    moved = moved_along(view, axis, step_mm)
    field = common_field([view, *moved])
    seen = [inside for _, part in _parts(view.pair) if (inside := field & part).sum() >= _FEWEST]
    falls = [fall(view, moved, inside, bins) for inside in seen]
    return min(falls, default=0.0) / step_mm**2


def _parts(pair: ComparablePair) -> Iterator[tuple[str, Mask]]:
    body = sitk.GetArrayViewFromImage(pair.body) > 0
    middle = pair.body.TransformPhysicalPointToContinuousIndex(centroid_mm(pair.body))
    index = np.indices(body.shape)
    for axis in range(3):
        beyond = np.asarray(index[2 - axis] > middle[axis])
        yield f"low {'xyz'[axis]}", ~beyond
        yield f"high {'xyz'[axis]}", beyond
    radius = [round(_SKIN_MM / mm) for mm in pair.body.GetSpacing()[:2]]
    yield "below the skin", sitk.GetArrayFromImage(sitk.BinaryErode(pair.body, [*radius, 0])) > 0


def _rms(moved_mm: NDArray[np.float64]) -> float:
    return float(np.sqrt((moved_mm**2).sum(axis=1).mean())) if len(moved_mm) else 0.0
