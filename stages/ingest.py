"""ingest: any tree of DICOM files to CT (HU) and PET (SUVbw) volumes, or pictures as they are."""

from __future__ import annotations

from pathlib import Path

import typer

from petct_uad.core.console import fail_cleanly, stage
from petct_uad.core.files import atomic_folder
from petct_uad.core.params.reading import ParamsFile
from petct_uad.core.provenance.record import Activity, write_lineage
from petct_uad.ingest.images.run import ingest_data
from petct_uad.ingest.params import IngestParams

_PACKAGES = ("SimpleITK", "pydicom", "highdicom", "numpy", "imagecodecs", "pillow", "pylibjpeg")


def main() -> None:
    """Read data/raw/<dataset>; write data/interim/<dataset>/ingest."""
    params = ParamsFile.read()
    ingest = params.section(IngestParams, "ingest")
    raw = Path("data/raw") / params.dataset
    home = Path("data/interim") / params.dataset / "ingest"
    activity = Activity(
        stage="ingest",
        params={"dataset": params.dataset, "ingest": ingest.model_dump()},
        entry=Path("stages/ingest.py"),
        packages=_PACKAGES,
    )
    with stage("ingest"), atomic_folder(home) as folder:
        derivations = ingest_data(raw, folder, home, ingest, params.workers)
        write_lineage(folder / "lineage", activity, derivations)


if __name__ == "__main__":
    with fail_cleanly():
        typer.run(main)
