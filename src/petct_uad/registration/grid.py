"""The CT-anchored grid on which PET and CT are compared, and which of its slices are kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from petct_uad.registration.masks import middle_mm, points_mm
from petct_uad.volumes.motion.transforms import Transform

# Slack for positions that a NIfTI header rounded to float32.
_TOLERANCE_PX = 1e-3


@dataclass(frozen=True)
class SliceRange:
    """CT slices ``first`` up to, not including, ``end``, of ``total``."""

    first: int
    end: int
    total: int

    @property
    def count(self) -> int:
        """How many slices are kept."""
        return self.end - self.first

    @property
    def cut(self) -> int:
        """How many slices are left out."""
        return self.total - self.count


def target_grid(ct: sitk.Image, spacing_mm: float) -> sitk.Image:
    """An empty image with the CT's orientation, origin and slices, and ``spacing_mm`` in-plane.

    The corner voxels share their centre, and no target voxel's centre lies beyond the last CT one.
    """
    columns, rows, slices = ct.GetSize()
    x_mm, y_mm, z_mm = ct.GetSpacing()
    size = [_fitting(columns, x_mm, spacing_mm), _fitting(rows, y_mm, spacing_mm), slices]
    grid = sitk.Image(size, sitk.sitkUInt8)
    grid.SetSpacing([spacing_mm, spacing_mm, z_mm])
    grid.SetOrigin(ct.GetOrigin())
    grid.SetDirection(ct.GetDirection())
    return grid


def covered_slices(body: sitk.Image, pet: sitk.Image, transform: Transform) -> SliceRange:
    """The longest run of slices whose whole body lies within the PET's axial extent; may be empty.

    A slice that is covered in part is left out: air in place of uptake would look like an anomaly.

    Args:
        body: mask on the target grid; a slice without body counts with its centre.
        pet: gives the extent, half a voxel beyond the centres of its first and last slice.
    """
    total = body.GetSize()[2]
    inside = [_slice_covered(body, z, pet, transform) for z in range(total)]
    best, first = SliceRange(0, 0, total), 0
    for end, covered in enumerate([*inside, False]):
        if not covered:
            if end - first > best.count:
                best = SliceRange(first, end, total)
            first = end + 1
    return best


def cut(image: sitk.Image, slices: SliceRange) -> sitk.Image:
    """The image reduced to a range of slices."""
    return image[:, :, slices.first : slices.end] if slices.cut else image


def _fitting(count: int, native_mm: float, target_mm: float) -> int:
    return math.floor((count - 1) * native_mm / target_mm + _TOLERANCE_PX) + 1


def _slice_covered(body: sitk.Image, z: int, pet: sitk.Image, transform: Transform) -> bool:
    points = points_mm(body, z, z + 1)
    if not len(points):
        points = np.array([middle_mm(body[:, :, z : z + 1])])
    axis = np.array(pet.GetDirection()).reshape(3, 3)[:, 2]
    depth_mm = (transform.apply(points) - np.array(pet.GetOrigin())) @ axis
    depth_px = depth_mm / pet.GetSpacing()[2]
    low, high = -0.5 - _TOLERANCE_PX, pet.GetSize()[2] - 0.5 + _TOLERANCE_PX
    return bool(depth_px.min() >= low and depth_px.max() <= high)
