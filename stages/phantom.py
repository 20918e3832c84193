"""phantom: params -> data/raw/phantom (DICOM) and data/truth/phantom (ground truth)."""

from __future__ import annotations

from pathlib import Path

import typer

from petct_uad.core.console import fail_cleanly, stage
from petct_uad.core.params.reading import ParamsFile
from petct_uad.core.provenance.record import Activity, Derivation, Entity, write_lineage
from petct_uad.phantom.cohort import make_cohort
from petct_uad.phantom.params import PhantomParams

RAW = Path("data/raw/phantom")
TRUTH = Path("data/truth/phantom")
PACKAGES = ("SimpleITK", "highdicom", "numpy", "pydicom", "scipy")


def main() -> None:
    """Make the digital cohort that params.yaml describes."""
    with fail_cleanly(), stage("phantom"):
        params = ParamsFile.read()
        phantom = params.section(PhantomParams, "phantom")
        files = make_cohort(phantom, RAW, TRUTH, params.workers)
        asked = {"phantom": phantom.model_dump(mode="json")}
        activity = Activity("phantom", asked, Path("stages/phantom.py"), PACKAGES)
        derivations = [Derivation(Entity.of_file(file), ()) for file in files]
        write_lineage(TRUTH / "lineage", activity, derivations)


if __name__ == "__main__":
    typer.run(main)
