"""Stage ``preprocess``: native volumes to model input in one resampling; a shard per study."""

from __future__ import annotations

from pathlib import Path

import typer

from petct_uad.core.console import fail_cleanly, stage
from petct_uad.core.files import atomic_folder, read_table, write_table
from petct_uad.core.params.reading import ParamsFile
from petct_uad.core.provenance.record import Activity, write_lineage
from petct_uad.preprocess.params import PreprocessParams
from petct_uad.preprocess.shards import shard_derivations, write_shards
from petct_uad.slices.tables import ImageRow, SliceRow
from petct_uad.volumes.study import VolumeFolders


def main() -> None:
    """Write data/processed/<dataset>."""
    with fail_cleanly(), stage("preprocess"):
        params = ParamsFile.read()
        preprocess = params.section(PreprocessParams, "preprocess")
        interim = Path("data/interim") / params.dataset
        processed = Path("data/processed") / params.dataset
        volumes = VolumeFolders(interim / "ingest/volumes", interim / "register/volumes")
        slices_file = interim / "split/slices.csv"
        slices = read_table(slices_file, SliceRow)
        with atomic_folder(processed) as out:
            rows = write_shards(slices, volumes, out, preprocess, params.workers)
            write_table(out / "index.csv", ImageRow, rows)
        activity = Activity(
            stage="preprocess",
            params={
                "dataset": params.dataset,
                "preprocess": preprocess.model_dump(mode="json"),
            },
            entry=Path("stages/preprocess.py"),
            packages=("numpy", "safetensors", "SimpleITK"),
        )
        derivations = shard_derivations(rows, volumes, processed, slices_file)
        write_lineage(processed / "lineage", activity, derivations)


if __name__ == "__main__":
    typer.run(main)
