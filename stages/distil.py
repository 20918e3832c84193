"""distil: HDHKD's teacher from the one of params.yaml, on the training normals."""

from pathlib import Path

import typer

from petct_uad.core.provenance.stage import run_stage
from petct_uad.distil.run import distil_teacher
from petct_uad.models.hdhkd.teacher.params import TEACHER_FOLDER, DistilParams
from petct_uad.teachers.params import TeacherParams
from petct_uad.training.params import TrainParams


def main() -> None:
    """Write models/distil, metrics/distil.csv and their lineage."""
    with run_stage("distil", __file__) as run:
        distilled = distil_teacher(
            params=run.params.section(DistilParams, "distil"),
            teacher=run.params.section(TeacherParams, "teacher"),
            train=run.params.section(TrainParams, "train"),
            processed=Path("data/processed") / run.params.dataset,
            folder=TEACHER_FOLDER,
            curve_file=Path("metrics/distil.csv"),
        )
        run.record(TEACHER_FOLDER, distilled.derivations)


if __name__ == "__main__":
    typer.run(main)
