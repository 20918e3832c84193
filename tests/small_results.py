"""Results of runs on a few slices, whose figures can be told by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.results import ResultPaths, RunResults, SeedScores, measure, write_results
from petct_uad.evaluation.tables import RunIdentity
from tests.samples import image_row

PARAMS = EvaluateParams(false_positive_rate=0.05, bootstrap_samples=100, confidence=0.95, seed=0)
PATIENTS = 6
# One abnormal and two normal slices of each patient: the abnormal one outranks both, one or none
# of the normals everywhere, so that the AUROC is 1, 1/2 or 0 in the sample and in any resample.
BOTH, HALF, NONE = (np.tile(x, PATIENTS) for x in ([3.0, 1, 2], [1.5, 1, 2], [0.0, 1, 2]))


def small_results(
    run: str,
    *scores: Sequence[float] | np.ndarray,
    protocol: Literal["patient", "cmad"] = "patient",
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
    identity = RunIdentity(run, run, "pet", run == "suvmax", dataset, protocol, 0, "none")
    seeds = [SeedScores(n, np.zeros(4), np.asarray(x)) for n, x in enumerate(scores)]
    return measure(identity, seeds=seeds, test_rows=rows, params=PARAMS)


def write_small(metrics: Path, family: str, results: RunResults) -> None:
    """Write a run below ``metrics``."""
    write_results(ResultPaths.of(metrics, family, results.metrics.identity.run), results)
