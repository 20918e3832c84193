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
from petct_uad.report.benchmark import ReportPaths, lineage_folders
from petct_uad.validation.scores import judge_scores

METRICS = Path("metrics")
REPORT = Path("reports/index.html")
KINDS = ("interim", "processed")
SCORES = METRICS / "validation_scores.json"
PACKAGES = ("great-expectations", "jinja2", "matplotlib", "numpy", "pandas", "pillow",
            "scikit-image", "scikit-learn")  # fmt: skip


def main() -> None:
    """Write metrics/{summary.*,pairs.csv,hypotheses.csv} and reports/index.html."""
    with fail_cleanly(), stage("compare"):
        params = load_params()
        results = result_paths(METRICS, params.rows)
        interim, processed = (Path("data", kind, params.dataset) for kind in KINDS)
        judged = judge_scores([run.scores for run in results], processed / "index.csv", SCORES)
        runs = read_runs(results)
        summary = summarise(runs, params.evaluate, params.model)
        write_summary(METRICS, summary)
        paths = ReportPaths(
            interim=interim,
            processed=processed,
            results=results,
            registration=METRICS / "registration.json",
            validation=METRICS / "validation.json",
            pictures=Path("reports/registration"),
            panels=Path("reports/panels"),
            lineage=lineage_folders(interim, processed, Path("models"), results),
        )
        write_text(REPORT, page.render_report(summary, runs, paths))
        activity = Activity(
            stage="compare",
            params=params.model_dump(
                mode="json", include={"benchmark", "dataset", "evaluate", "model"}
            ),
            entry=Path("stages/compare.py"),
            packages=PACKAGES,
        )
        derivations = page.report_derivations(REPORT, METRICS, paths)
        write_lineage(METRICS / "lineage", activity, [*derivations, judged])


if __name__ == "__main__":
    typer.run(main)
