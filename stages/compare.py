"""Stage ``compare``: every run in one table and one report."""

from __future__ import annotations

from pathlib import Path

import typer

from petct_uad.console import fail_cleanly, stage
from petct_uad.evaluation.compare import read_runs, result_paths, summarise, write_summary
from petct_uad.files import write_text
from petct_uad.lineage.record import Activity, write_lineage
from petct_uad.params import load_params
from petct_uad.report import page

METRICS = Path("metrics")
REPORT = Path("reports/index.html")


def main() -> None:
    """Write metrics/summary.{json,csv,md} and reports/index.html."""
    with fail_cleanly(), stage("compare"):
        params = load_params()
        results = result_paths(METRICS, params.rows)
        runs = read_runs(results)
        summary = summarise(runs, params.evaluate)
        write_summary(METRICS, summary)
        interim = Path("data/interim") / params.dataset
        processed = Path("data/processed") / params.dataset
        models = [Path("models") / family / row for row, family in params.rows.items()]
        paths = page.ReportPaths(
            interim=interim,
            processed=processed,
            results=results,
            registration=METRICS / "registration.json",
            validation=METRICS / "validation.json",
            pictures=Path("reports/registration"),
            panels=Path("reports/panels"),
            activities=page.activity_files(interim, processed, models, results),
        )
        write_text(REPORT, page.render_report(summary, runs, paths))
        activity = Activity(
            stage="compare",
            params={
                "dataset": params.dataset,
                **params.model_dump(mode="json", include={"benchmark", "evaluate"}),
            },
            entry=Path("stages/compare.py"),
            packages=("jinja2", "matplotlib", "numpy", "pillow", "scikit-learn"),
        )
        derivations = page.report_derivations(REPORT, METRICS, paths)
        write_lineage(METRICS / "lineage", activity, derivations)


if __name__ == "__main__":
    typer.run(main)
