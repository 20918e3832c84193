"""Compare as its stage runs it: from the results of every row to tables and page."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from petct_uad.core.errors import EvaluationError
from petct_uad.report.benchmark import Entry
from petct_uad.report.run import ComparisonPaths, compare_runs
from tests.samples import PETCT_BASELINES

from .conftest import Project

pytestmark = pytest.mark.slow

PATHS = ComparisonPaths(
    index=Path("data/processed/tiny/index.csv"),
    metrics=Path("metrics"),
    report=Path("reports/index.html"),
)
CMAD = Entry("cmad", "cmad")
WRITTEN = {
    *(f"file:metrics/summary.{kind}" for kind in ("json", "csv", "md")),
    *(f"file:metrics/{name}" for name in ("pairs.csv", "hypotheses.csv", "validation_scores.json")),
    "file:reports/index.html",
}


def runs_of(path: Path) -> set[str]:
    with path.open(newline="") as stream:
        return {row["run"] for row in csv.DictReader(stream)}


def test_every_table_and_the_page_are_written_and_derived(
    project_with: Callable[..., Project],
) -> None:
    project = project_with()
    derived = compare_runs("tiny", [CMAD, Entry("patchcore", "patchcore")], project.params, PATHS)
    assert {item.output.id for item in derived} == WRITTEN
    runs = {*project.runs, *PETCT_BASELINES}
    assert runs_of(Path("metrics/summary.csv")) == runs
    page = next(item for item in derived if item.output.id.endswith(".html"))
    inputs = {source.id for source in page.inputs}
    assert {f"file:metrics/runs/{x.split('-')[0]}/{x}/scores.csv" for x in project.runs} <= inputs


def test_results_of_what_was_taken_out_of_the_benchmark_do_not_count(
    project_with: Callable[..., Project],
) -> None:
    project = project_with()
    compare_runs("tiny", [CMAD], project.params, PATHS)
    assert not [x for x in runs_of(Path("metrics/summary.csv")) if x.startswith("patchcore")]


def test_an_entry_without_results_is_named(
    project_with: Callable[..., Project],
) -> None:
    project = project_with()
    with pytest.raises(EvaluationError, match="metrics/runs/padim: holds no results"):
        compare_runs("tiny", [CMAD, Entry("padim", "padim")], project.params, PATHS)
