"""validate: check every table so far; a critical failure stops the pipeline."""

from pathlib import Path

import typer

from petct_uad.core.files import write_text
from petct_uad.core.params.base import VALIDATED
from petct_uad.core.provenance.stage import run_stage
from petct_uad.validation.checks import Promises
from petct_uad.validation.run import validate_dataset
from petct_uad.validation.tables import VERDICT, Folders

# Another bound or check measures nothing again.
MEASURING = Path("src/petct_uad/validation/measure.py")


def main() -> None:
    """Write metrics/validation.json, data/interim/<dataset>/validate, data/validation.passed."""
    with run_stage("validate", __file__) as run:
        folders = Folders(Path("data"), run.params.dataset)
        promises = Promises.read(run.params)
        store = run.store(MEASURING)
        validated = validate_dataset(folders, promises, VERDICT, run.params.workers, store)
        run.record(folders.validated, validated.derivations)
        validated.stop_on_critical()
        write_text(Path(VALIDATED), "No critical check failed.\n")


if __name__ == "__main__":
    typer.run(main)
