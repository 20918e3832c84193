"""Slices in context: the maps of one study, smoothed along the body.

A lesion is a volume and most noise is not, so what neighbouring slices say counts for a slice. How
far away they are is read in mm from ``slices.csv``, never from their place in the stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from petct_uad.slices.tables import ImageRow, read_places

REACH_SIGMAS = 4.0  # in standard deviations: further away a slice weighs below 0.04 %


def z_positions_mm(slices_file: Path, rows: Sequence[ImageRow]) -> NDArray[np.float64]:
    """(n,) where slices lie along the body.

    Args:
        slices_file: ``slices.csv`` of the split stage.
        rows: the slices.

    Raises:
        DatasetError: the table is absent or lacks a slice.
    """
    places = read_places(slices_file, rows)
    z_mm = {name: place.z_mm for study in places.values() for name, place in study.items()}
    return np.array([z_mm[row.slice_id] for row in rows], dtype=np.float64)


def smooth_along_z(
    maps: NDArray[np.float32], studies: Sequence[str], z_mm: NDArray[np.float64], sigma_mm: float
) -> NDArray[np.float32]:
    """Mean of each study's maps around each slice, weighted by a Gaussian of the distance.

    Weights add up to one whatever lies around: at the ends of a study, beside a gap, and where
    spacing is uneven. A slice that was excluded is simply not there.

    Args:
        maps: (n, S, S) of slices of any studies, in any order.
        studies: (n) the study of each.
        z_mm: (n,) its position along the body.
        sigma_mm: standard deviation; 0 gives the maps as they are.
    """
    if sigma_mm == 0:
        return maps
    smooth = np.empty_like(maps)
    names = np.asarray(studies)
    for name in np.unique(names):
        members = np.flatnonzero(names == name)
        for at in members:
            away = (z_mm[members] - z_mm[at]) / sigma_mm
            near = np.abs(away) <= REACH_SIGMAS
            smooth[at] = _mean(maps[members[near]], np.exp(-0.5 * np.square(away[near])))
    return smooth


def _mean(maps: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Summed in the order of the slices, so that no number of threads changes a bit."""
    total: NDArray[np.float64] = np.zeros(maps.shape[1:])
    for one, weight in zip(maps, weights, strict=True):
        total += weight * one
    mean: NDArray[np.float64] = total / weights.sum()
    return mean
