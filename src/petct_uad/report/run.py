"""The compare stage: from the results of every row to its tables and the page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from petct_uad.comparison.compare import read_runs, result_paths, summarise, write_summary
from petct_uad.comparison.judged_scores import OUTCOMES, judge_scores
from petct_uad.core.files import write_text
from petct_uad.core.provenance.record import Derivation
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.report.benchmark import Entry, ReportPaths
from petct_uad.report.page import render_report, report_derivations


@dataclass(frozen=True)
class ComparisonPaths:
    """Where results are read, and the tables and the page written."""

    index: Path  # data/processed/<dataset>/index.csv
    metrics: Path  # metrics
    report: Path  # reports/index.html


def compare_runs(
    dataset: str, entries: Iterable[Entry], params: EvaluateParams, paths: ComparisonPaths
) -> tuple[Derivation, ...]:
    """Check the scores of every row, then write the summary's tables and the report.

    Args:
        dataset: its name.
        entries: of the benchmark.
        params: seed, resamples and confidence.
        paths: where to.

    Returns:
        What each written file was made from.

    Raises:
        EvaluationError: results are missing, of another version or of other slices.
        ValidationFailedError: the scores of a row fail a critical check.
    """
    known = tuple(entries)
    results = result_paths(paths.metrics, (entry.key for entry in known))
    outcomes = paths.metrics / OUTCOMES
    judged = judge_scores([run.scores for run in results], paths.index, outcomes)
    runs = read_runs(results)
    summary = summarise(runs, params)
    write_summary(paths.metrics, summary)
    shown = ReportPaths.of(dataset, results, known)
    write_text(paths.report, render_report(summary, runs, shown))
    return (*report_derivations(paths.report, paths.metrics, shown), judged)
