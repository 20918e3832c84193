"""compare: every run in one table and one self-contained report."""

from pathlib import Path
from typing import Any

import typer

from petct_uad.core.provenance.stage import run_stage
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.report.benchmark import Entry
from petct_uad.report.run import ComparisonPaths, compare_runs
from petct_uad.slices.tables import INDEX

METRICS = Path("metrics")


def main() -> None:
    """Write metrics/{summary.*,pairs.csv,hypotheses.csv} and reports/index.html."""
    with run_stage("compare", __file__) as run:
        paths = ComparisonPaths(
            index=Path("data/processed") / run.params.dataset / INDEX,
            metrics=METRICS,
            report=Path("reports/index.html"),
        )
        benchmark = run.params.section(dict[str, Any], "benchmark")
        derivations = compare_runs(
            dataset=run.params.dataset,
            entries=[Entry(key, of["model"]) for key, of in benchmark.items()],
            params=run.params.section(EvaluateParams, "evaluate"),
            paths=paths,
        )
        run.record(METRICS, derivations)


if __name__ == "__main__":
    typer.run(main)
