"""Regular voxel grids in the patient frame, and smooth random fields on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Grid:
    """Voxel centres along each axis, LPS, in mm; arrays on it are indexed (z, y, x)."""

    x: Floats
    y: Floats
    z: Floats

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x)."""
        return len(self.z), len(self.y), len(self.x)

    @property
    def spacing(self) -> Vector:
        """Voxel size (z, y, x) in mm."""
        axes = (self.z, self.y, self.x)
        dz, dy, dx = (float(axis[-1] - axis[0]) / (len(axis) - 1) for axis in axes)
        return dz, dy, dx

    def box(self, centre: Vector, reach_mm: float) -> tuple[slice, slice, slice]:
        """The voxels within ``reach_mm`` of ``centre`` (x, y, z) along each axis."""
        axes = (self.z, self.y, self.x)
        ranges = zip(axes, centre[::-1], strict=True)
        return _cut(*[np.searchsorted(a, (c - reach_mm, c + reach_mm)) for a, c in ranges])

    def part(self, box: tuple[slice, slice, slice]) -> Grid:
        """The grid of the voxels in ``box``."""
        return Grid(self.x[box[2]], self.y[box[1]], self.z[box[0]])


def axis(start_mm: float, step_mm: float, count: int) -> Floats:
    """Positions ``start``, ``start + step``, ... in mm."""
    return (start_mm + step_mm * np.arange(count)).astype(np.float32)


def smooth_noise(rng: np.random.Generator, grid: Grid, scale_mm: float) -> Floats:
    """A random field with zero mean, unit spread and a correlation length, on ``grid``."""
    white = rng.standard_normal(grid.shape, dtype=np.float32)
    sigmas = [scale_mm / step for step in grid.spacing]
    field = ndimage.gaussian_filter(white, sigmas, truncate=2.5)
    return np.asarray(field / max(float(field.std()), 1e-6), dtype=np.float32)


def _cut(*bounds: npt.NDArray[np.intp]) -> tuple[slice, slice, slice]:
    z, y, x = (slice(int(low), int(high)) for low, high in bounds)
    return z, y, x
