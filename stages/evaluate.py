"""Stage ``evaluate``: score the rows of one model, ``python stages/evaluate.py cmad``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petct_uad.core.console import fail_cleanly, stage
from petct_uad.core.params.base import DevicePart, ProtocolPart
from petct_uad.core.params.reading import ParamsFile
from petct_uad.core.provenance.record import Activity, write_lineage
from petct_uad.core.provenance.sources import other_models
from petct_uad.evaluation.evaluate import EvaluationPaths, evaluate_family
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.models.benchmark import BenchmarkEntry
from petct_uad.models.common.device import choose_device

PACKAGES = ("anomalib", "matplotlib", "numba", "numpy", "scikit-learn", "timm", "torch")


def main(name: Annotated[str, typer.Argument(help="a key of benchmark in params.yaml")]) -> None:
    """Write metrics/runs/<name>, metrics/roc/<name> and reports/panels/<name>."""
    with fail_cleanly(), stage(f"evaluate {name}"):
        params = ParamsFile.read()
        family = params.section(BenchmarkEntry, f"benchmark.{name}")
        evaluate = params.section(EvaluateParams, "evaluate")
        split = params.section(ProtocolPart, "split")
        train = params.section(DevicePart, "train")
        paths = EvaluationPaths(
            processed=Path("data/processed") / params.dataset,
            models=Path("models") / name,
            metrics=Path("metrics"),
            panels=Path("reports/panels") / name,
        )
        derived = evaluate_family(
            family,
            paths,
            evaluate,
            dataset=params.dataset,
            protocol=split.protocol,
            device=choose_device(train.device),
        )
        asked = {
            "dataset": params.dataset,
            f"benchmark.{name}": family.model_dump(mode="json"),
            "split.protocol": split.protocol,
            "train.device": train.device,
            "evaluate": evaluate.model_dump(mode="json"),
        }
        entry, without = Path("stages/evaluate.py"), other_models(family.model)
        for run, derivations in derived.items():
            activity = Activity(f"evaluate {run}", asked, entry, PACKAGES, without)
            write_lineage(paths.results(run).folder / "lineage", activity, derivations)


if __name__ == "__main__":
    typer.run(main)
