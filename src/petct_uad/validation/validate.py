"""Run every check with Great Expectations and name the rows that fail."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Before the import below, which otherwise looks for a telemetry host.
os.environ["GX_ANALYTICS_ENABLED"] = "false"

import great_expectations as gx
import pandas as pd

from petct_uad.errors import ValidationFailedError
from petct_uad.files import write_json
from petct_uad.params import Protocol, ValidateParams
from petct_uad.validation.suites import IDENTITY, Check, Severity, checks
from petct_uad.validation.tables import TableFiles, load_frames

_SHOWN = 10


@dataclass(frozen=True)
class Outcome:
    """What became of one check."""

    table: str
    name: str
    severity: Severity
    passed: bool
    reason: str
    failing_rows: tuple[str, ...]  # identities, sorted


def validate_tables(files: TableFiles, protocol: Protocol, bounds: ValidateParams) -> list[Outcome]:
    """Check every table; results in the order of the suites."""
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    frames = load_frames(files)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = gx.data_context.types.base.ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("tables")
    everything = checks(protocol, bounds)
    outcomes: list[Outcome] = []
    for table in dict.fromkeys(check.table for check in everything):
        chosen = [check for check in everything if check.table == table]
        outcomes += _run_suite(source, table, frames[table], chosen)
    return outcomes


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
            "expectations": [asdict(outcome) for outcome in outcomes],
        },
    )


def stop_on_critical(outcomes: Sequence[Outcome]) -> None:
    """Stop the pipeline when a critical check failed.

    Raises:
        ValidationFailedError: naming each failed check and its first rows.
    """
    failed = [o for o in outcomes if not o.passed and o.severity == "critical"]
    if failed:
        raise ValidationFailedError("\n".join(map(describe, failed)))


def describe(outcome: Outcome) -> str:
    """One failed check in one line."""
    rows = ", ".join(outcome.failing_rows[:_SHOWN])
    more = len(outcome.failing_rows) - _SHOWN
    suffix = f" and {more} more" if more > 0 else ""
    return f"{outcome.table}.{outcome.name}: {outcome.reason}; rows: {rows}{suffix}"


def _run_suite(
    source: Any, table: str, frame: pd.DataFrame, chosen: Sequence[Check]
) -> list[Outcome]:
    asset = source.add_dataframe_asset(table)
    batch = asset.add_batch_definition_whole_dataframe(table).get_batch({"dataframe": frame})
    result_format = {
        "result_format": "COMPLETE",
        "unexpected_index_column_names": [IDENTITY[table]],
    }
    outcomes = []
    for check in chosen:
        result = batch.validate(check.expectation, result_format=result_format)
        outcomes.append(_outcome(check, result))
    return outcomes


def _outcome(check: Check, result: Any) -> Outcome:
    if result.exception_info and result.exception_info.get("raised_exception"):
        raise ValidationFailedError(
            f"{check.table}.{check.name} could not be checked: "
            f"{result.exception_info.get('exception_message')}"
        )
    identity = IDENTITY[check.table]
    failing = result.result.get("unexpected_index_list") or []
    rows = sorted({str(row[identity]) for row in failing})
    return Outcome(
        check.table, check.name, check.severity, bool(result.success), check.reason, tuple(rows)
    )
