"""From scores to the files of one run, the same for models and trivial baselines."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from numpy.typing import NDArray

from petct_uad.core.errors import EvaluationError
from petct_uad.core.files import DECIMALS, read_table, rounded, write_json, write_table
from petct_uad.evaluation.bootstrap import ap_of, auroc_of, deviation, draw_patients, estimate_mean
from petct_uad.evaluation.metrics import (
    NOT_LOCALISED,
    Confusion,
    PixelFigures,
    Scores,
    Weights,
    auroc,
    average_precision,
    histogram,
    oracle_threshold,
    patient_scores,
    pr_points,
    roc_points,
    threshold_from_normals,
)
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.tables import (
    Estimate,
    HistogramRow,
    PrRow,
    RocRow,
    RunIdentity,
    RunMetrics,
    ScoreRow,
)
from petct_uad.slices.tables import ImageRow

_ESTIMATES = tuple(
    name for name, hint in get_type_hints(RunMetrics).items() if hint in (Estimate, Estimate | None)
)
_PER_SEED = ("thresholds", "oracle_thresholds")


@dataclass(frozen=True)
class ResultPaths:
    """Where the results of one run lie."""

    folder: Path  # metrics/runs/<family>/<run>
    roc: Path  # metrics/roc/<family>/<run>.csv, apart from the rest, since DVC draws it

    @classmethod
    def of(cls, metrics: Path, family: str, run: str) -> ResultPaths:
        """Those below ``metrics``."""
        return cls(metrics / "runs" / family / run, metrics / "roc" / family / f"{run}.csv")

    @property
    def metrics(self) -> Path:
        """The figures."""
        return self.folder / "metrics.json"

    @property
    def scores(self) -> Path:
        """The score of every test slice."""
        return self.folder / "scores.csv"

    @property
    def pr(self) -> Path:
        """The precision-recall curve."""
        return self.folder / "pr.csv"

    @property
    def histogram(self) -> Path:
        """The scores, binned."""
        return self.folder / "histogram.csv"

    @property
    def files(self) -> tuple[Path, ...]:
        """All five."""
        return (self.metrics, self.scores, self.roc, self.pr, self.histogram)


@dataclass(frozen=True)
class SeedScores:
    """What one seed's model says of the validation normals and of the test slices.

    Attributes:
        seed: of the training; 0 for a trivial baseline.
        val: (m,) scores of the validation normals, which choose the threshold.
        test: (n,) scores of the test slices, higher is more abnormal.
        pixels: localisation of the same model.
    """

    seed: int
    val: NDArray[np.float64]
    test: NDArray[np.float64]
    pixels: PixelFigures = NOT_LOCALISED


@dataclass(frozen=True)
class RunResults:
    """Everything that is written for one run; curves and histogram are those of the first seed."""

    metrics: RunMetrics
    scores: tuple[ScoreRow, ...]  # seed by seed, each with every test slice
    roc: tuple[RocRow, ...]
    pr: tuple[PrRow, ...]
    histogram: tuple[HistogramRow, ...]

    @property
    def by_seed(self) -> tuple[tuple[ScoreRow, ...], ...]:
        """The score table of each seed."""
        groups = groupby(self.scores, key=lambda row: row.seed)
        return tuple(tuple(rows) for _, rows in groups)

    @property
    def scores_by_seed(self) -> tuple[Scores, ...]:
        """The same as arrays."""
        return tuple(map(Scores.of, self.by_seed))


def measure(
    identity: RunIdentity,
    *,
    seeds: Sequence[SeedScores],
    test_rows: Sequence[ImageRow],
    params: EvaluateParams,
) -> RunResults:
    """Every figure of one run, as the mean over its seeds.

    Args:
        seeds: at least one, all of the same slices.
        test_rows: the n test slices, in the order of their ids.

    Raises:
        EvaluationError: no validation normals, test slices of one class only, or scores that are
            not finite.
    """
    trials = []
    for seed in seeds:
        _check(identity.run, seed, test_rows)
        trials.append(_Trial.of(seed, test_rows, params.false_positive_rate))
    first = trials[0].scores
    return RunResults(
        metrics=_metrics(identity, trials, n_val_normal=len(seeds[0].val), params=params),
        scores=tuple(row for trial in trials for row in trial.rows),
        roc=tuple(roc_points(first)),
        pr=tuple(pr_points(first)),
        histogram=tuple(histogram(first)),
    )


def write_results(paths: ResultPaths, results: RunResults) -> None:
    """Write the five files of one run."""
    write_table(paths.scores, ScoreRow, results.scores)
    write_table(paths.roc, RocRow, results.roc)
    write_table(paths.pr, PrRow, results.pr)
    write_table(paths.histogram, HistogramRow, results.histogram)
    write_json(paths.metrics, _flat(results.metrics))


def read_results(paths: ResultPaths) -> RunResults:
    """Read what :func:`write_results` wrote.

    Raises:
        EvaluationError: a file is missing or of another schema.
    """
    try:
        content = json.loads(paths.metrics.read_text(encoding="utf-8"))
        return RunResults(
            _unflat(content),
            tuple(read_table(paths.scores, ScoreRow)),
            tuple(read_table(paths.roc, RocRow)),
            tuple(read_table(paths.pr, PrRow)),
            tuple(read_table(paths.histogram, HistogramRow)),
        )
    except FileNotFoundError as error:
        raise EvaluationError(f"{error.filename}: not found. Run `dvc repro compare`.") from None
    except (KeyError, TypeError, ValueError) as error:
        raise EvaluationError(f"{paths.folder}: results of another version: {error}") from error


@dataclass(frozen=True)
class _Trial:
    """One seed's scores, and the thresholds that turn them into decisions."""

    rows: tuple[ScoreRow, ...]
    scores: Scores
    threshold: float
    oracle_threshold: float
    pixels: PixelFigures

    @classmethod
    def of(
        cls, seed: SeedScores, test_rows: Sequence[ImageRow], false_positive_rate: float
    ) -> _Trial:
        val, test = np.round(seed.val, DECIMALS), np.round(seed.test, DECIMALS)
        threshold = threshold_from_normals(val, false_positive_rate)
        rows = tuple(
            ScoreRow(
                seed=seed.seed,
                slice_id=row.slice_id,
                patient=row.patient,
                study_id=row.study_id,
                label=row.label,
                score=score,
                predicted=int(score > threshold),
            )
            for row, score in zip(test_rows, map(float, test), strict=True)
        )
        scores = Scores.of(rows)
        return cls(rows, scores, threshold, oracle_threshold(scores), seed.pixels)

    @property
    def oracle(self) -> Confusion:
        """Decisions at the threshold that suits the test slices best."""
        return Confusion.at(self.scores, self.oracle_threshold, self.scores.each_patient_once)

    def decisions(self, weights: Weights) -> Confusion:
        """Decisions at the threshold from validation normals."""
        return Confusion.at(self.scores, self.threshold, weights)


