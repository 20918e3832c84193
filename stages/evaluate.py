"""Stage ``evaluate``: score one row of the benchmark, ``python stages/evaluate.py cmad-petct``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petct_uad.console import fail_cleanly, stage
from petct_uad.evaluation.evaluate import EvaluationPaths, evaluate_run
from petct_uad.lineage.record import Activity, write_lineage
from petct_uad.lineage.sources import other_models
from petct_uad.params import load_params
from petct_uad.training.device import choose_device

PACKAGES = ("anomalib", "matplotlib", "numba", "numpy", "scikit-learn", "timm", "torch")


def main(
    run: Annotated[str, typer.Argument(help="a key of benchmark or of fused in params.yaml")],
) -> None:
    """Write metrics/runs/<run> and reports/panels/<run>."""
    with fail_cleanly(), stage(f"evaluate {run}"):
        params = load_params()
        row = params.row(run)
        kind = "fused" if run in params.fused else "benchmark"
        paths = EvaluationPaths(
            processed=Path("data/processed") / params.dataset,
            models=tuple(Path("models") / name for name in row.trained),
            metrics=Path("metrics/runs") / run,
            cost=Path("metrics/cost") / f"{run}.json",
            panels=Path("reports/panels") / run,
        )
        derivations = evaluate_run(
            run,
            paths,
            params.evaluate,
            dataset=params.dataset,
            protocol=params.split.protocol,
            device=choose_device(params.train.device),
        )
        activity = Activity(
            stage=f"evaluate {run}",
            params={
                "dataset": params.dataset,
                f"{kind}.{run}": row.model_dump(mode="json"),
                "split.protocol": params.split.protocol,
                "train.device": params.train.device,
                "evaluate": params.evaluate.model_dump(mode="json"),
            },
            entry=Path("stages/evaluate.py"),
            packages=PACKAGES,
            without=other_models(row.model),
        )
        write_lineage(paths.metrics / "lineage", activity, derivations)


if __name__ == "__main__":
    typer.run(main)
