"""Results of runs on a few slices, whose figures can be told by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from petct_uad.core.params.base import Protocol
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.results import ResultPaths, RunResults, measure, write_results
from petct_uad.evaluation.tables import RunIdentity
from petct_uad.scoring.tables import SeedScores
from petct_uad.slices.tables import ImageRow
from tests.samples import image_row

PARAMS = EvaluateParams(false_positive_rate=0.05, bootstrap_samples=100, confidence=0.95, seed=0)
PATIENTS = 6
# One abnormal and two normal slices of each patient: the abnormal one outranks both, one or none
# of the normals everywhere, so that the AUROC is 1, 1/2 or 0 in the sample and in any resample.
BOTH, HALF, NONE = (np.tile(x, PATIENTS) for x in ([3.0, 1, 2], [1.5, 1, 2], [0.0, 1, 2]))


def small_results(
    run: str,
    *scores: Sequence[float] | np.ndarray,
    protocol: Protocol = "patient",
    patients: str = "P",
    others: str = "",
    dataset: str = "tiny",
    count: int = PATIENTS,
) -> RunResults:
    """Results of a run with these scores of the test slices, one array per seed.

    ``patients`` begins the names of all ``count`` patients, or of all but the last if that has
    ``others``.
    """
    names = [f"{patients}{i}" for i in range(count - 1)] + [f"{others or patients}{count}"]
    rows = [
        image_row(
            slice_id=f"{name}_s_{i:04d}",
            study_id=f"{name}_s",
            patient=name,
            split="test",
            label=int(i == 0),
        )
        for name in names
        for i in range(3)
    ]
    identity = RunIdentity(
        run=run, model=run, modality="pet", trivial=run == "suvmax", dataset=dataset,
        protocol=protocol,
    )  # fmt: skip
    seeds = [SeedScores(n, np.zeros(4), np.asarray(x)) for n, x in enumerate(scores)]
    return measure(identity, seeds=seeds, test_rows=rows, params=PARAMS)


def write_small(metrics: Path, entry: str, results: RunResults) -> None:
    """Write a run below ``metrics``."""
    write_results(ResultPaths.of(metrics, entry, results.metrics.identity.run), results)


LABELS = np.tile([0, 0, 1, 0], 20)  # of four slices of each of twenty patients


def image_rows(labels: np.ndarray = LABELS, prefix: str = "s") -> list[ImageRow]:
    """Test slices with these labels, four of each patient."""
    return [
        image_row(
            slice_id=f"{prefix}_{i:04d}",
            study_id=f"P{i // 4}_s",
            patient=f"P{i // 4}",
            split="test",
            label=int(label),
        )
        for i, label in enumerate(labels)
    ]


def noise(seed: int = 0) -> np.ndarray:
    """A score for each of ``LABELS`` that knows nothing of it."""
    return np.random.default_rng(seed).normal(size=len(LABELS))


def results(
    run: str,
    *scores: Sequence[float] | np.ndarray,
    trivial: bool = False,
    protocol: Protocol = "patient",
    rows: Sequence[ImageRow] | None = None,
    **identity: Any,
) -> RunResults:
    """Results of a run with these scores of the test slices, one array per seed."""
    known = RunIdentity(
        run=run, model=run, modality="pet", trivial=trivial, dataset="tiny", protocol=protocol,
        **identity,
    )  # fmt: skip
    normals = np.random.default_rng(1).normal(size=50)
    seeds = [SeedScores(n, normals, np.asarray(x, dtype=float)) for n, x in enumerate(scores)]
    return measure(known, seeds=seeds, test_rows=rows or image_rows(), params=PARAMS)


def known(value: float | None) -> float:
    """A figure of a table that must not be empty there."""
    assert value is not None
    return value
