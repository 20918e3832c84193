"""Differences between runs on the same drawn patients: interval, p-value, Holm over a family."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from petct_uad.evaluation.bootstrap import auroc_of, draw_patients, estimate
from petct_uad.evaluation.metrics import Scores, auroc
from petct_uad.evaluation.tables import Difference, Estimate
from petct_uad.holm import holm
from petct_uad.params.evaluate import EvaluateParams

Pair = tuple[str, str]

_BLOCK_ELEMENTS = 16_000_000  # of the (resamples, patients) matrix: 128 MB
_FLOOR = 0.1  # Holm's smallest p, as a part of the level that it is compared with


@dataclass(frozen=True)
class PairedAurocs:
    """The AUROC of every run, as the mean over its seeds, in the sample and in each resample.

    Attributes:
        values: in the sample, by run.
        drawn: in each resample of the patients (resamples,), by run; the same for all runs.
        confidence: of the intervals.
    """

    values: Mapping[str, float]
    drawn: Mapping[str, NDArray[np.float64]]
    confidence: float

    @classmethod
    def of(
        cls, runs: Mapping[str, Sequence[Scores]], params: EvaluateParams, stream: int = 0
    ) -> PairedAurocs:
        """Measure all runs on as many resamples as Holm's correction over all pairs needs.

        Args:
            runs: the scores of each seed, by run.
            params: seed, resamples and confidence.
            stream: another one draws independently of this one.

        Raises:
            ValueError: the runs do not all hold the same slices of the same patients.
        """
        first = next(iter(runs.values()))[0]
        for scores in (scores for seeds in runs.values() for scores in seeds):
            same_labels = np.array_equal(scores.labels, first.labels)
            if not (same_labels and np.array_equal(scores.patients, first.patients)):
                raise ValueError("a paired difference needs the same slices of the same patients")
        parts: dict[str, list[NDArray[np.float64]]] = {run: [] for run in runs}
        for block, size in enumerate(_blocks(_samples(len(runs), params), first.n_patients)):
            weights = draw_patients(first, size, (params.seed, stream, block)).weights
            for run, seeds in runs.items():
                parts[run].append(np.mean([auroc_of(x, weights) for x in seeds], axis=0))
        return cls(
            {run: float(np.mean([auroc(x) for x in seeds])) for run, seeds in runs.items()},
            {run: np.concatenate(drawn) for run, drawn in parts.items()},
            params.confidence,
        )

    def auroc(self, run: str) -> Estimate:
        """The AUROC of one run."""
        return estimate(self.values[run], self.drawn[run], self.confidence)

    def family(self, pairs: Sequence[Pair]) -> tuple[Difference, ...]:
        """First minus second of each pair, corrected over exactly these pairs."""
        values = [self.values[first] - self.values[second] for first, second in pairs]
        drawn = [self.drawn[first] - self.drawn[second] for first, second in pairs]
        return family_of(values, drawn, self.confidence)


def family_of(
    values: Sequence[float], drawn: Sequence[NDArray[np.float64]], confidence: float
) -> tuple[Difference, ...]:
    """Differences with their intervals and p-values, corrected over exactly these.

    Args:
        values: each difference in the sample.
        drawn: each in the resamples (resamples,).
        confidence: of the intervals.
    """
    corrected = holm(raw := [p_value(x) for x in drawn])
    found = []
    for value, x, p, p_holm in zip(values, drawn, raw, corrected, strict=True):
        here = estimate(value, x, confidence)
        found.append(Difference(here.value, here.low, here.high, p, p_holm))
    return tuple(found)


def p_value(drawn: NDArray[np.float64]) -> float:
    """Two-sided p of a difference, from its resampled values (resamples,).

    The percentile interval turned round: one minus the highest confidence whose interval leaves out
    zero. The sample counts as one more resample, so that p is never zero (Phipson & Smyth 2010).
    """
    beyond = min(np.sum(drawn <= 0), np.sum(drawn >= 0))
    return float(min(1.0, 2 * (1 + beyond) / (len(drawn) + 1)))


def _samples(runs: int, params: EvaluateParams) -> int:
    """So many that Holm's smallest p over all pairs is well below one minus the confidence."""
    pairs = runs * (runs - 1) / 2
    return max(params.bootstrap_samples, math.ceil(2 * pairs / (_FLOOR * (1 - params.confidence))))


def _blocks(samples: int, patients: int) -> Iterator[int]:
    """Sizes of the parts in which resamples are drawn, so that memory stays bounded."""
    most = max(1, _BLOCK_ELEMENTS // patients)
    for start in range(0, samples, most):
        yield min(most, samples - start)
