"""Every run in one table, each set against slice SUVmax on the same slices, and CMAD's claims."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from petct_uad.comparison.hypotheses import PROPOSED, UNTESTED, Hypothesis, judge_statements, judged
from petct_uad.comparison.markdown import to_markdown
from petct_uad.comparison.paired import PairedAurocs
from petct_uad.core.errors import EvaluationError
from petct_uad.core.files import rounded, write_json, write_table, write_text
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.results import ResultPaths, RunResults, read_results
from petct_uad.evaluation.tables import (
    BEATS,
    LEVEL,
    LOSES,
    TRIVIAL_VERDICT,
    Difference,
    HypothesisRow,
    PairRow,
    SummaryRow,
)
from petct_uad.evaluation.trivial import SUVMAX, TRIVIAL, TRIVIAL_BASELINES
from petct_uad.models.cmad.params import CmadParams

SUMMARY_FILES = ("summary.json", "summary.csv", "summary.md", "pairs.csv", "hypotheses.csv")


@dataclass(frozen=True)
class Summary:
    """The whole benchmark in figures."""

    rows: tuple[SummaryRow, ...]  # best AUROC first
    pairs: tuple[PairRow, ...]  # every two models, in the order of the rows
    hypotheses: tuple[Hypothesis, ...]  # of the CMAD paper

    @property
    def leaking(self) -> bool:
        """Were patients of the test split also trained on?"""
        return any(row.leaking for row in self.rows)


def result_paths(metrics: Path, rows: Mapping[str, str]) -> tuple[ResultPaths, ...]:
    """Where the results of every row and of the trivial baselines lie.

    Args:
        metrics: the folder ``metrics``.
        rows: the family of each row, by name.
    """
    trivial = {baseline.name: TRIVIAL for baseline in TRIVIAL_BASELINES}
    families = {**rows, **trivial}
    return tuple(ResultPaths.of(metrics, family, run) for run, family in families.items())


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


def summarise(
    runs: Sequence[RunResults], params: EvaluateParams, proposed: CmadParams | None = None
) -> Summary:
    """One row per run, each against SUVmax; every two models; the statements of CMAD's paper.

    Each of the three tables is a family of its own for Holm's correction: every row against
    SUVmax, every two models, every comparison that a statement rests on.

    Args:
        runs: what :func:`read_runs` returned.
        params: seed, resamples and confidence.
        proposed: the params of cmad-petct, see :func:`judge_statements`.
    """
    by_name = {run.metrics.identity.run: run for run in runs}
    paired = PairedAurocs.of({name: run.scores_by_seed for name, run in by_name.items()}, params)
    others = [name for name in by_name if name != SUVMAX.name]
    against = dict(zip(others, paired.family([(x, SUVMAX.name) for x in others]), strict=True))
    rows = [_summary_row(run, against.get(name), params) for name, run in by_name.items()]
    ranked = tuple(sorted(rows, key=lambda row: (-row.auroc, row.run)))
    return Summary(ranked, _pair_rows(ranked, paired), judge_statements(paired, proposed))


def write_summary(folder: Path, summary: Summary) -> None:
    """Write ``SUMMARY_FILES``; the JSON is kept narrow for ``dvc exp show``."""
    write_table(folder / "summary.csv", SummaryRow, summary.rows)
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
    by_name = sorted(summary.rows, key=lambda row: row.run)
    narrow = ("auroc", "auroc_minus_suvmax", "auroc_minus_suvmax_p_holm")
    return {
        "leaking": summary.leaking,
        **{key: {row.run: rounded(getattr(row, key)) for row in by_name} for key in narrow},
    }


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
        found = {claim.worse: claim for claim in hypothesis.claims}
        for worse in hypothesis.statement.worse:
            claim = found.get(worse)
            x = claim.difference if claim else None
            yield HypothesisRow(
                statement=hypothesis.statement.text,
                source=hypothesis.statement.source,
                better=PROPOSED,
                worse=worse,
                auroc_difference=x.value if x else None,
                low=x.low if x else None,
                high=x.high if x else None,
                p=x.p if x else None,
                p_holm=x.p_holm if x else None,
                outcome=claim.outcome if claim else UNTESTED,
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
        verdict=TRIVIAL_VERDICT if identity.trivial else verdict(minus, params.confidence),
        protocol=identity.protocol,
        leaking=metrics.leaking,
        seeds=metrics.seeds,
        auroc=metrics.auroc.value,
        auroc_low=metrics.auroc.low,
        auroc_high=metrics.auroc.high,
        auroc_deviation=metrics.auroc_deviation,
        auroc_minus_suvmax=minus.value,
        auroc_minus_suvmax_low=minus.low,
        auroc_minus_suvmax_high=minus.high,
        auroc_minus_suvmax_p=minus.p,
        auroc_minus_suvmax_p_holm=minus.p_holm,
        ap=metrics.ap.value,
        ap_low=metrics.ap.low,
        ap_high=metrics.ap.high,
        ap_deviation=metrics.ap_deviation,
        f1=metrics.f1.value,
        f1_deviation=metrics.f1_deviation,
        accuracy=metrics.accuracy.value,
        sensitivity=metrics.sensitivity.value,
        specificity=metrics.specificity.value,
        oracle_f1=metrics.oracle_f1,
        pixel_auroc=metrics.pixel_auroc,
        aupro=metrics.aupro,
        patient_auroc=metrics.patient_auroc.value if metrics.patient_auroc else None,
        parameters=identity.parameters,
        n_patients=metrics.n_patients,
        n_test_normal=metrics.n_test_normal,
        n_test_abnormal=metrics.n_test_abnormal,
    )


def _slices_by_seed(run: RunResults) -> list[list[str]]:
    return [[row.slice_id for row in rows] for rows in run.by_seed]
