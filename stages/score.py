"""score: one model over validation normals and test, ``python stages/score.py cmad``."""

from pathlib import Path
from typing import Annotated

import typer

from petct_uad.core.params.base import DevicePart
from petct_uad.core.provenance.stage import run_stage
from petct_uad.models.benchmark import BenchmarkEntry, model_folder
from petct_uad.models.common.device import choose_device
from petct_uad.scoring.data import ScoringPaths
from petct_uad.scoring.params import ScoreParams
from petct_uad.scoring.run import score_entry

# Under another fusion or smoothing no network runs again: what loads a model and what it is asked.
NETWORK = tuple(Path("src/petct_uad/scoring", name) for name in ("trained.py", "forward.py"))


def main(name: Annotated[str, typer.Argument(help="a key of benchmark in params.yaml")]) -> None:
    """Write data/scores/<name>, metrics/cost, and data/scores-lineage/<name> beside the maps."""
    with run_stage(f"score {name}", __file__) as run:
        entry = run.params.section(BenchmarkEntry, f"benchmark.{name}")
        device = choose_device(run.params.section(DevicePart, "train").device)
        params = run.params.section(ScoreParams, "score")
        paths = ScoringPaths.of(run.params.dataset, name)
        model = model_folder(entry.model)
        derivations = score_entry(entry, params, paths, device, run.store(*NETWORK, model))
        run.record(paths.record, derivations, loaded=(model,))


if __name__ == "__main__":
    typer.run(main)
