"""The pulmonary vessels: two seeded trees that grow from the hila into the lungs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from petct_uad.phantom.canvas import depth_in_tube
from petct_uad.phantom.grids import Floats, Grid, Vector

_THINNEST_MM = 0.7
_Direction = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Segment:
    """A tapered piece of vessel, in anatomy coordinates (mm)."""

    start: Vector
    end: Vector
    radii: tuple[float, float]


def grow_vessels(rng: np.random.Generator, cavity_half_width: float) -> list[Segment]:
    """Arteries and veins of both lungs, from about 6 mm at the hilum down to 0.7 mm."""
    reach = cavity_half_width / 130.0
    segments: list[Segment] = []
    for side in (-1.0, 1.0):
        for start, aim in (
            ((34, 8, -8), (0.75, 0.2, 0.75)),
            ((38, 6, -14), (0.85, -0.5, -0.1)),
            ((38, 14, -24), (0.55, 0.35, -0.85)),
            ((34, 14, -18), (0.8, 0.65, 0.15)),
            ((40, 2, -26), (0.7, -0.25, -0.7)),
        ):
            root: Vector = (side * start[0], float(start[1]), float(start[2]))
            direction = np.array([side * aim[0], aim[1], aim[2]]) / np.linalg.norm(aim)
            radius = 5.6 * float(rng.uniform(0.85, 1.1))
            _grow(rng, segments, root, direction, radius=radius, reach=reach)
    return segments


def vessel_fraction(segments: list[Segment], grid: Grid) -> Floats:
    """How much of each voxel is vessel, 0 to 1, on a grid in anatomy coordinates."""
    fraction = np.zeros(grid.shape, dtype=np.float32)
    softness = max(grid.spacing[1:])
    for segment in segments:
        middle = np.add(segment.start, segment.end) / 2
        reach = float(np.linalg.norm(np.subtract(segment.end, segment.start))) / 2 + 8.0
        box = grid.box((middle[0], middle[1], middle[2]), reach)
        part = grid.part(box)
        points = part.x[None, None, :], part.y[None, :, None], part.z[:, None, None]
        depth = depth_in_tube(points, segment.start, segment.end, segment.radii)
        np.maximum(fraction[box], np.clip(0.5 + depth / softness, 0, 1), out=fraction[box])
    return fraction


def _grow(
    rng: np.random.Generator,
    segments: list[Segment],
    start: Vector,
    direction: _Direction,
    *,
    radius: float,
    reach: float,
) -> None:
    """Add one piece and, from its end, a thick and a thin daughter."""
    length = reach * (7.0 + 4.2 * radius) * float(rng.uniform(0.75, 1.25))
    tip = np.array(start) + length * direction
    end: Vector = (float(tip[0]), float(tip[1]), float(tip[2]))
    segments.append(Segment(start, end, (radius, 0.86 * radius)))
    for share, turn in ((rng.uniform(0.78, 0.86), 0.28), (rng.uniform(0.58, 0.7), 0.75)):
        if share * radius > _THINNEST_MM:
            bent = direction + turn * rng.standard_normal(3)
            bent /= np.linalg.norm(bent)
            _grow(rng, segments, end, bent, radius=share * radius, reach=reach)
