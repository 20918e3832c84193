"""Intervals by resampling patients, not slices: slices of one patient are not independent.

A resample is a vector of multiplicities, one per patient. AUROC is then a quadratic form in it
(Mann-Whitney wins counted per pair of patients), and counts are linear, so that a thousand exact
resamples are a few matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from petct_uad.evaluation.metrics import Scores, Weights, won_against
from petct_uad.evaluation.tables import Estimate

_CHUNK_ELEMENTS = 4_000_000  # of the (resamples, slices) matrices behind AP: 32 MB each


@dataclass(frozen=True)
class Resamples:
    """Draws of patients with replacement.

    Attributes:
        weights: (resamples, patients) how often each patient was drawn.
        redrawn: draws that held one class only and were replaced.
    """

    weights: Weights
    redrawn: int


def draw_patients(scores: Scores, samples: int, seed: int | Sequence[int]) -> Resamples:
    """Draw patients with replacement until each of ``samples`` draws holds both classes.

    Raises:
        ValueError: the scores themselves hold one class only.
    """
    if not scores.has_both_classes:
        raise ValueError("resampling needs normal and abnormal items")
    generator = np.random.default_rng(seed)
    patients = scores.n_patients
    even = np.full(patients, 1 / patients)
    weights = np.zeros((samples, patients))
    pending, redrawn = np.arange(samples), -samples
    while len(pending):
        redrawn += len(pending)
        weights[pending] = generator.multinomial(patients, even, size=len(pending))
        pending = pending[_pairs(scores, weights[pending]) == 0]
    return Resamples(weights, redrawn)


def auroc_of(scores: Scores, weights: Weights) -> NDArray[np.float64]:
    """AUROC of each resample, ties counted half: (resamples,)."""
    won: NDArray[np.float64] = ((weights @ _wins(scores)) * weights).sum(axis=1)
    return won / _pairs(scores, weights)


def ap_of(scores: Scores, weights: Weights) -> NDArray[np.float64]:
    """Average precision of each resample, as scikit-learn defines it: (resamples,)."""
    chunk = max(1, _CHUNK_ELEMENTS // len(scores.scores))
    parts = [_ap(scores, weights[start : start + chunk]) for start in range(0, len(weights), chunk)]
    return np.concatenate(parts)


def estimate(value: float, drawn: NDArray[np.float64], confidence: float) -> Estimate:
    """``value`` with the central percentile interval of its resampled values, NaN left out."""
    known = drawn[~np.isnan(drawn)]
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, float(low), float(high))


def estimate_mean(
    values: Sequence[float], drawn: Sequence[NDArray[np.float64]], confidence: float
) -> Estimate:
    """The mean over seeds, with the interval of that mean over the same drawn patients.

    Args:
        values: the figure of each seed.
        drawn: for each seed its resampled figures (resamples,).
    """
    return estimate(float(np.mean(values)), np.mean(drawn, axis=0), confidence)


def deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation over seeds; None for a single one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _pairs(scores: Scores, weights: Weights) -> NDArray[np.float64]:
    """Pairs of an abnormal and a normal item in each resample: (resamples,)."""
    abnormal, normal = (scores.count_by_patient(scores.labels == label) for label in (1, 0))
    pairs: NDArray[np.float64] = (weights @ abnormal) * (weights @ normal)
    return pairs


def _wins(scores: Scores) -> NDArray[np.float64]:
    """(P, P): by how many pairs abnormal slices of patient p outrank normal slices of q."""
    abnormal = scores.labels == 1
    ours, owners = scores.scores[abnormal], scores.patients[abnormal]
    wins = np.zeros((scores.n_patients, scores.n_patients))
    for patient in range(scores.n_patients):
        theirs = np.sort(scores.scores[~abnormal & (scores.patients == patient)])
        wins[:, patient] = np.bincount(owners, won_against(theirs, ours), minlength=len(wins))
    return wins


def _ap(scores: Scores, weights: Weights) -> NDArray[np.float64]:
    order = np.argsort(-scores.scores, kind="stable")
    ranked, labels = scores.scores[order], scores.labels[order]
    weight = weights[:, scores.patients[order]]
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    found = np.cumsum(weight * labels, axis=1)[:, last_of_tie]
    called = np.cumsum(weight, axis=1)[:, last_of_tie]
    precision = found / np.maximum(called, 1)
    gained = np.diff(found, axis=1, prepend=0)
    total: NDArray[np.float64] = (gained * precision).sum(axis=1) / found[:, -1]
    return total
