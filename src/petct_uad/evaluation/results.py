"""From scores to the files of one run, the same for models and trivial baselines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from numpy.typing import NDArray

from petct_uad.errors import EvaluationError
from petct_uad.evaluation.bootstrap import ap_of, auroc_of, draw_patients, estimate
from petct_uad.evaluation.metrics import (
    Confusion,
    Scores,
    aupro,
    auroc,
    average_precision,
    histogram,
    oracle_threshold,
    patient_scores,
    pixel_auroc,
    pr_points,
    roc_points,
    threshold_from_normals,
)
from petct_uad.evaluation.tables import (
    Estimate,
    HistogramRow,
    PrRow,
    RocRow,
    RunIdentity,
    RunMetrics,
    ScoreRow,
)
from petct_uad.files import read_table, write_json, write_table
from petct_uad.params import EvaluateParams
from petct_uad.slices.tables import ImageRow

DECIMALS = 6  # of every score and figure, so that each can be recomputed from scores.csv
RESULT_FILES = ("metrics.json", "scores.csv", "roc.csv", "pr.csv", "histogram.csv")
_ESTIMATES = tuple(
    name for name, hint in get_type_hints(RunMetrics).items() if hint in (Estimate, Estimate | None)
)


@dataclass(frozen=True)
class PixelFigures:
    """Localisation over the test slices; None without maps or lesion masks."""

    pixel_auroc: float | None = None
    aupro: float | None = None

    @classmethod
    def of(cls, maps: NDArray[np.float32], lesions: NDArray[np.bool_]) -> PixelFigures:
        """Measure (n, S, S) maps against lesion masks."""
        return cls(pixel_auroc(maps, lesions), aupro(maps, lesions))


@dataclass(frozen=True)
class RunResults:
    """Everything that is written for one run."""

    metrics: RunMetrics
    scores: tuple[ScoreRow, ...]
    roc: tuple[RocRow, ...]
    pr: tuple[PrRow, ...]
    histogram: tuple[HistogramRow, ...]


def measure(
    identity: RunIdentity,
    *,
    val_scores: NDArray[np.float64],
    test_rows: Sequence[ImageRow],
    test_scores: NDArray[np.float64],
    params: EvaluateParams,
    pixels: PixelFigures = PixelFigures(),
) -> RunResults:
    """Every figure of one run.

    Args:
        val_scores: (m,) scores of the validation normals, which choose the threshold.
        test_rows: the n test slices, in the order of their ids.
        test_scores: (n,) their scores, higher is more abnormal.

    Raises:
        EvaluationError: no validation normals, test slices of one class only, or scores that are
            not finite.
    """
    val_scores, test_scores = np.round(val_scores, DECIMALS), np.round(test_scores, DECIMALS)
    _check(identity.run, val_scores, test_rows, test_scores)
    threshold = threshold_from_normals(val_scores, params.false_positive_rate)
    rows = _score_rows(test_rows, test_scores, threshold)
    scores = Scores.of(rows)
    return RunResults(
        metrics=_metrics(
            identity,
            scores=scores,
            threshold=threshold,
            n_val_normal=len(val_scores),
            params=params,
            pixels=pixels,
        ),
        scores=rows,
        roc=tuple(roc_points(scores)),
        pr=tuple(pr_points(scores)),
        histogram=tuple(histogram(scores)),
    )


def write_results(folder: Path, results: RunResults) -> None:
    """Write ``{metrics.json,scores.csv,roc.csv,pr.csv,histogram.csv}`` of one run."""
    write_table(folder / "scores.csv", ScoreRow, results.scores)
    write_table(folder / "roc.csv", RocRow, results.roc)
    write_table(folder / "pr.csv", PrRow, results.pr)
    write_table(folder / "histogram.csv", HistogramRow, results.histogram)
    write_json(folder / "metrics.json", _flat(results.metrics))


def read_results(folder: Path) -> RunResults:
    """Read what :func:`write_results` wrote.

    Raises:
        EvaluationError: a file is missing or of another schema.
    """
    try:
        content = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        return RunResults(
            _unflat(content),
            tuple(read_table(folder / "scores.csv", ScoreRow)),
            tuple(read_table(folder / "roc.csv", RocRow)),
            tuple(read_table(folder / "pr.csv", PrRow)),
            tuple(read_table(folder / "histogram.csv", HistogramRow)),
        )
    except FileNotFoundError as error:
        raise EvaluationError(f"{error.filename}: not found. Run `dvc repro compare`.") from None
    except (KeyError, TypeError, ValueError) as error:
        raise EvaluationError(f"{folder}: results of another version: {error}") from error


def _check(
    run: str,
    val_scores: NDArray[np.float64],
    test_rows: Sequence[ImageRow],
    test_scores: NDArray[np.float64],
) -> None:
    if not len(val_scores):
        raise EvaluationError(f"{run}: no validation normals to choose a threshold from")
    for name, scores in (("validation", val_scores), ("test", test_scores)):
        if not np.isfinite(scores).all():
            raise EvaluationError(f"{run}: {name} scores are not finite; did training diverge?")
    abnormal = sum(row.label for row in test_rows)
    if not 0 < abnormal < len(test_rows):
        raise EvaluationError(
            f"{run}: the test split holds {abnormal} abnormal of {len(test_rows)} slices; "
            "expected both classes. Enlarge the cohort or lower split.train_fraction."
        )


def _score_rows(
    rows: Sequence[ImageRow], scores: NDArray[np.float64], threshold: float
) -> tuple[ScoreRow, ...]:
    return tuple(
        ScoreRow(row.slice_id, row.patient, row.study_id, row.label, score, int(score > threshold))
        for row, score in zip(rows, map(float, scores), strict=True)
    )


def _metrics(
    identity: RunIdentity,
    *,
    scores: Scores,
    threshold: float,
    n_val_normal: int,
    params: EvaluateParams,
    pixels: PixelFigures,
) -> RunMetrics:
    resamples = draw_patients(scores, params.bootstrap_samples, params.seed)
    weights, confidence = resamples.weights, params.confidence
    here = Confusion.at(scores, threshold, scores.each_patient_once)
    drawn = Confusion.at(scores, threshold, weights)
    best = oracle_threshold(scores)
    oracle = Confusion.at(scores, best, scores.each_patient_once)
    return RunMetrics(
        identity=identity,
        leaking=identity.leaking,
        n_patients=scores.n_patients,
        n_val_normal=n_val_normal,
        n_test_normal=int((scores.labels == 0).sum()),
        n_test_abnormal=int((scores.labels == 1).sum()),
        auroc=estimate(auroc(scores), auroc_of(scores, weights), confidence),
        ap=estimate(average_precision(scores), ap_of(scores, weights), confidence),
        f1=estimate(here.f1.item(), drawn.f1, confidence),
        accuracy=estimate(here.accuracy.item(), drawn.accuracy, confidence),
        sensitivity=estimate(here.sensitivity.item(), drawn.sensitivity, confidence),
        specificity=estimate(here.specificity.item(), drawn.specificity, confidence),
        threshold=threshold,
        oracle_f1=oracle.f1.item(),
        oracle_accuracy=oracle.accuracy.item(),
        oracle_sensitivity=oracle.sensitivity.item(),
        oracle_specificity=oracle.specificity.item(),
        oracle_threshold=best,
        pixel_auroc=pixels.pixel_auroc,
        aupro=pixels.aupro,
        patient_auroc=_patient_auroc(scores, params),
        confidence=confidence,
        bootstrap_samples=params.bootstrap_samples,
        bootstrap_redrawn=resamples.redrawn,
    )


def _patient_auroc(scores: Scores, params: EvaluateParams) -> Estimate | None:
    patients = patient_scores(scores)
    if not patients.has_both_classes:
        return None
    weights = draw_patients(patients, params.bootstrap_samples, params.seed).weights
    return estimate(auroc(patients), auroc_of(patients, weights), params.confidence)


def _flat(metrics: RunMetrics) -> dict[str, Any]:
    """One level of keys: an estimate ``auroc`` gives auroc, auroc_low and auroc_high."""
    flat: dict[str, Any] = asdict(metrics.identity)
    for field in fields(metrics):
        value = getattr(metrics, field.name)
        if field.name in _ESTIMATES:
            flat[field.name] = value.value if value else None
            flat[f"{field.name}_low"] = value.low if value else None
            flat[f"{field.name}_high"] = value.high if value else None
        elif field.name != "identity":
            flat[field.name] = value
    return {key: _rounded(value) for key, value in flat.items()}


def _unflat(flat: dict[str, Any]) -> RunMetrics:
    rest = dict(flat)
    identity = RunIdentity(**{field.name: rest.pop(field.name) for field in fields(RunIdentity)})
    for name in _ESTIMATES:
        parts = [rest.pop(key) for key in (name, f"{name}_low", f"{name}_high")]
        rest[name] = None if None in parts else Estimate(*parts)
    return RunMetrics(identity, **rest)


def _rounded(value: object) -> object:
    return round(value, DECIMALS) + 0.0 if isinstance(value, float) else value
