"""Everything that validation measures itself, so that it rests on bytes and not on claims."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.core.store.study_store import StudyStore
from petct_uad.slices.tables import shard_path
from petct_uad.validation.drift import measure_drift
from petct_uad.validation.duplicates import find_duplicates
from petct_uad.validation.livers import liver_files, measure_livers
from petct_uad.validation.params import ValidateParams
from petct_uad.validation.scans import measure_scans
from petct_uad.validation.shards import measure_shards
from petct_uad.validation.tables import Folders, Measured, Tables, read_tables
from petct_uad.validation.volumes import measure_volumes, volume_files
from petct_uad.volumes.study import VolumeFolders


def measure_tables(
    folders: Folders, params: ValidateParams, workers: int = 1, store: StudyStore | None = None
) -> Tables:
    """Read the tables of the stages before, and measure their volumes and shards.

    Of studies that are in the ``store`` bytes are hashed, and nothing is measured again.

    Raises:
        ValueError: a table has other columns than its rows.
    """
    tables = read_tables(folders)
    studies = [row.study_id for row in tables.studies]
    shards = measure_shards(tables.images, folders.processed, workers, store)
    volumes = VolumeFolders.of(folders.interim).native
    scans = measure_scans(volumes, studies, workers, store)
    measured = Measured(
        volumes=tuple(measure_volumes(volumes, studies, workers, store)),
        scans=scans.scans,
        lesions=scans.lesions,
        livers=tuple(measure_livers(folders, tables.studies, workers, store)),
        shards=shards.rows,
        duplicates=tuple(find_duplicates(tables.images, shards, params.near_duplicate_correlation)),
        drift=tuple(measure_drift(tables.images, shards.rows)),
    )
    return replace(tables, measured=measured)


def derivations(folders: Folders, tables: Tables, result: Path) -> tuple[Derivation, ...]:
    """Each written table from what was measured for it, and the verdict from all tables."""
    read, written = folders.tables, folders.validated
    studies = [row.study_id for row in tables.studies]
    volumes = volume_files(VolumeFolders.of(folders.interim).native, studies)
    shown = sorted({row.study_id for row in tables.images})
    shards = [shard_path(folders.processed, study_id) for study_id in shown]
    sources: dict[str, list[Path]] = {
        **{name: [read["studies"], *volumes] for name in ("volumes", "scans", "lesions")},
        "livers": [read["studies"], *liver_files(folders, tables.measured.livers)],
        "shards": [read["images"], *shards],
        "duplicates": [read["images"], *shards],
        "drift": [read["images"], written / "shards.csv"],
    }
    measured = [_derivation(written / f"{name}.csv", files) for name, files in sources.items()]
    judged = [*read.values(), *(written / f"{name}.csv" for name in sources)]
    return (
        *measured,
        _derivation(folders.failing_rows, judged),
        _derivation(result, judged),
    )


def _derivation(output: Path, inputs: Iterable[Path]) -> Derivation:
    return Derivation(Entity.of_file(output), tuple(map(Entity.of_file, inputs)))
