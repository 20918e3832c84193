"""A DICOM Segmentation (PS3.3 A.51, label maps of Supplement 243 too) on the voxels of the CT.

A frame lies where its own position says: empty frames may be left out, and Spacing Between Slices
(0018,0088) may be missing, so that the distance between frames says nothing of their thickness.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from petct_uad.core.errors import OtherFrameError
from petct_uad.ingest.dicom.contours import LABEL_ADVICE
from petct_uad.ingest.dicom.drawing import (
    Drawing,
    Mask,
    PairedImages,
    empty_between,
    wrong_label,
)
from petct_uad.ingest.dicom.geometry import Grid, Stack
from petct_uad.ingest.dicom.header import Header
from petct_uad.ingest.dicom.label_names import NamedObject
from petct_uad.ingest.dicom.parsing import read_dataset

if TYPE_CHECKING:
    import highdicom

Vector = NDArray[np.float64]

_SAME_PLACE = 0.05  # voxels: a frame is a slice of the images that it lies on
_EDGE = 1e-6  # mm
_HALF = 0.5  # of Maximum Fractional Value (0062,000E): what is lesion more likely than not


@dataclass(frozen=True)
class _Frame:
    """One frame of one segment, and its place in the patient frame (LPS, mm)."""

    pixels: NDArray[np.bool_]  # (rows, columns)
    origin_mm: Vector  # (3,), centre of the first pixel
    axes: Vector  # (3, 3), columns: along a row, along a column, along the normal
    spacing_mm: tuple[float, float]  # between columns, between rows

    @property
    def depth_mm(self) -> float:
        return float(self.origin_mm @ self.axes[:, 2])

    def points(self, index: Vector) -> Vector:
        """Patient coordinates (n, 3) of continuous (column, row, mm along the normal)."""
        scale = np.array([*self.spacing_mm, 1.0])
        placed: Vector = self.origin_mm + (index * scale) @ self.axes.T
        return placed

    def indices(self, points_mm: Vector) -> Vector:
        """The reverse of ``points``."""
        found: Vector = ((points_mm - self.origin_mm) @ self.axes) / [*self.spacing_mm, 1.0]
        return found


@dataclass(frozen=True)
class _Slab:
    """A frame, and what lies nearest to it: from ``low_mm`` to ``high_mm`` along its normal."""

    frame: _Frame
    low_mm: float
    high_mm: float


def draw_segments(path: Path, named: NamedObject, images: PairedImages) -> Drawing:
    """Draw the segments of a SEG that are lesions on the CT's grid.

    Raises:
        LabelError: a frame of reference that is not that of the images, or lesions that fall
            between the CT's voxels.
        Exception: whatever highdicom and pydicom raise on objects that break their own rules.
    """
    import highdicom

    # It writes UIDs of the file to the terminal; what is wrong with a SEG is raised or noted.
    logging.getLogger("highdicom").setLevel(logging.CRITICAL)
    header = named.header
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seg = highdicom.seg.Segmentation.from_dataset(read_dataset(path, True), copy=False)
    _check_frame(header, str(seg.get("FrameOfReferenceUID", "")), images)
    grid = images.ct.grid
    mask, outside, voxels = np.zeros(grid.size[::-1], np.uint8), 0, 0
    numbers = _numbers(seg)
    for number in named.lesion_numbers:
        frames = list(_frames(seg, number, numbers))
        for slab in _slabs(frames, seg, images):
            outside += _draw(mask, slab, grid)
            voxels += int(slab.frame.pixels.sum())
    if voxels > outside and not mask.any():
        raise wrong_label(header, f"lesions of {voxels} voxels that hold the centre of no CT voxel",
                          "lesions that the CT's voxels can show")  # fmt: skip
    gap = empty_between(mask)
    return Drawing(mask, outside, (f"the SEG {header.file}: {gap}",) if gap else ())


def _numbers(seg: Dataset) -> list[int | None]:
    """Which segment each frame is of; None in a label map, whose pixels say it."""
    frames = seg.PerFrameFunctionalGroupsSequence
    if seg.SegmentationType == "LABELMAP":
        return [None] * len(frames)
    groups = (_group(seg, own, "SegmentIdentificationSequence") for own in frames)
    return [int(group.ReferencedSegmentNumber) for group in groups]


def _frames(
    seg: highdicom.seg.Segmentation, number: int, numbers: Sequence[int | None]
) -> Iterator[_Frame]:
    """The frames of one segment that are not empty, in the order of the file."""
    least = float(seg.get("MaximumFractionalValue", 1)) * _HALF
    for index, of_frame in enumerate(numbers):
        if of_frame in {None, number}:
            stored = seg.get_stored_frame(index, as_index=True)
            pixels = stored == number if of_frame is None else stored >= least
            if pixels.any():
                yield _placed(seg, seg.PerFrameFunctionalGroupsSequence[index], pixels)


def _placed(seg: Dataset, own: Dataset, pixels: NDArray[np.bool_]) -> _Frame:
    """A frame at its Image Position (Patient) (0020,0032)."""
    cosines = _group(seg, own, "PlaneOrientationSequence").ImageOrientationPatient
    row, column = np.array(cosines[:3], float), np.array(cosines[3:], float)
    row_mm, column_mm = _group(seg, own, "PixelMeasuresSequence").PixelSpacing
    return _Frame(
        pixels=pixels,
        origin_mm=np.array(_group(seg, own, "PlanePositionSequence").ImagePositionPatient, float),
        axes=np.column_stack([row, column, np.cross(row, column)]),
        spacing_mm=(float(column_mm), float(row_mm)),
    )


def _group(seg: Dataset, own: Dataset, name: str) -> Dataset:
    """The item of a functional group: the frame's own, or that which all frames share."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    item: Dataset = (own if own.get(name) else shared)[name].value[0]
    return item


