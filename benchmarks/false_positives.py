"""Equal runs that differ significantly: ``PYTHONPATH=src python benchmarks/false_positives.py``.

Simulated cohorts with the labels and patients of the committed test split: a reference and twenty
runs of equal worth. All share what makes a slice and a patient hard, and each misjudges every
patient, with and without a lesion, in its own way. Printed for Student's t, as in
``evaluation/paired.py``, and for the percentiles of the same bootstrap: in how many cohorts some
run differs significantly by Holm, how often a single p is below 0.05, and how often the 95 %
interval of a difference covers zero.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray
from rich.progress import track

from petct_uad.comparison.paired import PairedAurocs
from petct_uad.core.console import console
from petct_uad.core.files import read_table
from petct_uad.core.holm import holm
from petct_uad.evaluation.metrics import Scores
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.tables import ScoreRow

COHORT = Path("metrics/runs/trivial/suvmax/scores.csv")
RUNS = 20
LEVEL = 0.05
PATIENT, OPINION, SLICE = 0.5, 0.7, 0.5  # deviations, beside a lesion's 1


def main(cohorts: int = 400, resamples: int = 4000, seed: int = 2) -> None:
    """Simulate and count."""
    test = Scores.of(read_table(COHORT, ScoreRow))
    params = EvaluateParams(
        false_positive_rate=LEVEL, bootstrap_samples=resamples, confidence=1 - LEVEL, seed=0
    )
    generator = np.random.default_rng(seed)
    found = [_p_values(test, params, generator) for _ in track(range(cohorts), "cohorts")]
    console.print(f"{test.n_patients} patients, {cohorts} cohorts of {RUNS} equal runs")
    for name, p in zip(("Student's t", "percentiles"), zip(*found, strict=True), strict=True):
        told = np.mean([min(holm(x.tolist())) < LEVEL for x in p])
        alone = np.mean(np.stack(p) < LEVEL)
        console.print(
            f"{name}: some run differs in {told:.1%} of cohorts; a single p below {LEVEL} in "
            f"{alone:.1%}, so intervals cover {1 - alone:.1%}"
        )


def _p_values(
    test: Scores, params: EvaluateParams, generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each run against the reference, by t and by percentiles: (RUNS,) twice."""
    count = test.n_patients
    shared = test.labels + PATIENT * generator.normal(size=count)[test.patients]
    shared = shared + SLICE * generator.normal(size=len(test.labels))

    def run() -> Scores:
        opinion = generator.normal(size=(count, 2))[test.patients, test.labels]
        own = OPINION * opinion + SLICE * generator.normal(size=len(test.labels))
        return Scores(test.labels, shared + own, test.patients)

    names = [str(number) for number in range(RUNS + 1)]
    paired = PairedAurocs.of({name: [run()] for name in names}, params)
    family = paired.family([(name, names[0]) for name in names[1:]])
    drawn = [paired.drawn[name] - paired.drawn[names[0]] for name in names[1:]]
    rarer = [min(np.sum(x <= 0), np.sum(x >= 0)) for x in drawn]
    turned = np.minimum(1, 2 * (1 + np.array(rarer)) / (1 + params.bootstrap_samples))
    return np.array([x.p for x in family]), turned


if __name__ == "__main__":
    typer.run(main)
