"""The preprocess stage: from native volumes and ``slices.csv`` to shards and their index."""

from __future__ import annotations

from pathlib import Path

from petct_uad.core.files import atomic_folder, read_table, write_table
from petct_uad.core.provenance.record import Derivation
from petct_uad.core.store.study_store import StudyStore
from petct_uad.preprocess.params import PreprocessParams
from petct_uad.preprocess.shards import shard_derivations, write_shards
from petct_uad.slices.store import write_index
from petct_uad.slices.tables import READINGS, SLICES, ReadingRow, SliceRow
from petct_uad.volumes.study import VolumeFolders


def preprocess_dataset(
    interim: Path,
    processed: Path,
    params: PreprocessParams,
    workers: int = 1,
    store: StudyStore | None = None,
) -> list[Derivation]:
    """Write ``data/processed/<dataset>`` from ``data/interim/<dataset>``.

    Raises:
        DatasetError: a volume cannot be read, or holds no body.
        RegistrationError: register ran on other volumes than those of ingest.
    """
    volumes = VolumeFolders.of(interim)
    slices_file = interim / "split" / SLICES
    slices = read_table(slices_file, SliceRow)
    with atomic_folder(processed) as out:
        tables = write_shards(slices, volumes, out, params, workers, store=store)
        sha256 = write_index(out, tables.images)
        write_table(out / READINGS, ReadingRow, tables.readings)
    return shard_derivations(tables.images, sha256, volumes, processed, slices_file)
