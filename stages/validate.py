"""Stage ``validate``: check every table so far; a critical failure stops the pipeline."""

from __future__ import annotations

from pathlib import Path

import typer

from petct_uad.console import console, fail_cleanly, stage
from petct_uad.files import write_table
from petct_uad.lineage.record import Activity, write_lineage
from petct_uad.params import load_params
from petct_uad.validation import measure, validate
from petct_uad.validation.frames import frames_of
from petct_uad.validation.suites import Promises, checks
from petct_uad.validation.tables import FailingRow, Folders

RESULT = Path("metrics/validation.json")


def main() -> None:
    """Write metrics/validation.json and data/interim/<dataset>/validate."""
    with fail_cleanly(), stage("validate"):
        params = load_params()
        folders = Folders(Path("data"), params.dataset)
        promises = Promises.of(params.split, params.register_, params.validate_)
        tables = measure.measure_tables(folders, params.validate_)
        outcomes = validate.run_checks(frames_of(tables, promises), checks(promises))
        tables.measured.write(folders.validated)
        write_table(folders.failing_rows, FailingRow, validate.failing_rows(outcomes))
        validate.write_outcomes(RESULT, outcomes)
        activity = Activity(
            stage="validate",
            params={
                "dataset": params.dataset,
                "split.protocol": params.split.protocol,
                "split.duplicates": params.split.duplicates,
                "split.min_lesion_area_mm2": params.split.min_lesion_area_mm2,
                "split.guard_mm": params.split.guard_mm,
                "register.max_displacement_mm": params.register_.max_displacement_mm,
                "validate": params.validate_.model_dump(mode="json", exclude={"workers"}),
            },
            entry=Path("stages/validate.py"),
            packages=("great-expectations", "numpy", "pandas", "scipy", "SimpleITK"),
        )
        derivations = measure.derivations(folders, tables, RESULT)
        write_lineage(folders.validated / "lineage", activity, derivations)
        for outcome in validate.of_severity(outcomes, "warning"):
            text = f"warning: {validate.describe(outcome)}"
            console.print(text, style="yellow", markup=False, soft_wrap=True)
        validate.stop_on_critical(outcomes)


if __name__ == "__main__":
    typer.run(main)
