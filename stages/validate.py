"""Stage ``validate``: check every table so far; a critical failure stops the pipeline."""

from __future__ import annotations

from pathlib import Path

import typer

from petct_uad.core.console import console, fail_cleanly, stage
from petct_uad.core.files import write_table
from petct_uad.core.params.reading import ParamsFile
from petct_uad.core.provenance.record import Activity, write_lineage
from petct_uad.registration.params import RegisterParams
from petct_uad.split.params import SplitParams
from petct_uad.validation import measure, validate
from petct_uad.validation.frames import frames_of
from petct_uad.validation.params import ValidateParams
from petct_uad.validation.suites import Promises, checks
from petct_uad.validation.tables import FailingRow, Folders

RESULT = Path("metrics/validation.json")
PACKAGES = ("great-expectations", "numpy", "pandas", "scipy", "SimpleITK")


def main() -> None:
    """Write metrics/validation.json and data/interim/<dataset>/validate."""
    with fail_cleanly(), stage("validate"):
        params = ParamsFile.read()
        split = params.section(SplitParams, "split")
        register = params.section(RegisterParams, "register")
        bounds = params.section(ValidateParams, "validate")
        folders = Folders(Path("data"), params.dataset)
        promises = Promises.of(split, register, bounds)
        tables = measure.measure_tables(folders, bounds, params.workers)
        outcomes = validate.run_checks(frames_of(tables, promises), checks(promises))
        tables.measured.write(folders.validated)
        write_table(folders.failing_rows, FailingRow, validate.failing_rows(outcomes))
        validate.write_outcomes(RESULT, outcomes)
        asked = {
            "dataset": params.dataset,
            "split.protocol": split.protocol,
            "split.duplicates": split.duplicates,
            "split.min_lesion_area_mm2": split.min_lesion_area_mm2,
            "split.guard_mm": split.guard_mm,
            "register.max_displacement_mm": register.max_displacement_mm,
            "validate": bounds.model_dump(mode="json"),
        }
        activity = Activity("validate", asked, Path("stages/validate.py"), PACKAGES)
        derivations = measure.derivations(folders, tables, RESULT)
        write_lineage(folders.validated / "lineage", activity, derivations)
        for outcome in validate.of_severity(outcomes, "warning"):
            text = f"warning: {validate.describe(outcome)}"
            console.print(text, style="yellow", markup=False, soft_wrap=True)
        validate.stop_on_critical(outcomes)


if __name__ == "__main__":
    typer.run(main)
