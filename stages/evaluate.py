"""Stage ``evaluate``: score the rows of one model, ``python stages/evaluate.py cmad``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petct_uad.console import fail_cleanly, stage
from petct_uad.evaluation.evaluate import EvaluationPaths, evaluate_family
from petct_uad.lineage.record import Activity, write_lineage
from petct_uad.lineage.sources import other_models
from petct_uad.params import load_params
from petct_uad.training.device import choose_device

PACKAGES = ("anomalib", "matplotlib", "numba", "numpy", "scikit-learn", "timm", "torch")


def main(name: Annotated[str, typer.Argument(help="a key of benchmark in params.yaml")]) -> None:
    """Write metrics/runs/<name>, metrics/roc/<name> and reports/panels/<name>."""
    with fail_cleanly(), stage(f"evaluate {name}"):
        params = load_params()
        family = params.family(name)
        paths = EvaluationPaths(
            processed=Path("data/processed") / params.dataset,
            models=Path("models") / name,
            metrics=Path("metrics"),
            panels=Path("reports/panels") / name,
        )
        derived = evaluate_family(
            family,
            paths,
            params.evaluate,
            dataset=params.dataset,
            protocol=params.split.protocol,
            device=choose_device(params.train.device),
        )
        for run, derivations in derived.items():
            activity = Activity(
                stage=f"evaluate {run}",
                params={
                    "dataset": params.dataset,
                    f"benchmark.{name}": family.model_dump(mode="json"),
                    "split.protocol": params.split.protocol,
                    "train.device": params.train.device,
                    "evaluate": params.evaluate.model_dump(mode="json"),
                },
                entry=Path("stages/evaluate.py"),
                packages=PACKAGES,
                without=other_models(family.model),
            )
            write_lineage(paths.results(run).folder / "lineage", activity, derivations)


if __name__ == "__main__":
    typer.run(main)
