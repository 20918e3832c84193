"""preprocess: native volumes to model input in one resampling; a shard per study."""

from pathlib import Path

import typer

from petct_uad.core.provenance.stage import run_stage
from petct_uad.preprocess.params import PreprocessParams
from petct_uad.preprocess.run import preprocess_dataset


def main() -> None:
    """Write data/processed/<dataset>."""
    with run_stage("preprocess", __file__) as run:
        dataset, workers = run.params.dataset, run.params.workers
        interim, processed = Path("data/interim") / dataset, Path("data/processed") / dataset
        params = run.params.section(PreprocessParams, "preprocess")
        found = preprocess_dataset(interim, processed, params, workers, run.store())
        run.record(processed, found)


if __name__ == "__main__":
    typer.run(main)
