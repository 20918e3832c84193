"""Images that are in two splits, as they are or nearly so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from petct_uad.slices.tables import ImageRow
from petct_uad.validation.shards import MeasuredShards
from petct_uad.validation.tables import DuplicateRow

_BLOCK = 2048  # images of one split against as many of another: 16 MiB of correlations
_ROUNDING = 1e-4  # of float32 sums; candidates are measured again in float64
_DECIMALS = 5


def find_duplicates(
    images: Sequence[ImageRow], measured: MeasuredShards, least_correlation: float
) -> list[DuplicateRow]:
    """Every pair of images of two splits that is the same or correlates at least so well.

    The whole of one split is held against the whole of another, block by block, so that memory
    grows with the number of images and not with its square. A shift by a few pixels, a mirrored
    image and one under another window are not found.

    Args:
        images: of the index.
        measured: of the same images.
        least_correlation: mean of the CTs' and the PETs' Pearson correlations at 16 x 16.
    """
    by_id = {image.slice_id: image for image in images}
    known = [by_id[row.slice_id] for row in measured.rows]
    splits = np.array([image.split for image in known])
    identical = set(_identical([row.image_sha256 for row in measured.rows], splits))
    rows = [_row(known[i], known[j], "exact", 1.0) for i, j in identical]
    for one, other in combinations(sorted(set(splits.tolist())), 2):
        first, second = (np.flatnonzero(splits == split) for split in (one, other))
        for i, j in _alike(measured.features, first, second, least_correlation):
            correlation = _correlation(measured.features[i], measured.features[j])
            if correlation >= least_correlation and not {(i, j), (j, i)} & identical:
                rows.append(_row(known[i], known[j], "near", correlation))
    return sorted(rows)


def _alike(
    features: NDArray[np.float32],
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    least_correlation: float,
) -> Iterator[tuple[int, int]]:
    for rows in _blocks(first):
        for columns in _blocks(second):
            correlations = features[rows] @ features[columns].T
            found = np.argwhere(correlations >= least_correlation - _ROUNDING)
            yield from ((int(rows[i]), int(columns[j])) for i, j in found)


def _blocks(indices: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    return [indices[start : start + _BLOCK] for start in range(0, len(indices), _BLOCK)]


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """In one order of summation, whatever library multiplies matrices."""
    return round(float(np.sum(one.astype(np.float64) * other)), _DECIMALS)


def _identical(content: Sequence[str], splits: NDArray[np.str_]) -> Iterator[tuple[int, int]]:
    """Pairs of different splits with the same bytes, constant images included."""
    places: dict[str, list[int]] = {}
    for i, digest in enumerate(content):
        places.setdefault(digest, []).append(i)
    for indices in places.values():
        yield from ((i, j) for i, j in combinations(indices, 2) if splits[i] != splits[j])


def _row(one: ImageRow, other: ImageRow, kind: str, correlation: float) -> DuplicateRow:
    first, second = sorted((one, other), key=lambda image: image.slice_id)
    return DuplicateRow(
        first=first.slice_id,
        second=second.slice_id,
        first_split=first.split,
        second_split=second.split,
        same_patient=first.patient == second.patient,
        kind=kind,
        correlation=correlation,
    )
