"""At which sides of the body a study shows the skin."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from petct_uad.registration.metric_images import ComparablePair
from petct_uad.registration.quality import Mask, resample_under
from petct_uad.volumes.motion.rigid import RigidTransform

_SIDES = (("right", "left"), ("front", "back"))  # LPS: x and y, from low to high
ALL_SIDES = tuple(sorted(side for pair in _SIDES for side in pair))
_AIR_HU = -920.0  # the lightest lung is denser, and it too may lie at the edge of a cropped field
_SHOWN = 0.5  # of the lines through the body that begin in air at that side


def visible_sides(pair: ComparablePair) -> tuple[str, ...]:
    """The sides, sorted, at which the field of view that CT and PET share reaches beyond the body.

    Of most lines through the body the first voxel is air there. Cropped data show fewer than
    :data:`ALL_SIDES`: the field of view ends inside the body.
    """
    seen = resample_under(pair, RigidTransform()).pet >= 0
    body = (sitk.GetArrayViewFromImage(pair.body) > 0) & seen
    air = sitk.GetArrayViewFromImage(pair.ct) < _AIR_HU
    direction = np.array(pair.body.GetDirection()).reshape(3, 3)
    found = []
    for axis, names in enumerate(_SIDES):
        towards_high = direction[axis, axis] >= 0
        for end, name in zip((0, 1) if towards_high else (1, 0), names, strict=True):
            if _begins_in_air(*(_from(mask, 2 - axis, end) for mask in (body, seen, air))):
                found.append(name)
    return tuple(sorted(found))


def _begins_in_air(body: Mask, seen: Mask, air: Mask) -> bool:
    """Do most lines along the first axis that go through the body begin in air, where seen?"""
    begins = np.take_along_axis(air, seen.argmax(axis=0)[None], axis=0)[0]
    through = np.asarray(body.any(axis=0))
    return bool(through.any() and begins[through].mean() >= _SHOWN)


def _from(mask: Mask, axis: int, end: int) -> Mask:
    lines = np.moveaxis(mask, axis, 0)
    return np.flip(lines, 0) if end else lines
