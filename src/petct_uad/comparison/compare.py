"""Every run in one table, each set against slice SUVmax on the same slices; papers' claims."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from petct_uad.comparison.hypotheses import UNTESTED, Hypothesis, judge_claims, judged
from petct_uad.comparison.markdown import to_markdown
from petct_uad.comparison.paired import PairedAurocs
from petct_uad.comparison.tables import (
    BEATS,
    LEVEL,
    LOSES,
    TRIVIAL_VERDICT,
    Difference,
    HypothesisRow,
    PairRow,
    SummaryRow,
)
from petct_uad.core.errors import EvaluationError
from petct_uad.core.files import rounded, write_columns, write_json, write_table, write_text
from petct_uad.evaluation import figures
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.results import ResultPaths, RunResults, read_results
from petct_uad.evaluation.trivial import SUVMAX, TRIVIAL

SUMMARY_FILES = ("summary.json", "summary.csv", "summary.md", "pairs.csv", "hypotheses.csv")


@dataclass(frozen=True)
class Summary:
    """The whole benchmark in figures."""

    rows: tuple[SummaryRow, ...]  # best AUROC first
    pairs: tuple[PairRow, ...]  # every two models, in the order of the rows
    hypotheses: tuple[Hypothesis, ...]  # what papers claim of them

    @property
    def leaking(self) -> bool:
        """Were patients of the test split also trained on?"""
        return any(row.leaking for row in self.rows)


def result_paths(metrics: Path, entries: Iterable[str]) -> tuple[ResultPaths, ...]:
    """Where the results of every row and of the trivial baselines lie.

    Args:
        metrics: the folder ``metrics``.
        entries: the keys of the benchmark; what was taken out of it does not count, though its
            results may still be there.

    Raises:
        EvaluationError: an entry has none.
    """
    found = []
    for entry in (*entries, TRIVIAL):
        folder = metrics / "runs" / entry
        runs = sorted(path.parent.name for path in folder.glob("*/metrics.json"))
        if not runs:
            raise EvaluationError(f"{folder}: holds no results. Run `dvc repro compare`.")
        found += [ResultPaths.of(metrics, entry, run) for run in runs]
    return tuple(found)


def read_runs(results: Iterable[ResultPaths]) -> tuple[RunResults, ...]:
    """The results of every evaluated row and of the trivial baselines.

    Raises:
        EvaluationError: a run's results are missing, or its test slices are not SUVmax's.
    """
    runs = {paths: read_results(paths) for paths in results}
    slices = {paths: _slices_by_seed(run) for paths, run in runs.items()}
    (expected,) = (x for paths, x in slices.items() if paths.folder.name == SUVMAX.name)
    for paths, seeds in slices.items():
        if any(ids != expected[0] for ids in seeds):
            raise EvaluationError(
                f"{paths.scores}: other test slices than {SUVMAX.name}'s; "
                "one of the two is stale. Run `dvc repro compare`."
            )
    return tuple(runs.values())


def summarise(runs: Sequence[RunResults], params: EvaluateParams) -> Summary:
    """One row per run, each against SUVmax; every two models; what papers claim of them.

    Each of the three tables is a family of its own for Holm's correction: every row against
    SUVmax, every two models, every comparison that a claim rests on.

    Args:
        runs: what :func:`read_runs` returned.
        params: seed, resamples and confidence.
    """
    by_name = {run.metrics.identity.run: run for run in runs}
    paired = PairedAurocs.of({name: run.scores_by_seed for name, run in by_name.items()}, params)
    others = [name for name in by_name if name != SUVMAX.name]
    against = dict(zip(others, paired.family([(x, SUVMAX.name) for x in others]), strict=True))
    rows = [_summary_row(run, against.get(name), params) for name, run in by_name.items()]
    ranked = tuple(sorted(rows, key=lambda row: (-row.auroc.value, row.run)))
    hypotheses = judge_claims(paired, [run.metrics.identity for run in runs])
    return Summary(ranked, _pair_rows(ranked, paired), hypotheses)


def write_summary(folder: Path, summary: Summary) -> None:
    """Write ``SUMMARY_FILES``."""
    columns = [row.columns for row in summary.rows]
    write_columns(folder / "summary.csv", list(columns[0]), [list(x.values()) for x in columns])
    write_table(folder / "pairs.csv", PairRow, summary.pairs)
    write_table(folder / "hypotheses.csv", HypothesisRow, list(_hypothesis_rows(summary)))
    write_text(folder / "summary.md", to_markdown(summary.rows, summary.hypotheses))
    write_json(folder / "summary.json", _narrow(summary))


def verdict(difference: Difference, confidence: float) -> str:
    """What the AUROC difference to SUVmax says, at ``confidence`` over the whole table.

    A model at or below SUVmax loses, whatever the interval: the burden of proof is the model's.
    """
    return judged(difference, 1 - confidence, BEATS, LEVEL, LOSES)


def _narrow(summary: Summary) -> Mapping[str, object]:
    rows = sorted(summary.rows, key=lambda row: row.run)
    return {
        "leaking": summary.leaking,
        "auroc": {row.run: rounded(row.auroc.value) for row in rows},
        "auroc_minus_suvmax": {row.run: rounded(row.minus_suvmax.value) for row in rows},
        "auroc_minus_suvmax_p_holm": {row.run: rounded(row.minus_suvmax.p_holm) for row in rows},
        **_others(rows),
    }


def _others(rows: Sequence[SummaryRow]) -> dict[str, dict[str, float]]:
    """Other figures that are declared for it: by run, of those that have it."""
    wanted = [figure.name for figure in figures.FIGURES if figure.in_diff]
    found = {
        name: {row.run: rounded(row.figures[name].value) for row in rows if name in row.figures}
        for name in wanted
    }
    return {name: values for name, values in found.items() if values}


def _pair_rows(ranked: Sequence[SummaryRow], paired: PairedAurocs) -> tuple[PairRow, ...]:
    models = [row.run for row in ranked if row.verdict != TRIVIAL_VERDICT]
    pairs = list(combinations(models, 2))
    level, leaking = 1 - paired.confidence, any(row.leaking for row in ranked)
    return tuple(
        PairRow(*pair, x.value, x.low, x.high, x.p, x.p_holm, x.p_holm < level, leaking)
        for pair, x in zip(pairs, paired.family(pairs), strict=True)
    )


def _hypothesis_rows(summary: Summary) -> Iterator[HypothesisRow]:
    for hypothesis in summary.hypotheses:
        found = {comparison.worse: comparison for comparison in hypothesis.comparisons}
        for worse in hypothesis.claim.worse:
            comparison = found.get(worse)
            x = comparison.difference if comparison else None
            yield HypothesisRow(
                statement=hypothesis.claim.text,
                source=hypothesis.claim.source,
                better=hypothesis.claim.better,
                worse=worse,
                auroc_difference=x.value if x else None,
                low=x.low if x else None,
                high=x.high if x else None,
                p=x.p if x else None,
                p_holm=x.p_holm if x else None,
                outcome=comparison.outcome if comparison else UNTESTED,
                statement_outcome=hypothesis.outcome,
                leaking=summary.leaking,
            )


def _summary_row(
    run: RunResults, difference: Difference | None, params: EvaluateParams
) -> SummaryRow:
    """One row; SUVmax itself differs from SUVmax in nothing."""
    metrics, identity = run.metrics, run.metrics.identity
    minus = difference or Difference(0.0, 0.0, 0.0, 1.0, 1.0)
    return SummaryRow(
        run=identity.run,
        model=identity.model,
        modality=identity.modality,
        teacher=identity.teacher,
        image_size_px=identity.image_size_px,
        verdict=TRIVIAL_VERDICT if identity.trivial else verdict(minus, params.confidence),
        protocol=identity.protocol,
        test_patients=identity.test_patients,
        leaking=metrics.leaking,
        seeds=metrics.seeds,
        figures=metrics.figures,
        minus_suvmax=minus,
        parameters=identity.parameters,
        n_patients=metrics.n_patients,
        n_test_normal=metrics.n_test_normal,
        n_test_abnormal=metrics.n_test_abnormal,
    )


def _slices_by_seed(run: RunResults) -> list[list[str]]:
    return [[row.slice_id for row in rows] for rows in run.by_seed]
