"""ingest: any tree of DICOM files to CT (HU) and PET (SUVbw) volumes with lesion masks."""

from __future__ import annotations

from pathlib import Path

import typer

from petct_uad.console import fail_cleanly, stage
from petct_uad.dicom.ingest import derivations, ingest_dataset
from petct_uad.files import atomic_folder
from petct_uad.lineage.record import Activity, write_lineage
from petct_uad.params import load_params

_PACKAGES = ("SimpleITK", "pydicom", "highdicom", "numpy", "imagecodecs", "pylibjpeg")


def main() -> None:
    """Read data/raw/<dataset>; write data/interim/<dataset>/ingest."""
    params = load_params()
    raw = Path("data/raw") / params.dataset
    home = Path("data/interim") / params.dataset / "ingest"
    activity = Activity(
        stage="ingest",
        params={"dataset": params.dataset, "ingest": params.ingest.model_dump(exclude={"workers"})},
        entry=Path("stages/ingest.py"),
        packages=_PACKAGES,
    )
    with stage("ingest"), atomic_folder(home) as folder:
        ingest_dataset(raw, folder, params.ingest, last=home)
        write_lineage(folder / "lineage", activity, derivations(folder, home, raw))


if __name__ == "__main__":
    with fail_cleanly():
        typer.run(main)
