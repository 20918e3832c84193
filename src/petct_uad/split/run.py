"""The split stage: from the tables and masks of the stages before to ``slices.csv``."""

from __future__ import annotations

from pathlib import Path

from petct_uad.core.files import atomic_folder, read_table, write_table
from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.ingest.tables import StudyRow
from petct_uad.slices.tables import SliceRow
from petct_uad.split.labels import split_slices
from petct_uad.split.params import SplitParams
from petct_uad.volumes.study import VolumeFolders


def split_dataset(interim: Path, params: SplitParams) -> list[Derivation]:
    """Label every slice of ``data/interim/<dataset>``, give it a split, and write the table.

    Raises:
        DatasetError: a mask cannot be read.
        RegistrationError: register ran on other volumes than those of ingest.
        SplitError: a split would have no patient or no normal slice.
    """
    studies_file = interim / "ingest/studies.csv"
    volumes = VolumeFolders(interim / "ingest/volumes", interim / "register/volumes")
    studies = read_table(studies_file, StudyRow)
    rows = split_slices(studies, volumes, params)
    with atomic_folder(interim / "split") as out:
        write_table(out / "slices.csv", SliceRow, rows)
    inputs = (studies_file, *volumes.label_sources(study.study_id for study in studies))
    table = Entity.of_file(interim / "split/slices.csv")
    return [Derivation(table, tuple(map(Entity.of_file, inputs)))]
