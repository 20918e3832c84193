"""Test slices as volumes: the lesions of each study in three dimensions.

Slices are stacked along the body as ``slices.csv`` places them. Where slices are in no split, or in
another one, the stack has a gap: nothing is known there, so that no lesion and no finding reaches
across one, and what lies on both sides of it counts twice. A slice that is called abnormal though
no pixel of its mask is lesion, since that is too small for the model's grid, makes a gap too: what
a map shows there is neither found nor false. A picture is a stack of one slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from petct_uad.slices.store import ImageStack, read_bodies
from petct_uad.slices.tables import ImageRow, SliceRow, read_places

# Voxels that share a face or an edge are of one lesion, or of one finding, as autoPET counts them.
NEIGHBOURS: NDArray[np.bool_] = ndimage.generate_binary_structure(3, 2)
_MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class Grid:
    """Where test slices lie.

    Attributes:
        levels: (n,) the ``slice_index`` of each: two slices of a study are neighbours where theirs
            are.
        voxel_ml: (n,) volume of a pixel of each; NaN for pictures, which have no size.
    """

    levels: NDArray[np.int64]
    voxel_ml: NDArray[np.float64]

    @classmethod
    def read(cls, processed: Path, slices_file: Path, rows: Sequence[ImageRow]) -> Grid:
        """The grid of slices.

        A pixel's area is that of the body in a study's slices (``index.csv``) over the pixels that
        the body takes in their shard; its depth is the distance of neighbouring slices.

        Args:
            processed: with the shards.
            slices_file: ``slices.csv`` of the split stage.
            rows: the n slices.

        Raises:
            DatasetError: a table or shard is absent, or ``slices.csv`` lacks a slice.
        """
        places = read_places(slices_file, rows)
        voxel_ml = np.full(len(rows), np.nan)
        studies = np.array([row.study_id for row in rows])
        for study in np.unique(studies):
            of = np.flatnonzero(studies == study)
            members = [rows[i] for i in of.tolist()]
            area_mm2 = pixel_area_mm2(members, int(read_bodies(processed, members).sum()))
            voxel_ml[of] = area_mm2 * _distance_mm(places[study]) / _MM3_PER_ML
        levels = [places[row.study_id][row.slice_id].slice_index for row in rows]
        return cls(np.array(levels, dtype=np.int64), voxel_ml)


@dataclass(frozen=True)
class Stack:
    """The test slices of one study as a volume of D planes, some of which may be gaps.

    Attributes:
        slices: (k,) which of the test slices, along the body.
        planes: (k,) the plane of each.
        owner: the index of the study's patient.
        shape: (D, S, S).
        inside: (v,) the flat indices of the voxels of all lesions.
        lesion_of: (v,) which lesion each of those belongs to, from 0.
        count: of lesions.
        voxel_ml: of a voxel; NaN for a picture.
    """

    slices: NDArray[np.intp]
    planes: NDArray[np.intp]
    owner: int
    shape: tuple[int, ...]
    inside: NDArray[np.intp]
    lesion_of: NDArray[np.intp]
    count: int
    voxel_ml: float

    def above(self, maps: ImageStack, threshold: float) -> NDArray[np.bool_]:
        """(D, S, S) where the maps (n, S, S) of all test slices exceed ``threshold``."""
        volume = np.zeros(self.shape, dtype=np.bool_)
        volume[self.planes] = maps[self.slices.tolist()] > threshold
        return volume

    def volume(self, maps: ImageStack) -> NDArray[np.float32]:
        """(D, S, S) of the maps (n, S, S) of all test slices, 0 in gaps."""
        volume = np.zeros(self.shape, dtype=np.float32)
        volume[self.planes] = maps[self.slices.tolist()]
        return volume


def pixel_area_mm2(rows: Iterable[ImageRow], body_px: int) -> float:
    """Of a study: the area of the body in its slices over the pixels that the body takes there."""
    return sum(row.body_area_mm2 for row in rows) / max(body_px, 1)


def stacks_of(
    rows: Sequence[ImageRow],
    owners: NDArray[np.intp],
    lesions: ImageStack,
    grid: Grid,
) -> tuple[Stack, ...]:
    """One stack per study, by its name; none where no slice has a lesion mask.

    Args:
        rows: the n test slices.
        owners: (n,) index of each slice's patient.
        lesions: (n, S, S) their masks, of which one study's are in memory at a time.
        grid: where they lie.
    """
    members: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        members.setdefault(row.study_id, []).append(i)
    stacks = []
    for _, of in sorted(members.items()):
        masks = lesions[of] > 0
        known = masks.any(axis=(1, 2)) | np.array([rows[i].label == 0 for i in of])
        if known.any():
            stacks.append(_stack(np.array(of)[known], owners, masks[known], grid))
    return tuple(stacks) if any(stack.count for stack in stacks) else ()


def _stack(
    of: NDArray[np.intp], owners: NDArray[np.intp], masks: NDArray[np.bool_], grid: Grid
) -> Stack:
    order = np.argsort(grid.levels[of], kind="stable")
    slices = of[order]
    # One empty plane parts what lies on both sides of a gap, however long it is.
    planes = np.cumsum(np.minimum(np.diff(grid.levels[slices], prepend=grid.levels[slices[0]]), 2))
    volume = np.zeros((planes[-1] + 1, *masks.shape[1:]), dtype=np.bool_)
    volume[planes] = masks[order]
    labelled, count = ndimage.label(volume, NEIGHBOURS)
    inside, first = np.flatnonzero(labelled), slices[0]
    return Stack(
        slices=slices,
        planes=planes,
        owner=int(owners[first]),
        shape=volume.shape,
        inside=inside,
        lesion_of=labelled.ravel()[inside].astype(np.intp) - 1,
        count=count,
        voxel_ml=float(grid.voxel_ml[first]),
    )


def _distance_mm(places: dict[str, SliceRow]) -> float:
    """Between neighbouring slices of a study; NaN for a single one."""
    ordered = sorted(places.values(), key=lambda row: row.slice_index)
    steps = [
        abs(high.z_mm - low.z_mm) / (high.slice_index - low.slice_index)
        for low, high in pairwise(ordered)
    ]
    return float(np.median(steps)) if steps else float("nan")
