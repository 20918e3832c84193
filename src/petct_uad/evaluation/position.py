"""AUROC adjusted for the place in the stack: is an abnormal slice above normal ones of its place?

Where lesions lie at some heights and normal slices at others, as in cropped scans, the place alone
separates the classes, and so does every score that changes along the body. The covariate-adjusted
AUROC compares like with like: the mean, over abnormal slices, of the fraction of normal slices *of
the same place* that each outranks (Janes & Pepe 2009, "Adjusting for covariate effects on
classification accuracy using the covariate-adjusted ROC curve", Biometrika 96(2), 371-382, the
percentiles of cases among controls of like covariate).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from petct_uad.evaluation.metrics import Scores, Weights

REACH = 0.05  # of a stack's length, to either side: two slices within it are of like place


@dataclass(frozen=True)
class LikePlaced:
    """Abnormal slices against the normal ones of like place, by the normal ones' patients.

    A normal slice at the distance d counts 1 - (d / ``REACH``)^2 (Epanechnikov's kernel), d as a
    part of the stack's length; one at ``REACH`` or beyond does not count.

    Attributes:
        owners: (m,) the patient of each abnormal slice.
        met: (m, P) weight of the normal slices of each patient that are of like place.
        won: (m, P) the part of it that the abnormal slice outranks; ties count half.
    """

    owners: NDArray[np.intp]
    met: NDArray[np.float64]
    won: NDArray[np.float64]

    @classmethod
    def of(cls, scores: Scores, positions: NDArray[np.float64]) -> Self:
        """Compare slices.

        Args:
            scores: of n slices.
            positions: (n,) 0 at the first slice of a study, 1 at the last.
        """
        abnormal = scores.labels == 1
        met, won = np.zeros((2, int(abnormal.sum()), scores.n_patients))
        ours, ours_at = scores.scores[abnormal, None], positions[abnormal, None]
        for patient in range(scores.n_patients):
            theirs = ~abnormal & (scores.patients == patient)
            like = np.maximum(1 - ((ours_at - positions[theirs]) / REACH) ** 2, 0)
            above = (np.sign(ours - scores.scores[theirs]) + 1) / 2
            met[:, patient], won[:, patient] = like.sum(axis=1), (like * above).sum(axis=1)
        return cls(scores.patients[abnormal], met, won)

    @property
    def matched(self) -> float:
        """The fraction of abnormal slices that have a normal one of like place."""
        return float((self.met.sum(axis=1) > 0).mean())

    def auroc(self, weights: Weights) -> NDArray[np.float64]:
        """Position-adjusted AUROC of each resample of the patients: (resamples,).

        Abnormal slices without a normal one of like place are left out; NaN where that is all.
        """
        met, won = weights @ self.met.T, weights @ self.won.T
        counts = weights[:, self.owners] * (met > 0)
        percentiles = np.divide(won, met, out=np.zeros_like(won), where=met > 0)
        total, cases = (counts * percentiles).sum(axis=1), counts.sum(axis=1)
        undefined = np.full_like(total, np.nan)
        return np.asarray(np.divide(total, cases, out=undefined, where=cases > 0))