def _check(run: str, seed: SeedScores, test_rows: Sequence[ImageRow]) -> None:
    if not len(seed.val):
        raise EvaluationError(f"{run}: no validation normals to choose a threshold from")
    for name, scores in (("validation", seed.val), ("test", seed.test)):
        if not np.isfinite(scores).all():
            raise EvaluationError(
                f"{run}: {name} scores of seed {seed.seed} are not finite; did training diverge?"
            )
    abnormal = sum(row.label for row in test_rows)
    if not 0 < abnormal < len(test_rows):
        raise EvaluationError(
            f"{run}: the test split holds {abnormal} abnormal of {len(test_rows)} slices; "
            "expected both classes. Enlarge the cohort or lower split.train_fraction."
        )


def _metrics(
    identity: RunIdentity, trials: Sequence[_Trial], *, n_val_normal: int, params: EvaluateParams
) -> RunMetrics:
    # Labels and patients are those of any seed, and so are the patients drawn.
    scores = [trial.scores for trial in trials]
    first, confidence = scores[0], params.confidence
    resamples = draw_patients(first, params.bootstrap_samples, params.seed)
    weights = resamples.weights
    here = [trial.decisions(first.each_patient_once) for trial in trials]
    drawn = [trial.decisions(weights) for trial in trials]
    aurocs, aps = [auroc(x) for x in scores], [average_precision(x) for x in scores]

    def decided(figure: Callable[[Confusion], NDArray[np.float64]]) -> Estimate:
        values = [figure(x).item() for x in here]
        return estimate_mean(values, [figure(x) for x in drawn], confidence)

    def oracle(figure: Callable[[Confusion], NDArray[np.float64]]) -> float:
        return float(np.mean([figure(trial.oracle).item() for trial in trials]))

    return RunMetrics(
        identity=identity,
        leaking=identity.leaking,
        n_patients=first.n_patients,
        n_val_normal=n_val_normal,
        n_test_normal=int((first.labels == 0).sum()),
        n_test_abnormal=int((first.labels == 1).sum()),
        seeds=len(trials),
        auroc=estimate_mean(aurocs, [auroc_of(x, weights) for x in scores], confidence),
        auroc_deviation=deviation(aurocs),
        ap=estimate_mean(aps, [ap_of(x, weights) for x in scores], confidence),
        ap_deviation=deviation(aps),
        f1=decided(lambda x: x.f1),
        f1_deviation=deviation([x.f1.item() for x in here]),
        accuracy=decided(lambda x: x.accuracy),
        sensitivity=decided(lambda x: x.sensitivity),
        specificity=decided(lambda x: x.specificity),
        thresholds=tuple(trial.threshold for trial in trials),
        oracle_f1=oracle(lambda x: x.f1),
        oracle_accuracy=oracle(lambda x: x.accuracy),
        oracle_sensitivity=oracle(lambda x: x.sensitivity),
        oracle_specificity=oracle(lambda x: x.specificity),
        oracle_thresholds=tuple(trial.oracle_threshold for trial in trials),
        pixel_auroc=_mean([trial.pixels.pixel_auroc for trial in trials]),
        aupro=_mean([trial.pixels.aupro for trial in trials]),
        patient_auroc=_patient_auroc(scores, params),
        confidence=confidence,
        bootstrap_samples=params.bootstrap_samples,
        bootstrap_redrawn=resamples.redrawn,
    )


