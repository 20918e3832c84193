"""evaluate: figures, curves and panels of one model, ``python stages/evaluate.py cmad``."""

from typing import Annotated

import typer

from petct_uad.core.params.base import ProtocolPart
from petct_uad.core.provenance.stage import run_stage
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.run import EvaluationPaths, evaluate_entry
from petct_uad.evaluation.tables import MeasuredOn


def main(name: Annotated[str, typer.Argument(help="a key of benchmark in params.yaml")]) -> None:
    """Write metrics/{runs,roc,froc}/<name>, metrics/auroc/<name>.json and reports/panels/<name>."""
    with run_stage(f"evaluate {name}", __file__) as run:
        paths = EvaluationPaths.of(run.params.dataset, name)
        evaluated = evaluate_entry(
            paths,
            run.params.section(EvaluateParams, "evaluate"),
            MeasuredOn(run.params.dataset, **vars(run.params.section(ProtocolPart, "split"))),
        )
        for row, derivations in evaluated.items():
            run.record(paths.results(row).folder, derivations, name=f"evaluate {row}")


if __name__ == "__main__":
    typer.run(main)
