"""Baselines without a model: numbers that anyone can read off a slice.

A detector that does not beat slice SUVmax has learned nothing worth having, so these three go
through the same threshold, figures and files as every model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from petct_uad.scoring.tables import RowIdentity, SeedScores
from petct_uad.slices.tables import ImageRow


@dataclass(frozen=True)
class TrivialBaseline:
    """A score that is one number of the slice's row in ``index.csv``."""

    name: str
    modality: str
    score: Callable[[ImageRow], float]

    @property
    def identity(self) -> RowIdentity:
        """Its row of the benchmark."""
        return RowIdentity(run=self.name, model=self.name, modality=self.modality, trivial=True)


def closeness_to_middle(row: ImageRow) -> float:
    """1 in the middle of the stack, 0 at its first and last slice."""
    return 1 - abs(2 * row.position - 1)


TRIVIAL = "trivial"  # where their results lie, as if they were an entry of the benchmark
SUVMAX = TrivialBaseline("suvmax", "pet", lambda row: row.suv_max)
TRIVIAL_BASELINES = (
    SUVMAX,
    TrivialBaseline("body_area", "ct", lambda row: row.body_area_mm2),
    TrivialBaseline("position", "none", closeness_to_middle),
)


def score_trivial(
    baseline: TrivialBaseline, normals: Sequence[ImageRow], test: Sequence[ImageRow]
) -> SeedScores:
    """The scores of one baseline, which has no maps.

    Args:
        normals: the validation normals.
        test: the test slices.
    """
    return SeedScores(0, _scores(baseline, normals), _scores(baseline, test))


def _scores(baseline: TrivialBaseline, rows: Sequence[ImageRow]) -> NDArray[np.float64]:
    return np.array([baseline.score(row) for row in rows], dtype=np.float64)
