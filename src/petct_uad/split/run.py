"""The split stage: from the tables and masks of the stages before to ``slices.csv``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from petct_uad.core.errors import SplitError
from petct_uad.core.files import atomic_folder, read_table, write_table
from petct_uad.core.params.base import Region
from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.core.store.study_store import StudyStore
from petct_uad.ingest.tables import STUDIES, StudyRow
from petct_uad.slices.tables import REGIONS, SLICES, RegionRow, SliceRow
from petct_uad.split.labels import split_slices
from petct_uad.split.params import SplitParams
from petct_uad.split.region import check_found, region_rows
from petct_uad.volumes.study import VolumeFolders

FIGURES = "regions"


@dataclass(frozen=True)
class _Inputs:
    """What the stage reads."""

    interim: Path
    studies: Sequence[StudyRow]
    volumes: VolumeFolders

    @property
    def labels(self) -> tuple[Path, ...]:
        """What labels and splits come from."""
        studies = (study.study_id for study in self.studies)
        tables = (self.interim / "ingest" / STUDIES, self.volumes.patient_split)
        return (*filter(None, tables), *self.volumes.label_sources(studies))


def split_dataset(
    interim: Path,
    params: SplitParams,
    region: Region = "all",
    workers: int = 1,
    store: StudyStore | None = None,
) -> list[Derivation]:
    """Label every slice of ``data/interim/<dataset>``, give it a split, and write the table.

    Where the ``region`` is the thorax, ``regions.csv`` and a figure per study are written too.

    Raises:
        DatasetError: a mask or a CT cannot be read.
        RegistrationError: register ran on other volumes than those of ingest.
        SplitError: a split would have no patient or no normal slice; or a thorax is asked for of
            pictures, or of CTs none of which shows lungs.
    """
    volumes = VolumeFolders.of(interim)
    inputs = _Inputs(interim, read_table(interim / "ingest" / STUDIES, StudyRow), volumes)
    with atomic_folder(interim / "split") as out:
        if region == "all":
            rows = split_slices(inputs.studies, volumes, params, workers=workers, store=store)
        else:
            rows = _split_thoraxes(inputs, params, out, workers, store)
        write_table(out / SLICES, SliceRow, rows)
    if region == "all":
        return [_derivation(interim / "split" / SLICES, inputs.labels)]
    return _thorax_derivations(inputs)


def _split_thoraxes(
    inputs: _Inputs, params: SplitParams, out: Path, workers: int, store: StudyStore | None
) -> list[SliceRow]:
    if inputs.volumes.assigned:
        raise SplitError(
            "preprocess.region: thorax asks for lungs in a CT, and this is a data set of pictures; "
            "set preprocess.region: all"
        )
    from petct_uad.split.thorax import find_thoraxes  # which takes scipy, and few ask for it

    study_ids = [study.study_id for study in inputs.studies]
    thoraxes = find_thoraxes(study_ids, inputs.volumes, out / FIGURES, workers, store)
    check_found(thoraxes)
    rows = split_slices(
        inputs.studies, inputs.volumes, params, thoraxes, workers=workers, store=store
    )
    write_table(out / REGIONS, RegionRow, region_rows(thoraxes, rows))
    return rows


def _thorax_derivations(inputs: _Inputs) -> list[Derivation]:
    """Each figure from its CT and body, and both tables from all of them and the labels."""
    split = inputs.interim / "split"
    found: list[Derivation] = []
    images: list[Path] = []
    for study in sorted(inputs.studies):
        folder = inputs.volumes.study(study.study_id)
        pair = (folder.ct, folder.body)
        found.append(_derivation(split / FIGURES / f"{study.study_id}.png", pair))
        images += pair
    tables = (split / SLICES, split / REGIONS)
    sources = tuple(dict.fromkeys((*inputs.labels, *images)))
    return [*found, *(_derivation(table, sources) for table in tables)]


def _derivation(output: Path, inputs: Sequence[Path]) -> Derivation:
    return Derivation(Entity.of_file(output), tuple(map(Entity.of_file, inputs)))
