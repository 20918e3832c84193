"""One seed of a run, ready to be measured: its scores, what they decide, and its maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from petct_uad.core.files import DECIMALS
from petct_uad.evaluation.bootstrap import Resamples, draw_patients
from petct_uad.evaluation.findings import Findings
from petct_uad.evaluation.metrics import (
    NOT_LOCALISED,
    Confusion,
    PixelFigures,
    Scores,
    Weights,
    oracle_threshold,
    patient_scores,
    threshold_from_normals,
)
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.position import LikePlaced
from petct_uad.evaluation.stacks import Stack
from petct_uad.evaluation.tables import NO_KIND, ScoreRow
from petct_uad.scoring.tables import SeedScores
from petct_uad.slices.store import ImageStack
from petct_uad.slices.tables import ImageRow


@dataclass(frozen=True)
class SeedMaps:
    """One seed's maps of the test slices beside their lesions.

    Attributes:
        maps: (n, S, S) higher is more abnormal.
        lesions: (n, S, S) not 0 inside a lesion.
        stacks: the same slices as volumes; none where no slice has a lesion mask.
        threshold: of the maps, from validation normals; None where it was not asked for.
        pet_parts: (n, S, S) what the PET gives to the maps; None where that is not known.
    """

    maps: ImageStack
    lesions: ImageStack
    stacks: tuple[Stack, ...] = ()
    threshold: float | None = None
    pet_parts: ImageStack | None = None

    @cached_property
    def pixels(self) -> PixelFigures:
        """How well the maps show where the lesions are."""
        return PixelFigures.of(self.maps, self.lesions)


@dataclass(frozen=True)
class SeedDecisions:
    """One seed's scores of the test slices, and the thresholds that turn them into decisions."""

    rows: tuple[ScoreRow, ...]
    scores: Scores
    positions: NDArray[np.float64]  # (n,) 0 at the first slice of a study, 1 at the last
    threshold: float  # from validation normals
    oracle_threshold: float
    maps: SeedMaps | None = None

    @classmethod
    def of(
        cls,
        seed: SeedScores,
        test_rows: Sequence[ImageRow],
        false_positive_rate: float,
        lesions: ImageStack | None = None,
        stacks: tuple[Stack, ...] = (),
        *,
        kinds: Mapping[str, str] | None = None,
    ) -> SeedDecisions:
        """Decide at six decimals, as the scores are written.

        Args:
            seed: its scores and maps.
            test_rows: the n test slices.
            false_positive_rate: of the thresholds.
            lesions: (n, S, S) their masks.
            stacks: the same as volumes.
            kinds: what labels call the lesions of each study, by study_id.
        """
        kinds = kinds or {}
        val, test = np.round(seed.val, DECIMALS), np.round(seed.test, DECIMALS)
        threshold = threshold_from_normals(val, false_positive_rate)
        rows = tuple(
            _score_row(seed.seed, row, score, threshold, kinds.get(row.study_id, NO_KIND))
            for row, score in zip(test_rows, map(float, test), strict=True)
        )
        scores = Scores.of(rows)
        maps = None
        if seed.maps is not None and lesions is not None:
            cut = _map_threshold(seed.val_peaks, false_positive_rate)
            maps = SeedMaps(seed.maps, lesions, stacks, cut, seed.pet_parts)
        positions = np.array([row.position for row in test_rows], dtype=np.float64)
        return cls(rows, scores, positions, threshold, oracle_threshold(scores), maps)

    def decisions(self, weights: Weights) -> Confusion:
        """Decisions at the threshold from validation normals, in each resample."""
        return Confusion.at(self.scores, self.threshold, weights)

    @cached_property
    def called(self) -> Confusion:
        """The same in the sample itself."""
        return self.decisions(self.scores.each_patient_once)

    @cached_property
    def oracle(self) -> Confusion:
        """Decisions at the threshold that suits the test slices best."""
        return Confusion.at(self.scores, self.oracle_threshold, self.scores.each_patient_once)

    @cached_property
    def patients(self) -> Scores:
        """One item per patient."""
        return patient_scores(self.scores)

    @cached_property
    def like_placed(self) -> LikePlaced | None:
        """Slices against those of like place; None without a stack: pictures have one place."""
        return LikePlaced.of(self.scores, self.positions) if np.ptp(self.positions) else None

    @cached_property
    def findings(self) -> Findings | None:
        """Lesion by lesion; None without maps or lesion masks."""
        maps = self.maps
        if maps is None or maps.threshold is None or not maps.stacks:
            return None
        return Findings.of(maps.stacks, maps.maps, maps.threshold, self.scores.n_patients)

    @property
    def pixels(self) -> PixelFigures:
        """Localisation; nothing without maps."""
        return self.maps.pixels if self.maps else NOT_LOCALISED


def _score_row(seed: int, row: ImageRow, score: float, threshold: float, kind: str) -> ScoreRow:
    return ScoreRow(
        seed=seed,
        slice_id=row.slice_id,
        patient=row.patient,
        study_id=row.study_id,
        label=row.label,
        lesion_kind=kind if row.label else NO_KIND,
        score=score,
        predicted=int(score > threshold),
    )


def _map_threshold(peaks: NDArray[np.float32] | None, rate: float) -> float | None:
    """At most ``rate`` of the validation normals have any pixel above it."""
    return None if peaks is None else threshold_from_normals(peaks.astype(np.float64), rate)


@dataclass(frozen=True)
class Draws:
    """The drawn patients, the same for every seed of a run."""

    slices: Resamples  # of the slices' patients
    patients: Resamples | None  # of patients as items; None where all are of one class

    @classmethod
    def of(cls, seed: SeedDecisions, params: EvaluateParams) -> Draws:
        """Labels and patients are those of any seed."""
        samples, drawn = params.bootstrap_samples, params.seed
        both = seed.patients.has_both_classes
        return cls(
            draw_patients(seed.scores, samples, drawn),
            draw_patients(seed.patients, samples, drawn) if both else None,
        )
