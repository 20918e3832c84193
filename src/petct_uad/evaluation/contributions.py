"""Every finding of a seed's maps, and what each modality gave to it.

A finding is a connected part of what exceeds the maps' threshold from validation normals. Where a
map is joined from one of each modality it is the sum of what they give
(:meth:`petct_uad.models.common.fusion.MapFusion.parts`), also after it was smoothed along the body,
which is linear. A modality's share of a finding is what it gives to the finding's voxels over all
that these have: under ``max``, ``peak`` and ``min_p`` the weight of the voxels where it is the
larger, under sums its summand. A share may lie below 0, and the other's above 1, where a modality
speaks against what the other shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from petct_uad.evaluation.findings import labelled_findings
from petct_uad.evaluation.seeds import SeedDecisions, SeedMaps
from petct_uad.evaluation.stacks import Stack
from petct_uad.evaluation.tables import FindingRow, ScoreRow

Maps = NDArray[np.float32]
_ALONE = {"pet": 1.0, "ct": 0.0}  # the PET's share where a row sees one modality


def finding_rows(seed: SeedDecisions, modality: str) -> tuple[FindingRow, ...]:
    """Study by study, the highest finding of each first; none without maps or lesion masks.

    Args:
        seed: with its maps.
        modality: that the row sees: a map of one alone is all its own.
    """
    maps = seed.maps
    if maps is None or maps.threshold is None:
        return ()
    return tuple(row for stack in maps.stacks for row in _of_stack(seed, maps, stack, modality))


def _of_stack(seed: SeedDecisions, maps: SeedMaps, stack: Stack, modality: str) -> list[FindingRow]:
    found = _StackFindings.of(seed, maps, stack)
    if found is None:
        return []
    by_height = np.argsort(-found.peaks, kind="stable").tolist()
    return [found.row(i, rank, modality) for rank, i in enumerate(by_height, start=1)]


@dataclass(frozen=True)
class _StackFindings:
    """What is measured of the findings of one study, one element for each."""

    highest: tuple[ScoreRow, ...]  # the slice of the highest voxel
    spans: tuple[tuple[str, str], ...]  # the first and the last slice
    peaks: NDArray[np.float32]
    volumes_ml: NDArray[np.float64]
    lesions: NDArray[np.intp]  # that share a voxel with it
    pet_shares: NDArray[np.float64]

    @classmethod
    def of(cls, seed: SeedDecisions, maps: SeedMaps, stack: Stack) -> Self | None:
        """None where nothing exceeds the threshold."""
        assert maps.threshold is not None, "asked for by its caller"
        labelled, count = labelled_findings(stack.above(maps.maps, maps.threshold))
        if not count:
            return None
        on_plane = {p: seed.rows[i] for p, i in zip(stack.planes, stack.slices, strict=True)}
        planes, peaks = _highest_voxels(stack.volume(maps.maps), labelled)
        voxels = np.bincount(labelled.ravel(), minlength=count + 1)[1:]
        boxes = [box[0] for box in ndimage.find_objects(labelled)]
        return cls(
            highest=tuple(on_plane[plane] for plane in planes),
            spans=tuple((on_plane[x.start].slice_id, on_plane[x.stop - 1].slice_id) for x in boxes),
            peaks=peaks,
            volumes_ml=voxels.astype(np.float64) * stack.voxel_ml,
            lesions=_lesions_touched(stack, labelled, count),
            pet_shares=_pet_shares(stack, maps, labelled, np.arange(1, count + 1)),
        )

    def row(self, i: int, rank: int, modality: str) -> FindingRow:
        """The finding at ``i``, which is the ``rank``-th highest of its study."""
        at, (first, last) = self.highest[i], self.spans[i]
        share = _ALONE.get(modality, float(self.pet_shares[i]))
        return FindingRow(
            seed=at.seed,
            study_id=at.study_id,
            patient=at.patient,
            finding=rank,
            slice_id=at.slice_id,
            first_slice_id=first,
            last_slice_id=last,
            peak=float(self.peaks[i]),
            volume_ml=_known(float(self.volumes_ml[i])),
            lesions=int(self.lesions[i]),
            pet_share=_known(share),
            ct_share=_known(1 - share),
        )


def _highest_voxels(
    volume: Maps, labelled: NDArray[np.int32]
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """(findings,) the plane and the value of the highest voxel of each; of equals, the first."""
    inside = np.flatnonzero(labelled)
    numbers, values = labelled.ravel()[inside], volume.ravel()[inside]
    order = np.lexsort((-values, numbers))
    chosen = order[np.unique(numbers[order], return_index=True)[1]]
    return np.unravel_index(inside[chosen], labelled.shape)[0], values[chosen]


def _pet_shares(
    stack: Stack, maps: SeedMaps, labelled: NDArray[np.int32], numbers: NDArray[Any]
) -> NDArray[np.float64]:
    """(findings,) NaN where it is not known, or where the findings' voxels add up to nothing."""
    shares = np.full(len(numbers), np.nan)
    if maps.pet_parts is None:
        return shares
    volumes = (stack.volume(x).astype(np.float64) for x in (maps.pet_parts, maps.maps))
    part, whole = (np.asarray(ndimage.sum_labels(x, labelled, numbers)) for x in volumes)
    return np.asarray(np.divide(part, whole, out=shares, where=whole > 0))


def _lesions_touched(stack: Stack, labelled: NDArray[np.int32], count: int) -> NDArray[np.intp]:
    """(findings,) how many lesions each shares a voxel with."""
    pairs = np.stack([labelled.ravel()[stack.inside], stack.lesion_of])
    touching = np.unique(pairs[:, pairs[0] > 0], axis=1)[0]
    return np.bincount(touching, minlength=count + 1)[1:]


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