def _slabs(frames: Sequence[_Frame], seg: Dataset, images: PairedImages) -> Iterator[_Slab]:
    """Each frame with half of its thickness on either side, and no further than the next frame.

    Frames that are thinner than the CT's slices stand for a whole slice: nothing falls between.
    """
    ordered = sorted(frames, key=lambda frame: frame.depth_mm)
    if not ordered:
        return
    normal = ordered[0].axes[:, 2]
    slice_mm = images.ct.grid.spacing_mm[2] * abs(float(normal @ images.ct.grid.axes[:, 2]))
    half = max(_thickness_mm(ordered, seg, images), slice_mm) / 2
    depths = np.array([frame.depth_mm for frame in ordered])
    for frame, depth in zip(ordered, depths, strict=True):
        away = depths - depth
        below = away[away < -_EDGE].max(initial=-np.inf)
        above = away[away > _EDGE].min(initial=np.inf)
        yield _Slab(frame, max(-half, below / 2), min(half, above / 2))


def _thickness_mm(ordered: Sequence[_Frame], seg: Dataset, images: PairedImages) -> float:
    """Of one frame: that of the slice that it lies on, else as it says, else the nearest gap."""
    for stack in (images.drawn_on, images.ct, images.pet):
        if all(_is_slice(frame, stack) for frame in ordered):
            return stack.grid.spacing_mm[2]
    measures = _group(seg, seg.PerFrameFunctionalGroupsSequence[0], "PixelMeasuresSequence")
    if stated := measures.get("SpacingBetweenSlices"):
        return abs(float(stated))
    gaps = [other.depth_mm - one.depth_mm for one, other in pairwise(ordered)]
    nearest = [gap for gap in gaps if gap > _EDGE]
    return min(nearest, default=float(measures.get("SliceThickness") or 0.0))


def _is_slice(frame: _Frame, stack: Stack) -> bool:
    """Does a frame lie on a slice of a stack, pixel on pixel?"""
    rows, columns = frame.pixels.shape
    grid = stack.grid
    if (columns, rows) != tuple(grid.size[:2]):
        return False
    ends = frame.points(np.array([[0.0, 0, 0], [columns - 1, rows - 1, 0]]))
    index = grid.indices(ends)
    there = np.array([[0.0, 0.0], [columns - 1, rows - 1]])
    return bool(
        np.allclose(index[:, :2], there, atol=_SAME_PLACE)
        and np.allclose(index[:, 2], np.rint(index[0, 2]), atol=_SAME_PLACE)
    )


def _draw(mask: Mask, slab: _Slab, grid: Grid) -> int:
    """Mark the CT voxels whose centres lie in a frame; how many of its voxels lie outside the CT.

    Args:
        mask: (z, y, x); changed in place.
    """
    frame = slab.frame
    rows, columns = np.nonzero(frame.pixels)
    centres = np.column_stack([columns, rows, np.zeros(len(rows))]).astype(float)
    index = grid.indices(frame.points(centres))
    beyond = (index < -0.5) | (index > np.asarray(grid.size) - 0.5)
    block = _block(slab, centres, grid)
    if block is not None:
        z, y, x = np.ogrid[block]
        shape = np.broadcast_shapes(z.shape, y.shape, x.shape)
        voxels = np.stack([np.broadcast_to(axis, shape).ravel() for axis in (x, y, z)], axis=1)
        drawn = _within(slab, grid.points(voxels.astype(float)))
        mask[block] |= drawn.reshape(shape)
    return int(beyond.any(axis=1).sum())


def _block(slab: _Slab, centres: Vector, grid: Grid) -> tuple[slice, ...] | None:
    """The CT voxels (z, y, x) around a slab; None where there are none."""
    low = [*(centres[:, :2].min(0) - 0.5), slab.low_mm]
    high = [*(centres[:, :2].max(0) + 0.5), slab.high_mm]
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True)), axis=-1).reshape(-1, 3)
    index = grid.indices(slab.frame.points(corners))
    first = np.maximum(np.floor(index.min(0)), 0).astype(int)
    end = np.minimum(np.ceil(index.max(0)) + 1, grid.size).astype(int)
    if (end <= first).any():
        return None
    return tuple(slice(a, b) for a, b in zip(first[::-1], end[::-1], strict=True))


def _within(slab: _Slab, points_mm: Vector) -> NDArray[np.bool_]:
    """Which points (n, 3) lie in a pixel that is set, and nearer to its frame than to the next."""
    frame = slab.frame
    column, row, depth_mm = frame.indices(points_mm).T
    x, y = np.floor(column + 0.5).astype(int), np.floor(row + 0.5).astype(int)
    rows, columns = frame.pixels.shape
    # A point half-way belongs to one of two frames.
    near = (depth_mm >= slab.low_mm - _EDGE) & (depth_mm < slab.high_mm - _EDGE)
    there: NDArray[np.bool_] = near & (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    there[there] = frame.pixels[y[there], x[there]]
    return there


def _check_frame(header: Header, frame: str, images: PairedImages) -> None:
    if not frame or frame not in images.frames:
        raise OtherFrameError(
            header.file,
            found=f"Frame of Reference UID (0020,0052) {frame or 'missing'}",
            expected=f"{' or '.join(filter(None, images.frames)) or 'one'}, that of its images",
            advice=LABEL_ADVICE,
        )
