"""Stage ``split``: label every slice and give it to train, val or test."""

from __future__ import annotations

from pathlib import Path

import typer

from petct_uad.core.console import fail_cleanly, stage
from petct_uad.core.files import atomic_folder, read_table, write_table
from petct_uad.core.params.reading import ParamsFile
from petct_uad.core.provenance.record import Activity, Derivation, Entity, write_lineage
from petct_uad.ingest.tables import StudyRow
from petct_uad.slices.tables import SliceRow
from petct_uad.split.labels import split_slices
from petct_uad.split.params import SplitParams
from petct_uad.volumes.study import VolumeFolders


def main() -> None:
    """Write data/interim/<dataset>/split."""
    with fail_cleanly(), stage("split"):
        params = ParamsFile.read()
        split = params.section(SplitParams, "split")
        interim = Path("data/interim") / params.dataset
        studies_file = interim / "ingest/studies.csv"
        volumes = VolumeFolders(interim / "ingest/volumes", interim / "register/volumes")
        studies = read_table(studies_file, StudyRow)
        rows = split_slices(studies, volumes, split)
        with atomic_folder(interim / "split") as out:
            write_table(out / "slices.csv", SliceRow, rows)
        table = Entity.of_file(interim / "split/slices.csv")
        inputs = (studies_file, *volumes.label_sources(study.study_id for study in studies))
        derivation = Derivation(table, tuple(map(Entity.of_file, inputs)))
        activity = Activity(
            stage="split",
            params={"dataset": params.dataset, "split": split.model_dump(mode="json")},
            entry=Path("stages/split.py"),
            packages=("numpy", "SimpleITK"),
        )
        write_lineage(interim / "split/lineage", activity, [derivation])


if __name__ == "__main__":
    typer.run(main)
