"""The grids that a page's volumes lie on: those of the pipeline, coarser where they are large."""

from __future__ import annotations

import math

import SimpleITK as sitk

_MARGIN_MM = 10.0
_WIDER = 1.25


def view_grid(body: sitk.Image, most_voxels: int) -> sitk.Image:
    """An empty image around the body, on the slices of register, for CT, PET and label.

    Args:
        body: of register, cut to its bounding box in-plane.
        most_voxels: how many it may have.
    """
    x_mm, y_mm, _ = body.GetSpacing()
    columns, rows = (math.ceil(_MARGIN_MM / step) for step in (x_mm, y_mm))
    width, height, slices = body.GetSize()
    grid = sitk.Image([width + 2 * columns, height + 2 * rows, slices], sitk.sitkUInt8)
    grid.SetOrigin(body.TransformIndexToPhysicalPoint((-columns, -rows, 0)))
    grid.SetSpacing(body.GetSpacing())
    grid.SetDirection(body.GetDirection())
    return within(grid, most_voxels)


def within(grid: sitk.Image, most_voxels: int) -> sitk.Image:
    """An empty image over the same extent with at most so many voxels, which stay near cubes."""
    size, spacing = list(grid.GetSize()), list(grid.GetSpacing())
    extent = [count * step for count, step in zip(size, spacing, strict=True)]
    while math.prod(size) > most_voxels:
        finest = min((step, axis) for axis, step in enumerate(spacing) if size[axis] > 1)[1]
        spacing[finest] *= _WIDER
        size[finest] = max(round(extent[finest] / spacing[finest]), 1)
    return _over(grid, size, [x / count for x, count in zip(extent, size, strict=True)])


def _over(grid: sitk.Image, size: list[int], spacing: list[float]) -> sitk.Image:
    """An image of this size and spacing (mm) whose outer edges are those of ``grid``."""
    first = [(new / old - 1) / 2 for new, old in zip(spacing, grid.GetSpacing(), strict=True)]
    over = sitk.Image(size, sitk.sitkUInt8)
    over.SetOrigin(grid.TransformContinuousIndexToPhysicalPoint(first))
    over.SetSpacing(spacing)
    over.SetDirection(grid.GetDirection())
    return over
