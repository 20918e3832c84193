"""Stage ``evaluate_trivial``: slice SUVmax, body area and slice position as detectors."""

from __future__ import annotations

from pathlib import Path

import typer

from petct_uad.core.console import fail_cleanly, stage
from petct_uad.core.params.base import ProtocolPart
from petct_uad.core.params.reading import ParamsFile
from petct_uad.core.provenance.record import Activity, write_lineage
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.trivial import evaluate_trivial


def main() -> None:
    """Write metrics/runs/trivial and metrics/roc/trivial."""
    with fail_cleanly(), stage("evaluate_trivial"):
        params = ParamsFile.read()
        evaluate = params.section(EvaluateParams, "evaluate")
        split = params.section(ProtocolPart, "split")
        index = Path("data/processed") / params.dataset / "index.csv"
        derived = evaluate_trivial(index, params.dataset, split.protocol, evaluate, Path("metrics"))
        activity = Activity(
            stage="evaluate_trivial",
            params={
                "dataset": params.dataset,
                "split.protocol": split.protocol,
                "evaluate": evaluate.model_dump(mode="json"),
            },
            entry=Path("stages/evaluate_trivial.py"),
            packages=("numpy", "scikit-learn"),
        )
        for folder, derivations in derived.items():
            write_lineage(folder / "lineage", activity, derivations)


if __name__ == "__main__":
    typer.run(main)
