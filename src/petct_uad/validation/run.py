"""The validate stage: measure, hold every table to its checks, write the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from petct_uad.core.console import console
from petct_uad.core.files import write_table
from petct_uad.core.provenance.record import Derivation
from petct_uad.core.store.study_store import StudyStore
from petct_uad.validation.checks import Promises, checks
from petct_uad.validation.frames import frames_of
from petct_uad.validation.measure import derivations, measure_tables
from petct_uad.validation.tables import FailingRow, Folders
from petct_uad.validation.validate import (
    Outcome,
    describe,
    failing_rows,
    of_severity,
    run_checks,
    stop_on_critical,
    write_outcomes,
)


@dataclass(frozen=True)
class Validated:
    """What the checks said, and what their files were made from."""

    outcomes: Sequence[Outcome]
    derivations: tuple[Derivation, ...]

    def stop_on_critical(self) -> None:
        """Print every warning, then stop the pipeline if a critical check failed.

        Raises:
            ValidationFailedError: naming each critical check that failed.
        """
        for outcome in of_severity(self.outcomes, "warning"):
            text = f"warning: {describe(outcome)}"
            console.print(text, style="yellow", markup=False, soft_wrap=True)
        stop_on_critical(self.outcomes)


def validate_dataset(
    folders: Folders,
    promises: Promises,
    result: Path,
    workers: int = 1,
    store: StudyStore | None = None,
) -> Validated:
    """Check every table so far; write the verdict to ``result``, tables to ``folders.validated``.

    Raises:
        ValueError: a table has other columns than its rows.
    """
    tables = measure_tables(folders, promises.bounds, workers, store)
    outcomes = run_checks(frames_of(tables, promises), checks(promises))
    tables.measured.write(folders.validated)
    write_table(folders.failing_rows, FailingRow, failing_rows(outcomes))
    write_outcomes(result, outcomes)
    return Validated(outcomes, derivations(folders, tables, result))
