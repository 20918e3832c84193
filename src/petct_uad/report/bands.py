"""How far ROC and precision-recall curves move when other patients are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from petct_uad.evaluation.bootstrap import draw_patients
from petct_uad.evaluation.metrics import Scores, Weights

Curve = NDArray[np.float64]
_STEPS = 50
_SEED = 0
_CHUNK_ELEMENTS = 4_000_000  # of the (resamples, slices) matrices: 32 MB each


@dataclass(frozen=True)
class Band:
    """Pointwise percentile interval of a curve over resampled patients; all (points,)."""

    x: Curve
    low: Curve
    high: Curve


@dataclass(frozen=True)
class Bands:
    """Of one run: sensitivity by false positive rate, precision by recall."""

    roc: Band
    pr: Band


def curve_bands(scores: Scores, samples: int, confidence: float) -> Bands:
    """Bootstrap over patients.

    Each draw's sensitivity is read at fixed false positive rates (vertical averaging, Fawcett 2006,
    section 9.1), its precision at the first cut that reaches each recall.
    """
    weights = draw_patients(scores, samples, _SEED).weights
    chunk = max(1, _CHUNK_ELEMENTS // len(scores.scores))
    parts = [_curves(scores, weights[at : at + chunk]) for at in range(0, samples, chunk)]
    roc, pr = (np.concatenate(curves) for curves in zip(*parts, strict=True))
    return Bands(_band(_grid(), roc, confidence), _band(_grid(), pr, confidence))


def _curves(scores: Scores, weights: Weights) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sensitivity and precision of each draw on the grid: two of (draws, points)."""
    order = np.argsort(-scores.scores, kind="stable")
    ranked, labels = scores.scores[order], scores.labels[order]
    weight = weights[:, scores.patients[order]]
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    found = np.cumsum(weight * labels, axis=1)[:, last_of_tie]
    alarms = np.cumsum(weight * (1 - labels), axis=1)[:, last_of_tie]
    precision = found / np.maximum(found + alarms, 1)
    recall, false = found / found[:, -1:], alarms / alarms[:, -1:]
    sensitivity = [
        np.interp(_grid(), np.append(0, x), np.append(0, y))
        for x, y in zip(false, recall, strict=True)
    ]
    reached = [y[np.searchsorted(x, _grid())] for x, y in zip(recall, precision, strict=True)]
    return np.array(sensitivity), np.array(reached)


def _band(x: Curve, drawn: NDArray[np.float64], confidence: float) -> Band:
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return Band(x, low, high)


@cache
def _grid() -> Curve:
    return np.linspace(0, 1, _STEPS + 1)
