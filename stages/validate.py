"""Stage ``validate``: check every table so far; a critical failure stops the pipeline."""

from __future__ import annotations

from pathlib import Path

import typer

from petct_uad.console import console, fail_cleanly, stage
from petct_uad.lineage.record import Activity, Derivation, Entity, write_lineage
from petct_uad.params import load_params
from petct_uad.validation.tables import TableFiles
from petct_uad.validation.validate import (
    describe,
    stop_on_critical,
    validate_tables,
    write_outcomes,
)

RESULT = Path("metrics/validation.json")


def main() -> None:
    """Write metrics/validation.json."""
    with fail_cleanly(), stage("validate"):
        params = load_params()
        interim = Path("data/interim") / params.dataset
        files = TableFiles(
            dataset=params.dataset,
            ingest=interim / "ingest",
            registration=interim / "register/registration.csv",
            slices=interim / "split/slices.csv",
            images=Path("data/processed") / params.dataset / "index.csv",
        )
        outcomes = validate_tables(files, params.split.protocol, params.validate_)
        write_outcomes(RESULT, outcomes)
        activity = Activity(
            stage="validate",
            params={
                "dataset": params.dataset,
                "split.protocol": params.split.protocol,
                "validate": params.validate_.model_dump(mode="json"),
            },
            entry=Path("stages/validate.py"),
            packages=("great-expectations", "pandas"),
        )
        inputs = tuple(Entity.of_file(path) for path in files.paths())
        lineage = interim / "validate/lineage"
        write_lineage(lineage, activity, [Derivation(Entity.of_file(RESULT), inputs)])
        for outcome in outcomes:
            if not outcome.passed and outcome.severity == "warning":
                console.print(
                    f"warning: {describe(outcome)}", style="yellow", markup=False, soft_wrap=True
                )
        stop_on_critical(outcomes)


if __name__ == "__main__":
    typer.run(main)
