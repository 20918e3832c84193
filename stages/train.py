"""train: the rows of one model, ``python stages/train.py cmad``."""

from typing import Annotated

import typer

from petct_uad.core.provenance.stage import run_stage
from petct_uad.models.benchmark import BenchmarkEntry, model_folder, params_class
from petct_uad.teachers.params import TeacherParams
from petct_uad.training.loop.ranks import join_ranks
from petct_uad.training.params import TrainParams
from petct_uad.training.run import TrainingPaths, train_entry


def main(name: Annotated[str, typer.Argument(help="a key of benchmark in params.yaml")]) -> None:
    """Write models/<name>, metrics/training/<name> and their lineage."""
    with join_ranks() as ranks, run_stage(f"train {name}", __file__) as run:
        entry = run.params.section(BenchmarkEntry, f"benchmark.{name}")
        paths = TrainingPaths.of(run.params.dataset, name)
        trained = train_entry(
            entry=entry,
            params=entry.changed(run.params.section(params_class(entry.model), entry.params)),
            teacher=run.params.section(TeacherParams, entry.teacher),
            train=run.params.section(TrainParams, "train"),
            paths=paths,
            ranks=ranks,
        )
        loaded = (model_folder(entry.model),)
        for row, done in trained.items() if ranks.first else ():
            run.record(paths.models / row, done.derivations, loaded=loaded, name=f"train {row}")


if __name__ == "__main__":
    typer.run(main)
