"""Stage ``compare``: every run in one table and one report."""

from __future__ import annotations

from pathlib import Path

import typer

from petct_uad.comparison.compare import read_runs, result_paths, summarise, write_summary
from petct_uad.comparison.judged_scores import judge_scores
from petct_uad.core.console import fail_cleanly, stage
from petct_uad.core.files import write_text
from petct_uad.core.params.reading import ParamsFile
from petct_uad.core.provenance.record import Activity, write_lineage
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.models.benchmark import BenchmarkEntry, rows_of
from petct_uad.models.cmad.params import CmadParams
from petct_uad.report import page
from petct_uad.report.benchmark import ReportPaths

METRICS = Path("metrics")
REPORT = Path("reports/index.html")
SCORES = METRICS / "validation_scores.json"
PACKAGES = ("great-expectations", "jinja2", "matplotlib", "numpy", "pandas", "pillow",
            "scikit-image", "scikit-learn")  # fmt: skip


def main() -> None:
    """Write metrics/{summary.*,pairs.csv,hypotheses.csv} and reports/index.html."""
    with fail_cleanly(), stage("compare"):
        params = ParamsFile.read()
        benchmark = params.section(dict[str, BenchmarkEntry], "benchmark")
        evaluate = params.section(EvaluateParams, "evaluate")
        model = params.section(CmadParams, "model")
        results = result_paths(METRICS, rows_of(benchmark))
        index = Path("data/processed") / params.dataset / "index.csv"
        judged = judge_scores([run.scores for run in results], index, SCORES)
        runs = read_runs(results)
        summary = summarise(runs, evaluate, model)
        write_summary(METRICS, summary)
        paths = ReportPaths.of(params.dataset, results)
        write_text(REPORT, page.render_report(summary, runs, paths))
        asked = {
            "dataset": params.dataset,
            "model": model.model_dump(mode="json"),
            "evaluate": evaluate.model_dump(mode="json"),
            "benchmark": {key: family.model_dump(mode="json") for key, family in benchmark.items()},
        }
        activity = Activity("compare", asked, Path("stages/compare.py"), PACKAGES)
        derivations = page.report_derivations(REPORT, METRICS, paths)
        write_lineage(METRICS / "lineage", activity, [*derivations, judged])


if __name__ == "__main__":
    typer.run(main)
