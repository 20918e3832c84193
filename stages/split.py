"""split: label every slice and give it to train, val or test."""

from pathlib import Path

import typer

from petct_uad.core.params.base import RegionPart
from petct_uad.core.provenance.stage import run_stage
from petct_uad.split.params import SplitParams
from petct_uad.split.run import split_dataset


def main() -> None:
    """Write data/interim/<dataset>/split."""
    with run_stage("split", __file__) as run:
        interim = Path("data/interim") / run.params.dataset
        params = run.params.section(SplitParams, "split")
        region = run.params.section(RegionPart, "preprocess").region
        found = split_dataset(interim, params, region, run.params.workers, run.store())
        run.record(interim / "split", found)


if __name__ == "__main__":
    typer.run(main)
