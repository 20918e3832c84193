"""evaluate_trivial: numbers that a reader has without a model, as if they were models."""

from pathlib import Path

import typer

from petct_uad.core.params.base import ProtocolPart
from petct_uad.core.provenance.stage import run_stage
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.results import ResultPaths
from petct_uad.evaluation.run import evaluate_trivial
from petct_uad.evaluation.tables import MeasuredOn
from petct_uad.evaluation.trivial import TRIVIAL
from petct_uad.ingest.tables import STUDIES

METRICS = Path("metrics")


def main() -> None:
    """Write metrics/runs/trivial, metrics/roc/trivial and metrics/auroc/trivial.json."""
    with run_stage("evaluate_trivial", __file__) as run:
        evaluated = evaluate_trivial(
            processed=Path("data/processed") / run.params.dataset,
            studies=Path("data/interim") / run.params.dataset / "ingest" / STUDIES,
            on=MeasuredOn(run.params.dataset, **vars(run.params.section(ProtocolPart, "split"))),
            params=run.params.section(EvaluateParams, "evaluate"),
            metrics=METRICS,
        )
        for baseline, derivations in evaluated.items():
            run.record(ResultPaths.of(METRICS, TRIVIAL, baseline).folder, derivations)


if __name__ == "__main__":
    typer.run(main)
