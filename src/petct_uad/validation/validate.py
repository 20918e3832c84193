"""Run suites with Great Expectations and name the rows that fail."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

# Before the import below, which otherwise looks for a telemetry host.
os.environ["GX_ANALYTICS_ENABLED"] = "false"

import great_expectations as gx
import pandas as pd

from petct_uad.core.errors import ValidationFailedError
from petct_uad.core.files import write_json
from petct_uad.validation.checks import IDENTITY, Check
from petct_uad.validation.suites.check import Severity
from petct_uad.validation.tables import FailingRow

MOST_NAMED = 100  # rows per expectation in validation.json; failing_rows.csv has them all
_SHOWN = 10


@dataclass(frozen=True)
class Outcome:
    """What became of one check."""

    table: str
    name: str
    severity: Severity
    passed: bool
    reason: str
    examined: int  # rows that the check concerns; one that concerns none passes and says nothing
    failing: tuple[str, ...]  # identities, sorted


def run_checks(frames: Mapping[str, pd.DataFrame], chosen: Sequence[Check]) -> list[Outcome]:
    """Hold every table to its checks; outcomes sorted by table and name.

    Raises:
        ValidationFailedError: a check could not be made.
    """
    outcomes: list[Outcome] = []
    for table in dict.fromkeys(check.table for check in chosen):
        of_table = [check for check in chosen if check.table == table]
        outcomes += _run_suite(table, frames[table], of_table)
    return sorted(outcomes, key=lambda outcome: (outcome.table, outcome.name))


def batch_of(table: pd.DataFrame) -> Any:
    """A frame as Great Expectations takes it."""
    return _context().data_sources.pandas_default.read_dataframe(table)


@cache
def _context() -> Any:
    """Great Expectations in memory, without words or progress bars."""
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = gx.data_context.types.base.ProgressBarsConfig(globally=False)
    return context


def write_outcomes(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write ``validation.json``: counts first, then every check with its failing rows."""
    failed = [outcome for outcome in outcomes if not outcome.passed]
    write_json(
        path,
        {
            "passed": not any(outcome.severity == "critical" for outcome in failed),
            "checks": len(outcomes),
            "critical_failures": sum(outcome.severity == "critical" for outcome in failed),
            "warnings": sum(outcome.severity == "warning" for outcome in failed),
            "rows_named_at_most": MOST_NAMED,
            "expectations": [_as_json(outcome) for outcome in outcomes],
        },
    )


def failing_rows(outcomes: Sequence[Outcome]) -> list[FailingRow]:
    """Every failing row of every check, none left out."""
    return [
        FailingRow(outcome.table, outcome.name, outcome.severity, row)
        for outcome in outcomes
        for row in outcome.failing
    ]


def stop_on_critical(outcomes: Sequence[Outcome]) -> None:
    """Stop the pipeline when a critical check failed.

    Raises:
        ValidationFailedError: naming each failed check and its first rows.
    """
    if failed := of_severity(outcomes, "critical"):
        raise ValidationFailedError("\n".join(map(describe, failed)))


def of_severity(outcomes: Sequence[Outcome], severity: Severity) -> list[Outcome]:
    """The failed checks that matter so much."""
    return [o for o in outcomes if not o.passed and o.severity == severity]


def describe(outcome: Outcome, most: int | None = _SHOWN) -> str:
    """One failed check in one line, with so many of its rows, or with all."""
    rows = ", ".join(outcome.failing[:most])
    more = len(outcome.failing[most:]) if most is not None else 0
    suffix = f" and {more} more" if more > 0 else ""
    return f"{outcome.table}.{outcome.name}: {outcome.reason}; rows: {rows}{suffix}"


def _as_json(outcome: Outcome) -> dict[str, Any]:
    values = asdict(outcome)
    names = values.pop("failing")
    return {**values, "failing": len(names), "failing_rows": names[:MOST_NAMED]}


def _run_suite(table: str, frame: pd.DataFrame, chosen: Sequence[Check]) -> list[Outcome]:
    if frame.empty:
        return [_outcome(check, True, 0, ()) for check in chosen]
    batch = batch_of(frame)
    result_format = {
        "result_format": "COMPLETE",
        "unexpected_index_column_names": [IDENTITY[table]],
    }
    return [
        _judged(check, batch.validate(check.expectation, result_format=result_format))
        for check in chosen
    ]


def _judged(check: Check, result: Any) -> Outcome:
    if result.exception_info and result.exception_info.get("raised_exception"):
        raise ValidationFailedError(
            f"{check.table}.{check.name} could not be checked: "
            f"{result.exception_info.get('exception_message')}"
        )
    found = result.result
    identity = IDENTITY[check.table]
    rows = {str(row[identity]) for row in found.get("unexpected_index_list") or []}
    examined = found.get("element_count", 0) - found.get("missing_count", 0)
    return _outcome(check, bool(result.success), examined, tuple(sorted(rows)))


def _outcome(check: Check, passed: bool, examined: int, rows: tuple[str, ...]) -> Outcome:
    return Outcome(check.table, check.name, check.severity, passed, check.reason, examined, rows)
