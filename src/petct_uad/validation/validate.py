"""Run suites with Great Expectations and name the rows that fail."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from great_expectations.exceptions import MetricResolutionError
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.validator.metric_configuration import MetricConfiguration
from great_expectations.validator.metrics_calculator import MetricsCalculator

from petct_uad.core.errors import ValidationFailedError
from petct_uad.core.files import write_json
from petct_uad.validation.checks import IDENTITY, Check
from petct_uad.validation.suites.check import Severity
from petct_uad.validation.tables import FailingRow

MOST_NAMED = 100  # rows per expectation in validation.json; failing_rows.csv has them all
_SHOWN = 10
_WHERE = frozenset({"row_condition", "condition_parser"})  # which rows an expectation concerns


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
    """Those of one table; those that concern the same rows together."""
    alike: dict[str, list[Check]] = {}
    for check in chosen:
        alike.setdefault(repr(check.expectation.row_condition), []).append(check)
    return [
        outcome
        for checks in alike.values()
        for outcome in _run_on(_concerned(table, frame, checks[0]), table, checks)
    ]


def _concerned(table: str, frame: pd.DataFrame, check: Check) -> pd.DataFrame:
    """The rows that an expectation concerns, which Great Expectations would look up four times."""
    where = _settings(check.expectation, _WHERE)
    if frame.empty or where["row_condition"] is None:
        return frame
    engine = PandasExecutionEngine(batch_data_dict={table: frame})
    found: pd.DataFrame = engine.get_domain_records(where)
    return found


def _run_on(rows: pd.DataFrame, table: str, chosen: Sequence[Check]) -> list[Outcome]:
    if rows.empty:
        return [_outcome(check, True, 0, ()) for check in chosen]
    asked = {check.name: _asked(check) for check in chosen}
    found = _measured(table, rows, [metric for of in asked.values() for metric in of.all])
    return [_judged(check, asked[check.name], found, len(rows)) for check in chosen]


@dataclass(frozen=True)
class _Asked:
    """What Great Expectations measures for one expectation.

    A validation of the expectation measures the same, and besides makes its settings anew some
    hundred times, which takes four times as long as the measuring.
    """

    empty: MetricConfiguration | None  # how many rows say nothing
    failing: MetricConfiguration  # by the column that names rows

    @property
    def all(self) -> list[MetricConfiguration]:
        """Of them, those that there are."""
        return [metric for metric in (self.empty, self.failing) if metric is not None]


def _asked(check: Check) -> _Asked:
    expectation = check.expectation
    domain = _settings(expectation, set(expectation.domain_keys) - _WHERE)
    met = _settings(expectation, expectation.success_keys)
    named = {"result_format": "COMPLETE", "unexpected_index_column_names": [IDENTITY[check.table]]}
    failing = f"{expectation.map_metric}.unexpected_index_list"
    return _Asked(
        empty=MetricConfiguration("column_values.nonnull.unexpected_count", domain)
        if "column" in domain
        else None,
        failing=MetricConfiguration(failing, domain, {**met, "result_format": named}),
    )


def _settings(expectation: Any, keys: Collection[str]) -> dict[str, Any]:
    """Those that it has, by name: which rows it concerns, or when it is met."""
    return {key: getattr(expectation, key) for key in keys if hasattr(expectation, key)}


def _measured(
    table: str, frame: pd.DataFrame, metrics: list[MetricConfiguration]
) -> dict[Any, Any]:
    """Each metric by its id; what several expectations need is measured once."""
    engine = PandasExecutionEngine(batch_data_dict={table: frame})
    calculator = MetricsCalculator(engine, show_progress_bars=False)
    try:
        found, _ = calculator.compute_metrics(metrics, {"catch_exceptions": False})
    except MetricResolutionError as error:
        raise ValidationFailedError(f"{table} could not be checked: {error}") from error
    return dict(found)


def _judged(check: Check, asked: _Asked, found: Mapping[Any, Any], count: int) -> Outcome:
    """Of so many rows."""
    identity = IDENTITY[check.table]
    rows = {str(row[identity]) for row in found[asked.failing.id]}
    empty = 0 if asked.empty is None else found[asked.empty.id]
    return _outcome(check, not rows, count - empty, tuple(sorted(rows)))


def _outcome(check: Check, passed: bool, examined: int, rows: tuple[str, ...]) -> Outcome:
    return Outcome(check.table, check.name, check.severity, passed, check.reason, examined, rows)
