"""Baselines without a model: numbers that anyone can read off a slice.

A detector that does not beat slice SUVmax has learned nothing worth having, so these three go
through the same threshold, figures and files as every model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from petct_uad.core.files import read_table
from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.results import ResultPaths, RunResults, SeedScores, measure, write_results
from petct_uad.evaluation.tables import RunIdentity
from petct_uad.slices.tables import ImageRow


@dataclass(frozen=True)
class TrivialBaseline:
    """A score that is one number of the slice's row in ``index.csv``."""

    name: str
    modality: str
    score: Callable[[ImageRow], float]


def closeness_to_middle(row: ImageRow) -> float:
    """1 in the middle of the stack, 0 at its first and last slice."""
    return 1 - abs(2 * row.position - 1)


TRIVIAL = "trivial"  # their family
SUVMAX = TrivialBaseline("suvmax", "pet", lambda row: row.suv_max)
TRIVIAL_BASELINES = (
    SUVMAX,
    TrivialBaseline("body_area", "ct", lambda row: row.body_area_mm2),
    TrivialBaseline("position", "none", closeness_to_middle),
)


def evaluate_trivial(
    index: Path,
    dataset: str,
    protocol: Literal["patient", "cmad"],
    params: EvaluateParams,
    metrics: Path,
) -> dict[Path, tuple[Derivation, ...]]:
    """Write the results of each trivial baseline below ``metrics``.

    Returns:
        For the folder of each, what its files were made from.

    Raises:
        EvaluationError: validation has no normals, or the test split is of one class.
    """
    rows = read_table(index, ImageRow)
    derived: dict[Path, tuple[Derivation, ...]] = {}
    for baseline in TRIVIAL_BASELINES:
        paths = ResultPaths.of(metrics, TRIVIAL, baseline.name)
        write_results(paths, score_trivial(baseline, rows, dataset, protocol, params))
        source = (Entity.of_file(index),)
        files = map(Entity.of_file, paths.files)
        derived[paths.folder] = tuple(Derivation(file, source) for file in files)
    return derived


def score_trivial(
    baseline: TrivialBaseline,
    rows: Sequence[ImageRow],
    dataset: str,
    protocol: Literal["patient", "cmad"],
    params: EvaluateParams,
) -> RunResults:
    """Every figure of one trivial baseline from the rows of ``index.csv``."""
    test = [row for row in rows if row.split == "test"]
    normals = [row for row in rows if row.split == "val" and row.label == 0]
    identity = RunIdentity(
        run=baseline.name,
        model=baseline.name,
        modality=baseline.modality,
        trivial=True,
        dataset=dataset,
        protocol=protocol,
        parameters=0,
        scan="none",
    )
    scores = SeedScores(0, _scores(baseline, normals), _scores(baseline, test))
    return measure(identity, seeds=[scores], test_rows=test, params=params)


def _scores(baseline: TrivialBaseline, rows: Sequence[ImageRow]) -> NDArray[np.float64]:
    return np.array([baseline.score(row) for row in rows], dtype=np.float64)
