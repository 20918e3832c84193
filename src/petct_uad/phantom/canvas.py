"""Labels under construction, and the shapes that organs are painted with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from petct_uad.phantom.anatomy import Anatomy
from petct_uad.phantom.grids import Floats, Grid, Mask, Vector
from petct_uad.phantom.tissue import Tissue

Labels = npt.NDArray[np.uint8]
Inside = Callable[[Floats, Floats, Floats], Mask]

_WARP_MM = 12.0  # more than the waves can displace


class Canvas:
    """Labels under construction, with each voxel's warped anatomy coordinates in mm."""

    def __init__(self, anatomy: Anatomy, grid: Grid) -> None:
        self.grid = grid
        self.labels: Labels = np.zeros(grid.shape, dtype=np.uint8)
        z, y, x = grid.z[:, None, None], grid.y[None, :, None], grid.x[None, None, :]
        shift = _warp(anatomy, x, y, z)
        self.x, self.y, self.z = x + shift[0], y + shift[1], z + shift[2]
        self.outside, self.angle = self._cavity(anatomy)

    def paint(
        self,
        tissue: Tissue,
        inside: Inside,
        centre: Vector | None = None,
        reach_mm: float = 0.0,
        over: Sequence[Tissue] = (),
    ) -> None:
        """Label the voxels that ``inside`` (warped x, y, z in mm) accepts.

        Args:
            centre: with ``reach_mm``, the only part of space that is looked at.
            over: the tissues that may be painted over; empty means all.
        """
        box = (slice(None),) * 3
        if centre is not None:
            box = self.grid.box(centre, reach_mm + _WARP_MM)
        labels = self.labels[box]
        chosen = inside(self.x[box], self.y[box], self.z[box])
        if over:
            chosen = chosen & _among(labels, over)
        labels[chosen] = tissue

    def is_any(self, tissues: Sequence[Tissue]) -> Mask:
        """Which voxels (z, y, x) are labelled as one of these."""
        return _among(self.labels, tissues)

    def _cavity(self, anatomy: Anatomy) -> tuple[Floats, Floats]:
        """Distance outside the pleura (mm, along the radius), and angle from back to front."""
        taper = 1.0 - 0.30 * np.clip((self.grid.z - 10.0) / 110.0, 0, 1)[:, None, None] ** 1.5
        across = np.abs(self.x) / (anatomy.cavity_half_width * taper)
        deep = np.abs(self.y) / (anatomy.cavity_half_depth * (0.4 + 0.6 * taper))
        # A superellipse of exponent 2.5, through square roots, since powers are slow.
        level = (across**2 * np.sqrt(across) + deep**2 * np.sqrt(deep)) ** np.float32(0.4)
        radius = np.sqrt(self.x**2 + self.y**2)
        distance = radius * (1.0 - 1.0 / np.maximum(level, np.float32(1e-3)))
        angle = np.arctan2(np.abs(self.x), self.y)
        return distance.astype(np.float32), angle.astype(np.float32)


def ellipsoid(centre: Vector, half_axes: Vector) -> Inside:
    """Inside test of an axis-parallel ellipsoid."""
    (cx, cy, cz), (a, b, c) = centre, half_axes
    return lambda x, y, z: ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 + ((z - cz) / c) ** 2 < 1.0


def depth_in_tube(
    points: tuple[Floats, Floats, Floats], start: Vector, end: Vector, radii: tuple[float, float]
) -> Floats:
    """How deep each point lies inside a tapered capsule, in mm; negative outside."""
    axis = np.subtract(end, start).astype(np.float32)
    offsets = [p - np.float32(s) for p, s in zip(points, start, strict=True)]
    along = sum(o * a for o, a in zip(offsets, axis, strict=True)) / max(float(axis @ axis), 1e-6)
    along = np.clip(along, 0.0, 1.0)
    squared = sum((o - along * a) ** 2 for o, a in zip(offsets, axis, strict=True))
    radius = radii[0] + along * (radii[1] - radii[0])
    return np.asarray(radius - np.sqrt(squared), dtype=np.float32)


def tube(
    canvas: Canvas,
    tissue: Tissue,
    path: Sequence[Vector],
    radius: float,
    over: Sequence[Tissue] = (),
) -> None:
    """Label the capsules of one radius (mm) along a path, where ``over`` allows it."""
    for start, end in pairwise(path):
        middle = tuple((s + e) / 2 for s, e in zip(start, end, strict=True))
        reach = float(np.linalg.norm(np.subtract(end, start))) / 2 + radius

        def inside(x: Floats, y: Floats, z: Floats, s: Vector = start, e: Vector = end) -> Mask:
            return depth_in_tube((x, y, z), s, e, (radius, radius)) > 0

        canvas.paint(tissue, inside, (middle[0], middle[1], middle[2]), reach, over)


def _warp(anatomy: Anatomy, x: Floats, y: Floats, z: Floats) -> list[Floats]:
    """A smooth displacement, the sum of a few waves, so that no organ is an exact ellipsoid."""
    total = [np.zeros((1, 1, 1), dtype=np.float32)] * 3
    for amplitudes, numbers, phases in anatomy.waves:
        wave = (
            np.sin(numbers[0] * x + phases[0])
            * np.sin(numbers[1] * y + phases[1])
            * np.sin(numbers[2] * z + phases[2])
        )
        total = [t + np.float32(a) * wave for t, a in zip(total, amplitudes, strict=True)]
    return total


def _among(labels: Labels, tissues: Sequence[Tissue]) -> Mask:
    table = np.zeros(256, dtype=bool)
    table[list(tissues)] = True
    return np.asarray(table[labels])
