"""phantom: params to data/raw/phantom (DICOM) and data/truth/phantom (ground truth)."""

from pathlib import Path

import typer

from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.core.provenance.stage import run_stage
from petct_uad.phantom.cohort import make_cohort
from petct_uad.phantom.params import PhantomParams

RAW = Path("data/raw/phantom")
TRUTH = Path("data/truth/phantom")


def main() -> None:
    """Make the digital cohort that params.yaml describes."""
    with run_stage("phantom", __file__) as run:
        phantom = run.params.section(PhantomParams, "phantom")
        files = make_cohort(phantom, RAW, TRUTH, run.params.workers)
        run.record(TRUTH, [Derivation(Entity.of_file(file), ()) for file in files])


if __name__ == "__main__":
    typer.run(main)
