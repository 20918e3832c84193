"""Input of two and a half dimensions: which slices of a study go with each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_TOLERANCE_MM = 1e-3  # a NIfTI header rounds to float32


@dataclass(frozen=True)
class Neighbours:
    """The slice below and the slice above each slice of a stack.

    Attributes:
        below, above: (n,) by their places in the stack; a slice's own where there is none.
    """

    below: NDArray[np.intp]
    above: NDArray[np.intp]

    def of(self, planes: NDArray[np.float16], picked: list[int]) -> NDArray[np.float16]:
        """(k, 2, S, S) below and above the ``picked`` of the planes (n, S, S)."""
        return np.stack([planes[self.below[picked]], planes[self.above[picked]]], axis=1)


def neighbours_within(z_mm: NDArray[np.float64], reach_mm: float) -> Neighbours:
    """For each slice the farthest on either side that lies within reach, whatever the spacing.

    None farther, so that under ``split.guard_mm`` no neighbour of a normal slice holds a lesion. At
    an end of the stack, or where the spacing is wider, it is the slice itself. Slices are taken as
    they are, since each value is interpolated once.

    Args:
        z_mm: (n,) places along the body, rising or falling, unevenly spaced or not.
        reach_mm: at least 0.
    """
    away = z_mm[None, :] - z_mm[:, None]  # (slice, other)
    within = np.abs(away) <= reach_mm + _TOLERANCE_MM
    below = np.where(within, away, np.inf).argmin(1)
    above = np.where(within, away, -np.inf).argmax(1)
    return Neighbours(below, above)
