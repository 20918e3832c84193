"""Differences between runs on the same drawn patients: interval, p-value, Holm over a family.

With few patients the percentiles of a bootstrap are too narrow, most of all in the tail that Holm
looks at: with 18 clustered patients some of 20 equal runs was significant in one cohort of seven.
So a difference is held against Student's t: its standard error is that of the paired bootstrap over
patients, its degrees of freedom those of the class with fewer patients (the usual choice for
clusters; Cameron & Miller 2015, section VI). ``tests/unit/evaluation`` measures the error rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from petct_uad.comparison.tables import Difference
from petct_uad.core.holm import holm
from petct_uad.evaluation.bootstrap import auroc_of, draw_patients, estimate
from petct_uad.evaluation.metrics import Scores, Weights
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.tables import Estimate

Pair = tuple[str, str]
Measure = Callable[[Scores, Weights], NDArray[np.float64]]  # in each resample: (resamples,)


@dataclass(frozen=True)
class PairedAurocs:
    """The AUROC of every run, as the mean over its seeds, in the sample and in each resample.

    Attributes:
        values: in the sample, by run.
        drawn: in each resample of the patients (resamples,), by run; the same for all runs. NaN
            where a resample has nothing to measure.
        n_patients: in the sample.
        degrees: of freedom of a difference.
        confidence: of the intervals.
    """

    values: Mapping[str, float]
    drawn: Mapping[str, NDArray[np.float64]]
    n_patients: int
    degrees: int
    confidence: float

    @classmethod
    def of(
        cls,
        runs: Mapping[str, Sequence[Scores]],
        params: EvaluateParams,
        stream: int = 0,
        measure: Measure = auroc_of,
    ) -> PairedAurocs:
        """Measure all runs on the same resamples of the patients.

        Args:
            runs: the scores of each seed, by run.
            params: seed, resamples and confidence.
            stream: another one draws independently of this one.
            measure: the AUROC of scores in each resample.

        Raises:
            ValueError: the runs do not all hold the same slices of the same patients.
        """
        first = next(iter(runs.values()))[0]
        for scores in (scores for seeds in runs.values() for scores in seeds):
            same_labels = np.array_equal(scores.labels, first.labels)
            if not (same_labels and np.array_equal(scores.patients, first.patients)):
                raise ValueError("a paired difference needs the same slices of the same patients")
        resamples = draw_patients(first, params.bootstrap_samples, (params.seed, stream))
        values, drawn = (
            {run: np.mean([measure(x, w) for x in seeds], axis=0) for run, seeds in runs.items()}
            for w in (first.each_patient_once, resamples.weights)
        )
        return cls(
            values={run: value.item() for run, value in values.items()},
            drawn=drawn,
            n_patients=first.n_patients,
            degrees=_degrees(first),
            confidence=params.confidence,
        )

    def auroc(self, run: str) -> Estimate:
        """The AUROC of one run."""
        return estimate(self.values[run], self.drawn[run], self.confidence)

    def error(self, drawn: NDArray[np.float64]) -> float:
        """Standard error of what was measured in each resample (resamples,).

        A resample varies by (P - 1) / P of what P patients vary by.
        """
        return float(np.std(drawn[~np.isnan(drawn)], ddof=1) * self._inflation)

    @property
    def _inflation(self) -> float:
        return math.sqrt(self.n_patients / max(self.n_patients - 1, 1))

    def family(self, pairs: Sequence[Pair]) -> tuple[Difference, ...]:
        """First minus second of each pair, corrected over exactly these pairs."""
        values = [self.values[first] - self.values[second] for first, second in pairs]
        errors = [self.error(self.drawn[first] - self.drawn[second]) for first, second in pairs]
        return family_of(values, errors, self.degrees, self.confidence)

    @classmethod
    def over_folds(cls, folds: Sequence[PairedAurocs]) -> PairedAurocs:
        """The mean of each run's AUROC within a fold, patients being drawn within theirs.

        Each fold's resamples are widened for its own number of patients, which is small. Degrees of
        freedom add up.

        Args:
            folds: of the same runs; each drawn from another stream.
        """
        first = folds[0]
        together = replace(
            first,
            n_patients=sum(fold.n_patients for fold in folds),
            degrees=sum(fold.degrees for fold in folds),
        )
        widened = [
            {run: fold._widened(run, together._inflation) for run in first.values} for fold in folds
        ]
        return replace(
            together,
            values={run: float(np.mean([x.values[run] for x in folds])) for run in first.values},
            drawn={run: np.mean([x[run] for x in widened], axis=0) for run in first.values},
        )

    def _widened(self, run: str, already: float) -> NDArray[np.float64]:
        """What was drawn, so that its spread times ``already`` is this fold's standard error."""
        value = self.values[run]
        return value + (self.drawn[run] - value) * (self._inflation / already)


def family_of(
    values: Sequence[float], errors: Sequence[float], degrees: int, confidence: float
) -> tuple[Difference, ...]:
    """Differences with their intervals and p-values, corrected over exactly these.

    Args:
        values: each difference in the sample.
        errors: the standard error of each.
        degrees: of freedom.
        confidence: of the intervals.
    """
    corrected = holm(raw := [p_value(*pair, degrees) for pair in zip(values, errors, strict=True)])
    reach = float(stats.t.ppf((1 + confidence) / 2, degrees))
    return tuple(
        Difference(value, value - reach * error, value + reach * error, p, p_holm)
        for value, error, p, p_holm in zip(values, errors, raw, corrected, strict=True)
    )


def p_value(value: float, error: float, degrees: int) -> float:
    """Two-sided p of a difference with this standard error, by Student's t."""
    if error == 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * stats.t.sf(abs(value) / error, degrees))


def _degrees(scores: Scores) -> int:
    """One less than the patients of the class that fewer of them have; at least one."""
    fewest = min(np.unique(scores.patients[scores.labels == label]).size for label in (0, 1))
    return max(int(fewest) - 1, 1)