def _patient_auroc(scores: Sequence[Scores], params: EvaluateParams) -> Estimate | None:
    patients = [patient_scores(x) for x in scores]
    if not patients[0].has_both_classes:
        return None
    weights = draw_patients(patients[0], params.bootstrap_samples, params.seed).weights
    drawn = [auroc_of(x, weights) for x in patients]
    return estimate_mean([auroc(x) for x in patients], drawn, params.confidence)


def _mean(values: Sequence[float | None]) -> float | None:
    """None where there is nothing to measure, which is so for every seed or for none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


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
    return {key: _stable(value) for key, value in flat.items()}


def _unflat(flat: dict[str, Any]) -> RunMetrics:
    rest = dict(flat)
    identity = RunIdentity(**{field.name: rest.pop(field.name) for field in fields(RunIdentity)})
    for name in _ESTIMATES:
        parts = [rest.pop(key) for key in (name, f"{name}_low", f"{name}_high")]
        rest[name] = None if None in parts else Estimate(*parts)
    for name in _PER_SEED:
        rest[name] = tuple(rest[name])
    return RunMetrics(identity, **rest)


def _stable(value: object) -> object:
    if isinstance(value, tuple):
        return [_stable(item) for item in value]
    return rounded(value) if isinstance(value, float) else value
