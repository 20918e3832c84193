"""From scores to the files of one run, the same for models and trivial baselines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petct_uad.core.errors import EvaluationError
from petct_uad.core.files import read_table, rounded, write_json, write_table
from petct_uad.evaluation import figures
from petct_uad.evaluation.bootstrap import estimate_mean
from petct_uad.evaluation.classes import classes_of
from petct_uad.evaluation.contributions import finding_rows
from petct_uad.evaluation.figures import Sample, figures_of, flat_figures
from petct_uad.evaluation.findings import CURVE_RATES
from petct_uad.evaluation.metrics import Scores, histogram, pr_points, roc_points
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.seeds import Draws, SeedDecisions
from petct_uad.evaluation.stacks import Stack
from petct_uad.evaluation.tables import (
    ClassRow,
    FindingRow,
    FrocRow,
    HistogramRow,
    Measured,
    PrRow,
    RocRow,
    RunIdentity,
    RunMetrics,
    ScoreRow,
)
from petct_uad.scoring.tables import SeedScores, flat_identity, identity_of
from petct_uad.slices.store import ImageStack
from petct_uad.slices.tables import ImageRow

_NESTED = ("identity", "figures")
_PER_SEED = ("thresholds", "oracle_thresholds", "map_thresholds")


@dataclass(frozen=True)
class ResultPaths:
    """Where the results of one run lie."""

    folder: Path  # metrics/runs/<entry>/<run>
    roc: Path  # metrics/roc/<entry>/<run>.csv, apart from the rest, since DVC draws it
    froc: Path  # metrics/froc/<entry>/<run>.csv, likewise

    @classmethod
    def of(cls, metrics: Path, entry: str, run: str) -> ResultPaths:
        """Those below ``metrics``."""
        roc, froc = (metrics / curve / entry / f"{run}.csv" for curve in ("roc", "froc"))
        return cls(metrics / "runs" / entry / run, roc, froc)

    @property
    def metrics(self) -> Path:
        """The figures."""
        return self.folder / "metrics.json"

    @property
    def scores(self) -> Path:
        """The score of every test slice."""
        return self.folder / "scores.csv"

    @property
    def findings(self) -> Path:
        """Each finding of the maps, and what each modality gave to it."""
        return self.folder / "findings.csv"

    @property
    def classes(self) -> Path:
        """AUROC by class of lesion."""
        return self.folder / "classes.csv"

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
        """Those that are there; FROC and findings only where there are maps and lesion masks."""
        return tuple(path for path in self.possible if path.is_file())

    @property
    def possible(self) -> tuple[Path, ...]:
        """Those that a run may have."""
        tables = (self.classes, self.findings, self.pr, self.histogram)
        return (self.metrics, self.scores, self.roc, self.froc, *tables)


@dataclass(frozen=True)
class RunResults:
    """Everything that is written for one run.

    ROC, precision and recall, and histogram are those of the first seed; FROC is the mean of all.
    """

    metrics: RunMetrics
    scores: tuple[ScoreRow, ...]  # seed by seed, each with every test slice
    classes: tuple[ClassRow, ...]  # sorted
    roc: tuple[RocRow, ...]
    froc: tuple[FrocRow, ...]
    findings: tuple[FindingRow, ...]  # seed by seed
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

    @property
    def first_findings(self) -> tuple[FindingRow, ...]:
        """The findings of the first seed, of which ROC and pictures are too."""
        return tuple(row for row in self.findings if row.seed == self.scores[0].seed)

    def findings_on(self, slice_id: str) -> tuple[FindingRow, ...]:
        """Those of them that go through a slice, the highest first."""
        return tuple(row for row in self.first_findings if row.reaches(slice_id))


def measure(
    identity: RunIdentity,
    *,
    seeds: Iterable[SeedScores],
    test_rows: Sequence[ImageRow],
    params: EvaluateParams,
    lesions: ImageStack | None = None,
    stacks: tuple[Stack, ...] = (),
    kinds: Mapping[str, str] | None = None,
) -> RunResults:
    """Every figure of one run, as the mean over its seeds.

    Args:
        seeds: at least one, all of the same slices; taken one by one.
        test_rows: the n test slices, in the order of their ids.
        lesions: (n, S, S) their masks, for the figures of maps.
        stacks: the same as volumes, for the figures of lesions.
        kinds: what labels call the lesions of each study, by study_id.

    Raises:
        EvaluationError: no validation normals, test slices of one class only, or scores that are
            not finite.
    """
    measured: list[_MeasuredSeed] = []
    draws: Draws | None = None
    for seed in seeds:
        _check(identity.run, seed, test_rows)
        rate = params.false_positive_rate
        decided = SeedDecisions.of(seed, test_rows, rate, lesions, stacks, kinds=kinds)
        draws = draws or Draws.of(decided, params)
        measured.append(_MeasuredSeed.of(decided, draws, identity.modality, len(seed.val)))
    assert draws, "a run has at least one seed"
    decisions = [x.decisions for x in measured]
    first = decisions[0].scores
    return RunResults(
        metrics=_run_metrics(identity, measured, stacks, draws, params),
        scores=tuple(row for x in decisions for row in x.rows),
        classes=classes_of(identity.run, decisions, draws.slices.weights, params.confidence),
        roc=tuple(roc_points(first)),
        froc=_froc([x.froc for x in measured if x.froc], params.confidence),
        findings=tuple(row for x in measured for row in x.findings),
        pr=tuple(pr_points(first)),
        histogram=tuple(histogram(first)),
    )


def write_results(paths: ResultPaths, results: RunResults) -> None:
    """Write the files of one run; DVC draws no table without rows, so an empty FROC is none.

    Findings may be none where there is a FROC: the table then has no rows.
    """
    write_table(paths.scores, ScoreRow, results.scores)
    write_table(paths.classes, ClassRow, results.classes)
    write_table(paths.roc, RocRow, results.roc)
    paths.froc.parent.mkdir(parents=True, exist_ok=True)
    for path in (paths.froc, paths.findings):
        path.unlink(missing_ok=True)
    if results.froc:
        write_table(paths.froc, FrocRow, results.froc)
        write_table(paths.findings, FindingRow, results.findings)
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
        has_lesions = content["froc"] is not None
        return RunResults(
            _unflat(content),
            tuple(read_table(paths.scores, ScoreRow)),
            tuple(read_table(paths.classes, ClassRow)),
            tuple(read_table(paths.roc, RocRow)),
            tuple(read_table(paths.froc, FrocRow)) if has_lesions else (),
            tuple(read_table(paths.findings, FindingRow)) if has_lesions else (),
            tuple(read_table(paths.pr, PrRow)),
            tuple(read_table(paths.histogram, HistogramRow)),
        )
    except FileNotFoundError as error:
        raise EvaluationError(f"{error.filename}: not found. Run `dvc repro compare`.") from None
    except (KeyError, TypeError, ValueError) as error:
        raise EvaluationError(f"{paths.folder}: results of another version: {error}") from error


@dataclass(frozen=True)
class _MeasuredSeed:
    """One seed, whose maps are forgotten once they are measured."""

    decisions: SeedDecisions
    samples: Mapping[str, Sample | None]  # by the name of the figure
    froc: _Curve | None
    findings: tuple[FindingRow, ...]
    map_threshold: float | None
    n_val_normal: int  # that chose the thresholds

    @classmethod
    def of(
        cls, decisions: SeedDecisions, draws: Draws, modality: str, n_val_normal: int
    ) -> _MeasuredSeed:
        samples = {x.name: x.sample(decisions, draws) for x in figures.FIGURES}
        threshold = decisions.maps.threshold if decisions.maps else None
        curve = _Curve.of(decisions, draws)
        found = finding_rows(decisions, modality)
        kept = replace(decisions, maps=None)
        return cls(kept, samples, curve, found, threshold, n_val_normal)


@dataclass(frozen=True)
class _Curve:
    """FROC of one seed at ``CURVE_RATES``: (rates,), and in each resample (resamples, rates)."""

    value: NDArray[np.float64]
    drawn: NDArray[np.float64]

    @classmethod
    def of(cls, seed: SeedDecisions, draws: Draws) -> _Curve | None:
        if not (findings := seed.findings):
            return None
        weights = seed.scores.each_patient_once, draws.slices.weights
        (value,), drawn = (findings.sensitivity(x, CURVE_RATES) for x in weights)
        return cls(value, drawn)


def _run_metrics(
    identity: RunIdentity,
    measured: Sequence[_MeasuredSeed],
    stacks: Sequence[Stack],
    draws: Draws,
    params: EvaluateParams,
) -> RunMetrics:
    """What ``metrics.json`` says: slices are counted once, thresholds seed by seed."""
    first = measured[0].decisions.scores
    n_abnormal = int(first.labels.sum())
    return RunMetrics(
        identity=identity,
        leaking=identity.leaking,
        n_patients=first.n_patients,
        n_val_normal=measured[0].n_val_normal,
        n_test_normal=len(first.labels) - n_abnormal,
        n_test_abnormal=n_abnormal,
        n_test_studies=len(stacks),
        n_test_lesions=sum(stack.count for stack in stacks),
        seeds=len(measured),
        thresholds=tuple(x.decisions.threshold for x in measured),
        oracle_thresholds=tuple(x.decisions.oracle_threshold for x in measured),
        map_thresholds=tuple(x.map_threshold for x in measured if x.map_threshold is not None),
        confidence=params.confidence,
        bootstrap_samples=params.bootstrap_samples,
        bootstrap_redrawn=draws.slices.redrawn,
        figures=_over_seeds(measured, params.confidence),
    )


def _froc(curves: Sequence[_Curve], confidence: float) -> tuple[FrocRow, ...]:
    if not curves:
        return ()
    points = [
        estimate_mean([x.value[i] for x in curves], [x.drawn[:, i] for x in curves], confidence)
        for i in range(len(CURVE_RATES))
    ]
    pairs = zip(CURVE_RATES, points, strict=True)
    return tuple(FrocRow(float(rate), x.value, x.low, x.high) for rate, x in pairs)


def _over_seeds(seeds: Sequence[_MeasuredSeed], confidence: float) -> dict[str, Measured]:
    found = {
        figure.name: figure.over_seeds([seed.samples[figure.name] for seed in seeds], confidence)
        for figure in figures.FIGURES
    }
    return {name: measured for name, measured in found.items() if measured}


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


def _flat(metrics: RunMetrics) -> dict[str, Any]:
    """One level of keys: a figure ``auroc`` gives auroc, auroc_low, auroc_high and the like."""
    flat = flat_identity(metrics.identity)
    for field in fields(metrics):
        value = getattr(metrics, field.name)
        if field.name == "figures":
            flat |= flat_figures(value)
        elif field.name != "identity":
            flat[field.name] = value
    return {key: _stable(value) for key, value in flat.items()}


def _unflat(flat: dict[str, Any]) -> RunMetrics:
    row = identity_of(flat)
    identity = RunIdentity(
        **vars(row),
        dataset=flat["dataset"],
        protocol=flat["protocol"],
        test_patients=flat.get("test_patients", "all"),  # revisions before it knew no other
    )
    facts = {x.name: flat[x.name] for x in fields(RunMetrics) if x.name not in _NESTED}
    facts |= {name: tuple(facts[name]) for name in _PER_SEED}
    return RunMetrics(identity=identity, figures=figures_of(flat), **facts)


def _stable(value: object) -> object:
    if isinstance(value, tuple):
        return [_stable(item) for item in value]
    return rounded(value) if isinstance(value, float) else value
