"""Lesions on the voxels of the CT: what a label object draws, and how contours are filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from petct_uad.core.errors import LabelError
from petct_uad.ingest.dicom.contours import LABEL_ADVICE
from petct_uad.ingest.dicom.geometry import Grid, Stack
from petct_uad.ingest.dicom.header import Header

Mask = NDArray[np.uint8]

_SAME_PLANE_MM = 0.01
_ON_EDGE = 1e-9  # pixels
_WIDEST_GAP = 4  # slices: who contours every fifth slice means one lesion; further apart, two


@dataclass(frozen=True)
class Drawing:
    """What one label object draws.

    Attributes:
        mask: (z, y, x) on the CT's grid, 1 = lesion.
        outside: contours (RTSTRUCT) or voxels (SEG) beyond the CT.
        notes: what was assumed or left out, in words.
    """

    mask: Mask
    outside: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PairedImages:
    """The CT and PET of a study, and which of them a label object was drawn on."""

    ct: Stack
    pet: Stack
    drawn_on: Stack  # one of the two

    @property
    def frames(self) -> tuple[str, ...]:
        """Frame of Reference UIDs (0020,0052) that coordinates of the label may have."""
        stacks = (self.drawn_on, self.ct)
        return tuple(dict.fromkeys(s.headers[0].frame_of_reference_uid for s in stacks))


@dataclass(frozen=True)
class _Plane:
    depth_index: float  # along the CT's normal, in CT slices
    mask: NDArray[np.bool_]  # (y, x)


def wrong_label(header: Header, found: str, expected: str) -> LabelError:
    """The refusal of a label object, and with it of its study."""
    return LabelError(header.file, found=found, expected=expected, advice=LABEL_ADVICE)


def empty_between(mask: Mask) -> str:
    """Which slices lie empty between two that show the same lesion; "" where none does.

    Two slices show the same lesion where some pixel is in both, and no more than a few slices lie
    between them.
    """
    drawn = np.flatnonzero(mask.any(axis=(1, 2)))
    empty = [
        index
        for low, high in pairwise(drawn)
        if 1 < high - low <= _WIDEST_GAP + 1 and (mask[low] & mask[high]).any()
        for index in range(low + 1, high)
    ]
    return (
        f"{len(empty)} CT slices between drawn ones are empty ({_ranges(empty)})" if empty else ""
    )


def _ranges(indices: Sequence[int]) -> str:
    """Slice numbers from 0, runs joined: ``11, 13-15``."""
    runs = np.split(np.asarray(indices), np.flatnonzero(np.diff(indices) > 1) + 1)
    return ", ".join(f"{r[0]}" if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


def rasterise(
    contours_mm: Sequence[NDArray[np.float64]], grid: Grid, plane_distance_mm: float
) -> tuple[Mask, int]:
    """Fill planar contours of one ROI on a grid, even-odd, so that a contour in another is a hole.

    A slice takes the nearest plane of contours within half the distance between planes, or within
    half a slice where the planes are closer than the slices.

    Args:
        contours_mm: points (n, 3) in the patient frame (LPS, mm), one array per contour.
        plane_distance_mm: slice spacing of the images that the contours were drawn on.

    Returns:
        The mask (z, y, x), and how many contours lie outside the grid.
    """
    mask = np.zeros(grid.size[::-1], np.uint8)
    planes, outside = _planes(contours_mm, grid)
    if not planes:
        return mask, outside
    depths = np.array([plane.depth_index for plane in planes])
    reach = max(1.0, plane_distance_mm / grid.spacing_mm[2]) / 2
    for index in range(grid.size[2]):
        nearest = int(np.abs(depths - index).argmin())
        if abs(depths[nearest] - index) <= reach + 1e-6:
            mask[index] = planes[nearest].mask
    return mask, outside


def _planes(contours_mm: Sequence[NDArray[np.float64]], grid: Grid) -> tuple[list[_Plane], int]:
    """Contours as filled planes sorted by depth; and how many lie outside the grid."""
    planes: list[_Plane] = []
    outside = 0
    indexed = sorted((grid.indices(points) for points in contours_mm), key=lambda p: p[:, 2].mean())
    for points in indexed:
        depth = float(points[:, 2].mean())
        if not -0.5 <= depth <= grid.size[2] - 0.5 or _beside(points, grid):
            outside += 1
            continue
        filled = _filled(points[:, :2], (grid.size[1], grid.size[0]))
        if planes and (depth - planes[-1].depth_index) * grid.spacing_mm[2] < _SAME_PLANE_MM:
            planes[-1] = _Plane(planes[-1].depth_index, planes[-1].mask ^ filled)
        else:
            planes.append(_Plane(depth, filled))
    return planes, outside


def _filled(points: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels (rows, columns) whose centres lie in or on a polygon (n, 2) of x and y, even-odd.

    Row by row, each edge inverts what is right of it. (``skimage.draw.polygon``, which gives the
    same, tests every pixel against every edge: seconds, for contours that follow voxel edges.)
    """
    x, y = points.T
    far_x, far_y = np.roll(points, -1, axis=0).T
    low, high = np.minimum(y, far_y), np.maximum(y, far_y)
    first, end = np.clip([np.ceil(low), np.floor(high) + 1], 0, shape[0]).astype(np.intp)
    count = np.maximum(end - first, 0)
    edge = np.repeat(np.arange(len(points)), count)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    level = low[edge] == high[edge]
    rise = np.where(level, 1.0, (far_y - y)[edge])
    crossing = x[edge] + (row - y[edge]) * (far_x - x)[edge] / rise
    inverts = ~level & (row < high[edge])
    column = np.clip(np.ceil(crossing), 0, shape[1]).astype(np.intp)
    inverted = np.zeros((shape[0], shape[1] + 1), np.bool_)
    np.logical_xor.at(inverted, (row[inverts], column[inverts]), True)
    filled = np.logical_xor.accumulate(inverted, axis=1)[:, :-1]
    near = np.rint(crossing)
    on = (np.abs(crossing - near) < _ON_EDGE) & (near >= 0) & (near < shape[1])
    filled[row[on], near[on].astype(np.intp)] = True
    for one in np.flatnonzero(level):
        ends = np.sort((x[edge[one]], far_x[edge[one]]))
        left, right = np.clip([np.ceil(ends[0]), np.floor(ends[1]) + 1], 0, shape[1]).astype(int)
        filled[row[one], left:right] = True
    return filled


def _beside(points: NDArray[np.float64], grid: Grid) -> bool:
    """Does a contour miss the slices, in-plane?"""
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    return bool((high < -0.5).any() or (low > np.asarray(grid.size[:2]) - 0.5).any())
