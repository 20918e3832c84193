"""Intervals by resampling patients, not slices: slices of one patient are not independent.

A resample is a vector of multiplicities, one per patient. AUROC is then a quadratic form in it
(Mann-Whitney wins counted per pair of patients), and counts are linear, so that a thousand exact
resamples are a few matrix products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from petct_uad.evaluation.metrics import Scores

Weights = NDArray[np.float64]  # (resamples, patients)
_CHUNK_ELEMENTS = 4_000_000  # of the (resamples, slices) matrices behind AP: 32 MB each


@dataclass(frozen=True)
class Interval:
    """A percentile interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Resamples:
    """Draws of patients with replacement.

    Attributes:
        weights: (resamples, patients) how often each patient was drawn.
        redrawn: draws that held one class only and were replaced.
    """

    weights: Weights
    redrawn: int


def draw_patients(scores: Scores, samples: int, seed: int) -> Resamples:
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
        abnormal, normal = (weights[pending] @ _per_patient(scores, k) for k in (1, 0))
        pending = pending[(abnormal == 0) | (normal == 0)]
    return Resamples(weights, redrawn)


def auroc_of(scores: Scores, weights: Weights) -> NDArray[np.float64]:
    """AUROC of each resample, ties counted half: (resamples,)."""
    wins = _wins(scores)
    pairs = (weights @ _per_patient(scores, 1)) * (weights @ _per_patient(scores, 0))
    return np.einsum("bp,pq,bq->b", weights, wins, weights, optimize=True) / pairs


def ap_of(scores: Scores, weights: Weights) -> NDArray[np.float64]:
    """Average precision of each resample, as scikit-learn defines it: (resamples,)."""
    chunk = max(1, _CHUNK_ELEMENTS // len(scores.scores))
    parts = [_ap(scores, weights[start : start + chunk]) for start in range(0, len(weights), chunk)]
    return np.concatenate(parts)


@dataclass(frozen=True)
class ResampledCounts:
    """Decisions against labels in each resample: (resamples,) each."""

    true_positive: NDArray[np.float64]
    false_positive: NDArray[np.float64]
    true_negative: NDArray[np.float64]
    false_negative: NDArray[np.float64]


def counts_of(scores: Scores, weights: Weights, threshold: float) -> ResampledCounts:
    """Decisions of each resample, where a score above ``threshold`` is called abnormal."""
    called, abnormal = scores.scores > threshold, scores.labels == 1
    cells = (called & abnormal, called & ~abnormal, ~called & ~abnormal, ~called & abnormal)
    return ResampledCounts(*(weights @ _count(scores, cell) for cell in cells))


def interval(values: NDArray[np.float64], confidence: float) -> Interval:
    """The central percentile interval of the resampled values."""
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def paired_interval(
    first: Scores,
    second: Scores,
    statistic: Callable[[Scores, Weights], NDArray[np.float64]],
    resamples: Resamples,
    confidence: float,
) -> Interval:
    """Interval of ``statistic(first) - statistic(second)``, both on the same drawn patients.

    Raises:
        ValueError: the two tables do not hold the same items.
    """
    same_labels = np.array_equal(first.labels, second.labels)
    if not (same_labels and np.array_equal(first.patients, second.patients)):
        raise ValueError("a paired difference needs the same slices of the same patients")
    weights = resamples.weights
    return interval(statistic(first, weights) - statistic(second, weights), confidence)


def _wins(scores: Scores) -> NDArray[np.float64]:
    """(P, P): by how many pairs abnormal slices of patient p outrank normal slices of q."""
    abnormal = scores.labels == 1
    ours, owners = scores.scores[abnormal], scores.patients[abnormal]
    wins = np.zeros((scores.n_patients, scores.n_patients))
    for patient in range(scores.n_patients):
        theirs = np.sort(scores.scores[~abnormal & (scores.patients == patient)])
        below = np.searchsorted(theirs, ours, "left")
        at_most = np.searchsorted(theirs, ours, "right")
        wins[:, patient] = np.bincount(owners, (below + at_most) / 2, minlength=len(wins))
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


def _per_patient(scores: Scores, label: int) -> NDArray[np.float64]:
    return _count(scores, scores.labels == label)


def _count(scores: Scores, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    counted = np.bincount(scores.patients[chosen], minlength=scores.n_patients)
    return counted.astype(np.float64)
