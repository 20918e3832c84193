"""Image, pixel and patient figures of merit, and the threshold that makes a score a decision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from petct_uad.evaluation.tables import PANELS, HistogramRow, PrRow, RocRow, ScoreRow
from petct_uad.slices.store import ImageStack

Weights = NDArray[np.float64]  # (resamples, P): how often each patient counts
_AUPRO_FALSE_POSITIVE_RATE = 0.3
_SLICES_AT_A_TIME = 64  # 16 MiB of a map of 256 px
_NEIGHBOURS_IN_SLICE = np.array([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])


@dataclass(frozen=True)
class Scores:
    """A score table as arrays.

    Attributes:
        labels: (n,) 0 normal, 1 abnormal.
        scores: (n,) higher is more abnormal.
        patients: (n,) index of each slice's patient, 0 to P - 1 in the order of their names.
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    patients: NDArray[np.intp]

    @classmethod
    def of(cls, rows: Sequence[ScoreRow]) -> Self:
        """The arrays of a score table."""
        _, patients = np.unique([row.patient for row in rows], return_inverse=True)
        labels = np.array([row.label for row in rows], dtype=np.int64)
        scores = np.array([row.score for row in rows], dtype=np.float64)
        return cls(labels, scores, patients)

    @property
    def n_patients(self) -> int:
        """Number of patients."""
        return int(self.patients.max()) + 1

    @property
    def has_both_classes(self) -> bool:
        """Is there a normal and an abnormal item?"""
        return 0 < int(self.labels.sum()) < len(self.labels)

    @property
    def each_patient_once(self) -> Weights:
        """The weights of the sample itself: (1, P) ones."""
        return np.ones((1, self.n_patients))

    def count_by_patient(self, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """How many of the ``chosen`` (n,) items each patient has: (P,)."""
        counted = np.bincount(self.patients[chosen], minlength=self.n_patients)
        return counted.astype(np.float64)


@dataclass(frozen=True)
class Confusion:
    """Decisions against labels, as counts: one element per resample of the patients."""

    true_positive: NDArray[np.float64]
    false_positive: NDArray[np.float64]
    true_negative: NDArray[np.float64]
    false_negative: NDArray[np.float64]

    @classmethod
    def at(cls, scores: Scores, threshold: float, weights: Weights) -> Self:
        """Count decisions, where a score above ``threshold`` is called abnormal."""
        called, abnormal = scores.scores > threshold, scores.labels == 1
        cells = (called & abnormal, called & ~abnormal, ~called & ~abnormal, ~called & abnormal)
        return cls(*(weights @ scores.count_by_patient(cell) for cell in cells))

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and sensitivity; 0 where nothing is found."""
        wrong = self.false_positive + self.false_negative
        return _ratio(2 * self.true_positive, 2 * self.true_positive + wrong)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Fraction of right decisions."""
        right = self.true_positive + self.true_negative
        return _ratio(right, right + self.false_positive + self.false_negative)

    @property
    def sensitivity(self) -> NDArray[np.float64]:
        """Fraction of abnormal items that are called abnormal."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> NDArray[np.float64]:
        """Fraction of normal items that are called normal."""
        return _ratio(self.true_negative, self.true_negative + self.false_positive)


def auroc(scores: Scores) -> float:
    """Area under the ROC curve."""
    return float(roc_auc_score(scores.labels, scores.scores))


def average_precision(scores: Scores) -> float:
    """Area under the precision-recall curve, as a sum over its steps."""
    return float(average_precision_score(scores.labels, scores.scores))


def threshold_from_normals(normals: NDArray[np.float64], false_positive_rate: float) -> float:
    """The smallest normal score with at most ``false_positive_rate`` of the normals above it."""
    return float(np.quantile(normals, 1 - false_positive_rate, method="inverted_cdf"))


def oracle_threshold(scores: Scores) -> float:
    """The threshold with the best F1 on these very scores, halfway below the last one called."""
    precision, recall, cuts = precision_recall_curve(scores.labels, scores.scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
    best = int(np.argmax(f1[:-1]))
    return float((cuts[best] + cuts[best - 1]) / 2) if best else float(cuts[0]) - 1.0


def patient_scores(scores: Scores) -> Scores:
    """One item per patient: its highest slice score; abnormal where any of its slices is."""
    best = np.full(scores.n_patients, -np.inf)
    abnormal = np.zeros(scores.n_patients, dtype=np.int64)
    np.maximum.at(best, scores.patients, scores.scores)
    np.maximum.at(abnormal, scores.patients, scores.labels)
    return Scores(abnormal, best, np.arange(scores.n_patients))


@dataclass(frozen=True)
class PixelFigures:
    """Localisation over the test slices; None without maps or lesion masks.

    Attributes:
        pixel_auroc: AUROC over all pixels.
        aupro: area under the per-region overlap up to a false positive rate of 0.3, scaled to
            [0, 1] (Bergmann et al. 2021, MVTec AD, section 4.2).
    """

    pixel_auroc: float | None = None
    aupro: float | None = None

    @classmethod
    def of(cls, maps: ImageStack, lesions: ImageStack) -> Self:
        """Measure (n, S, S) maps against lesion masks; nothing if no pixel, or all, is lesion.

        Both follow, exactly, from the false positive rate at which a threshold reaches each of the
        few lesion pixels: AUROC is one minus its mean, and a region's area is the mean of what is
        left there of the range up to 0.3. anomalib's AUPRO, from a curve of thresholds, is equal to
        1e-3. Only the lesions' pixels are kept; all others are counted, some slices at a time.
        """
        inside, region = _lesion_pixels(maps, lesions)
        won, outside = _won_and_met(maps, lesions, inside)
        if not len(inside) or not outside:
            return cls()
        rates = 1 - won / outside
        left = np.maximum(1 - rates / _AUPRO_FALSE_POSITIVE_RATE, 0)
        areas = np.bincount(region, left)[1:] / np.bincount(region)[1:]
        return cls(float(1 - rates.mean()), float(areas.mean()))


def in_chunks(count: int) -> Iterator[list[int]]:
    """The places of ``count`` slices, as many at a time as memory bears."""
    for start in range(0, count, _SLICES_AT_A_TIME):
        yield list(range(start, min(start + _SLICES_AT_A_TIME, count)))


def _lesion_pixels(
    maps: ImageStack, lesions: ImageStack
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """What maps show (v,) in the pixels of lesions, and the region, from 1, of each."""
    values, regions, count = [np.empty(0, np.float32)], [np.empty(0, np.intp)], 0
    for chunk in in_chunks(maps.shape[0]):
        masks = lesions[chunk] > 0
        marked = np.flatnonzero(masks.any(axis=(1, 2)))
        if not len(marked):
            continue
        masks = masks[marked]
        labelled, found = ndimage.label(masks, structure=_NEIGHBOURS_IN_SLICE)
        values.append(maps[[chunk[i] for i in marked]][masks])
        regions.append(labelled[masks].astype(np.intp) + count)
        count += found
    return np.concatenate(values), np.concatenate(regions)


def _won_and_met(
    maps: ImageStack, lesions: ImageStack, inside: NDArray[np.float32]
) -> tuple[NDArray[np.float64], int]:
    """How many pixels outside of lesions each of ``inside`` outranks (v,), and how many there are.

    Ties count half. Numbers of pixels add up exactly, whatever is in one chunk.
    """
    values, which = np.unique(inside, return_inverse=True)
    won, met = np.zeros(len(values)), 0
    for chunk in in_chunks(maps.shape[0]):
        theirs = maps[chunk][~(lesions[chunk] > 0)]
        won += won_against(np.sort(theirs), values)
        met += len(theirs)
    return won[which], met


NOT_LOCALISED = PixelFigures()


def won_against(
    theirs: NDArray[np.floating[Any]], ours: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """How many of ``theirs`` (m,), sorted, each of ``ours`` (n,) outranks: (n,), ties half."""
    below = np.searchsorted(theirs, ours, "left")
    at_most = np.searchsorted(theirs, ours, "right")
    return np.asarray((below + at_most) / 2, dtype=np.float64)


def roc_points(scores: Scores) -> list[RocRow]:
    """The corners of the ROC curve."""
    false_positive, true_positive, _ = roc_curve(scores.labels, scores.scores)
    pairs = zip(false_positive, true_positive, strict=True)
    return [RocRow(float(fpr), float(tpr)) for fpr, tpr in pairs]


def pr_points(scores: Scores) -> list[PrRow]:
    """The corners of the precision-recall curve."""
    precision, recall, _ = precision_recall_curve(scores.labels, scores.scores)
    pairs = zip(recall[::-1], precision[::-1], strict=True)
    return [PrRow(float(r), float(p)) for r, p in pairs]


def histogram(scores: Scores, bins: int = 30) -> list[HistogramRow]:
    """Normal and abnormal items per equal-width score bin."""
    edges = np.histogram_bin_edges(scores.scores, bins)
    normal, _ = np.histogram(scores.scores[scores.labels == 0], edges)
    abnormal, _ = np.histogram(scores.scores[scores.labels == 1], edges)
    columns = zip(edges[:-1], edges[1:], normal, abnormal, strict=True)
    return [HistogramRow(float(low), float(high), int(n), int(a)) for low, high, n, a in columns]


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


def choose_panels(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> dict[str, int]:
    """Indices of the best, median and worst scored abnormal slices; the first of equals."""
    abnormal = np.flatnonzero(labels == 1)
    ranked = abnormal[np.argsort(-scores[abnormal], kind="stable")]
    chosen = (ranked[0], ranked[(len(ranked) - 1) // 2], ranked[-1])
    return dict(zip(PANELS, map(int, chosen), strict=True))
