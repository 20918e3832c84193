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
PACKAGES = ("great-expectations", "jinja2", "matplotlib", "numpy", "pandas", "pillow",
            "scikit-image", "scikit-learn")  # fmt: skip


def main() -> None:
    """Write metrics/{summary.*,pairs.csv,hypotheses.csv} and reports/index.html."""
    with fail_cleanly(), stage("compare"):
        params = load_params()
        results = result_paths(METRICS, params.rows)
        interim = Path("data/interim") / params.dataset
        processed = Path("data/processed") / params.dataset
        scores = {paths.folder.name: paths.scores for paths in results}
        judged = judge_scores(scores, processed / "index.csv", METRICS / "validation_scores.json")
        runs = read_runs(results)
        summary = summarise(runs, params.evaluate, params.model)
        write_summary(METRICS, summary)
        rows = (f"{family}/{row}" for row, family in params.rows.items())
        models = [Path("models") / name for name in ("distil", *rows)]
        paths = ReportPaths(
            interim=interim,
            processed=processed,
            results=results,
            registration=METRICS / "registration.json",
            validation=METRICS / "validation.json",
            pictures=Path("reports/registration"),
            panels=Path("reports/panels"),
            lineage=lineage_folders(interim, processed, models, results),
        )
        write_text(REPORT, page.render_report(summary, runs, paths))
        activity = Activity(
            stage="compare",
            params={
                "dataset": params.dataset,
                **params.model_dump(mode="json", include={"benchmark", "evaluate", "model"}),
            },
            entry=Path("stages/compare.py"),
            packages=PACKAGES,
        )
        derivations = page.report_derivations(REPORT, METRICS, paths)
        write_lineage(METRICS / "lineage", activity, [*derivations, judged])


if __name__ == "__main__":
    typer.run(main)
