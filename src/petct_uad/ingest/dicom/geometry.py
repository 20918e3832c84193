"""The grid of a stack of slices, from ImagePositionPatient and ImageOrientationPatient alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from petct_uad.core.errors import GeometryError
from petct_uad.ingest.dicom.header import Header

Vector = NDArray[np.float64]

_POSITION = "ImagePositionPatient (0020,0032)"
_ORIENTATION = "ImageOrientationPatient (0020,0037)"
_SPACING = "PixelSpacing (0028,0030)"
SAME_PLACE_MM = 1e-3  # what DICOM's decimal strings lose
SPACING_TOLERANCE_MM = 1e-4
COSINE_TOLERANCE = 1e-3
_DRIFT = 1e-3  # per mm of stack: orientation cosines rounded to three digits


@dataclass(frozen=True)
class Grid:
    """A regular grid in the patient frame (LPS, mm); axes are x (column), y (row), z (slice)."""

    origin_mm: tuple[float, ...]  # centre of the first voxel
    spacing_mm: tuple[float, ...]
    direction: tuple[float, ...]  # 3x3, row-major, columns are the axes
    size: tuple[int, ...]

    def image(self, array: NDArray[np.generic]) -> sitk.Image:
        """The array (z, y, x) as an image on this grid."""
        image = sitk.GetImageFromArray(array)
        image.SetOrigin(self.origin_mm)
        image.SetSpacing(self.spacing_mm)
        image.SetDirection(self.direction)
        return image

    @property
    def axes(self) -> Vector:
        """Unit vectors as the columns of a 3x3 matrix."""
        return np.asarray(self.direction).reshape(3, 3)

    def points(self, index: Vector) -> Vector:
        """Patient coordinates (n, 3) in mm of voxel indices (n, 3) in x, y, z order."""
        offset: Vector = (index * np.asarray(self.spacing_mm)) @ self.axes.T
        return np.asarray(self.origin_mm) + offset

    def indices(self, points_mm: Vector) -> Vector:
        """Continuous voxel indices (n, 3) of patient coordinates (n, 3)."""
        offset = (points_mm - np.asarray(self.origin_mm)) @ self.axes
        index: Vector = offset / np.asarray(self.spacing_mm)
        return index

    def corners(self) -> Vector:
        """Patient coordinates (8, 3) of the outer corners, half a voxel beyond the centres."""
        edges = [(-0.5, count - 0.5) for count in self.size]
        return self.points(np.stack(np.meshgrid(*edges), axis=-1).reshape(-1, 3))

    def slice_centres(self) -> Vector:
        """Patient coordinates (z, 3) of the middle of each slice."""
        count = self.size[2]
        middle = np.tile([(self.size[0] - 1) / 2, (self.size[1] - 1) / 2, 0.0], (count, 1))
        middle[:, 2] = np.arange(count)
        return self.points(middle)


@dataclass(frozen=True)
class Stack:
    """Slices in their order along the normal, and the grid they make."""

    headers: tuple[Header, ...]
    grid: Grid


def stack_slices(headers: Sequence[Header], max_gap_mm: float) -> Stack:
    """Order slices along their normal and check that they make a regular grid.

    Args:
        max_gap_mm: how far a slice may lie from its place on an evenly spaced grid.

    Raises:
        GeometryError: fewer than two slices, a missing tag, mixed matrices, spacings or
            orientations, a duplicate position, an uneven gap (a missing slice), or a tilt.
    """
    _check_alike(headers)
    first = headers[0]
    axes = _axes(first)
    positions = np.array([_required(h.position_mm, h, _POSITION) for h in headers])
    depth = positions @ axes[:, 2]
    order = np.argsort(depth, kind="stable")
    ordered = tuple(headers[i] for i in order)
    tolerance = max(max_gap_mm, SAME_PLACE_MM)
    spacing = _slice_spacing(ordered, depth[order], tolerance)
    _check_shear(ordered, positions[order], axes, tolerance)
    row_mm, column_mm = first.pixel_spacing_mm or (0.0, 0.0)
    grid = Grid(
        origin_mm=tuple(positions[order[0]].tolist()),
        spacing_mm=(column_mm, row_mm, spacing),
        direction=tuple(axes.ravel().tolist()),
        size=(first.columns, first.rows, len(ordered)),
    )
    return Stack(ordered, grid)


def overlap_mm(one: Grid, other: Grid) -> Vector:
    """Shared extent (3,) of two grids along the patient axes; negative where they are apart."""
    ours, theirs = one.corners(), other.corners()
    shared: Vector = np.minimum(ours.max(0), theirs.max(0)) - np.maximum(ours.min(0), theirs.min(0))
    return shared


def _check_alike(headers: Sequence[Header]) -> None:
    if len(headers) < 2:
        raise _wrong(headers[0], "a single slice", "at least two slices")
    first = headers[0]
    if not first.rows or not first.columns:
        raise _wrong(first, "no Rows (0028,0010) or Columns (0028,0011)", "a matrix size")
    for header in headers:
        if (header.rows, header.columns) != (first.rows, first.columns):
            found = f"a {header.rows}x{header.columns} matrix"
            raise _wrong(header, found, f"{first.rows}x{first.columns} as in {first.file}")
        _check_close(_SPACING, header, first, SPACING_TOLERANCE_MM)
        _check_close(_ORIENTATION, header, first, COSINE_TOLERANCE)


def _check_close(tag: str, header: Header, first: Header, tolerance: float) -> None:
    mine, other = (
        _required(h.pixel_spacing_mm if tag == _SPACING else h.orientation, h, tag)
        for h in (header, first)
    )
    if tag == _SPACING and min(mine) <= 0:
        raise _wrong(header, f"{tag} {mine}", "positive numbers")
    if not np.allclose(mine, other, rtol=0, atol=tolerance):
        raise _wrong(header, f"{tag} {mine}", f"{other} as in {first.file}")


def _required(value: tuple[float, ...] | None, header: Header, tag: str) -> tuple[float, ...]:
    if value is None:
        raise _wrong(header, f"{tag} missing or not finite numbers", "a value on every slice")
    return value


def _axes(header: Header) -> Vector:
    """Orthonormal axes as columns: along a row, along a column, along the normal."""
    cosines = np.asarray(_required(header.orientation, header, _ORIENTATION))
    row, column = cosines[:3], cosines[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not np.allclose(lengths, 1, atol=1e-2) or abs(row @ column) > 1e-2:
        raise _wrong(header, f"{_ORIENTATION} {header.orientation}", "two orthogonal unit vectors")
    row = row / lengths[0]
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    return np.column_stack([row, np.cross(normal, row), normal])


def _slice_spacing(headers: Sequence[Header], depth: Vector, tolerance: float) -> float:
    gaps = np.diff(depth)
    usual = float(np.median(gaps))
    if gaps.min() < max(SAME_PLACE_MM, 0.01 * usual):
        at = int(gaps.argmin())
        found = f"the position {depth[at]:.3f} mm twice, also in {headers[at + 1].file}"
        raise _wrong(headers[at], found, "one slice per position along the normal")
    worst = int(np.abs(gaps - usual).argmax())
    if abs(gaps[worst] - usual) > tolerance:
        found = f"a gap of {gaps[worst]:.3f} mm before {headers[worst + 1].file}"
        missing = round(float(gaps[worst]) / usual) - 1
        expected = f"{usual:.3f} mm within {tolerance} mm"
        raise _wrong(headers[worst], found, expected, f"{missing} missing?" if missing > 0 else "")
    spacing = float(depth[-1] - depth[0]) / (len(depth) - 1)
    offset = np.abs(depth - depth[0] - spacing * np.arange(len(depth)))
    if offset.max() > tolerance:
        at = int(offset.argmax())
        found = f"a slice {offset[at]:.3f} mm from its place on an even grid"
        raise _wrong(headers[at], found, f"within {tolerance} mm (ingest.max_gap_mm)")
    return spacing


def _check_shear(
    headers: Sequence[Header], positions: Vector, axes: Vector, tolerance: float
) -> None:
    travel = positions - positions[0]
    drift = np.linalg.norm(travel @ axes[:, :2], axis=1)
    worst = int(drift.argmax())
    if drift[worst] > tolerance + _DRIFT * np.linalg.norm(travel[worst]):
        found = f"slices shifted in-plane by {drift[worst]:.3f} mm over the stack (gantry tilt?)"
        raise _wrong(headers[worst], found, "slices stacked along their normal")


def _wrong(header: Header, found: str, expected: str, hint: str = "") -> GeometryError:
    advice = f"Export series {header.series_instance_uid} again, with all of its slices."
    return GeometryError(
        header.file, found=found, expected=expected, advice=f"{hint} {advice}".strip()
    )
