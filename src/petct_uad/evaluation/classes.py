"""How well one row finds each disease: the test slices of one class against all normal ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from petct_uad.core.errors import EvaluationError
from petct_uad.core.files import read_table
from petct_uad.evaluation.bootstrap import auroc_of, estimate_mean
from petct_uad.evaluation.metrics import Scores, Weights
from petct_uad.evaluation.seeds import SeedDecisions
from petct_uad.evaluation.tables import ClassRow
from petct_uad.ingest.tables import StudyRow
from petct_uad.slices.tables import ImageRow


def read_kinds(studies: Path, images: Sequence[ImageRow]) -> Mapping[str, str]:
    """What each study's labels call its lesions, by study_id.

    Args:
        studies: ``studies.csv`` of ingest.
        images: slices whose studies must be there.

    Raises:
        EvaluationError: the table is missing, or of another data set.
    """
    if not studies.is_file():
        raise EvaluationError(f"{studies}: not found. Run `dvc repro ingest`.")
    kinds: dict[str, str] = {row.study_id: row.lesion_kind for row in read_table(studies, StudyRow)}
    if missing := sorted({row.study_id for row in images} - kinds.keys()):
        raise EvaluationError(
            f"{studies}: {len(missing)} of the studies in index.csv are not there, the first is "
            f"{missing[0]}; it is of another data set. Run `dvc repro preprocess`."
        )
    return kinds


def classes_of(
    run: str, seeds: Sequence[SeedDecisions], weights: Weights, confidence: float
) -> tuple[ClassRow, ...]:
    """AUROC of every class of abnormal slices, sorted by class.

    Args:
        run: the row's name.
        seeds: at least one, all of the same slices.
        weights: (resamples, P) the drawn patients of the whole test split; where none of a class
            is drawn it has no AUROC, and that draw does not count for its interval.
        confidence: of the interval.
    """
    rows = seeds[0].rows
    of_abnormal = np.array([row.lesion_kind if row.label else "" for row in rows])
    normal = np.array([row.label == 0 for row in rows])
    found = []
    for kind in sorted({row.lesion_kind for row in rows if row.label}):
        chosen = of_abnormal == kind
        parts = [_part(seed.scores, normal | chosen) for seed in seeds]
        known = estimate_mean(
            [auroc_of(part, part.each_patient_once).item() for part in parts],
            [_drawn(part, weights) for part in parts],
            confidence,
        )
        patients = len(np.unique(seeds[0].scores.patients[chosen]))
        slices = int(chosen.sum())
        found.append(ClassRow(run, kind, slices, patients, known.value, known.low, known.high))
    return tuple(found)


def _part(scores: Scores, chosen: NDArray[np.bool_]) -> Scores:
    """Some of the slices; their patients keep their numbers."""
    return Scores(scores.labels[chosen], scores.scores[chosen], scores.patients[chosen])


def _drawn(part: Scores, weights: Weights) -> NDArray[np.float64]:
    """AUROC in each resample, NaN where none of the class was drawn: (resamples,)."""
    with np.errstate(invalid="ignore"):
        return auroc_of(part, weights[:, : part.n_patients])
