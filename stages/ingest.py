"""ingest: a data set of any kind to native volumes and tables under pseudonyms."""

from pathlib import Path

import typer

from petct_uad.core.files import atomic_folder
from petct_uad.core.provenance.stage import run_stage
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.run import ingest_with_lineage


def main() -> None:
    """Read data/raw/<dataset>; write data/interim/<dataset>/ingest."""
    with run_stage("ingest", __file__) as run:
        params = run.params.section(IngestParams, "ingest")
        raw = Path("data/raw") / run.params.dataset
        home = Path("data/interim") / run.params.dataset / "ingest"
        with atomic_folder(home) as folder:
            workers, store = run.params.workers, run.store()
            made = ingest_with_lineage(raw, folder, home, params, workers, store=store)
            run.record(folder, made)


if __name__ == "__main__":
    typer.run(main)
