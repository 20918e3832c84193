"""A broken promise is written down with its rows, and stops the pipeline if it is critical."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from petct_uad.core.errors import ValidationFailedError
from petct_uad.validation.checks import checks
from petct_uad.validation.frames import frames_of
from petct_uad.validation.tables import Tables
from petct_uad.validation.validate import (
    MOST_NAMED,
    Outcome,
    failing_rows,
    run_checks,
    stop_on_critical,
    write_outcomes,
)
from tests.unit.validation.sound import promises, sound_tables

TABLES = ("cohort", "patients", "livers", "drift")


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    """Of a cohort with a patient in two splits (critical) and a study without label (warning)."""
    tables = sound_tables()
    straying = replace(tables.slices[1], split="test")
    images = replace(tables.images[1], split="test")
    unlabelled = replace(tables.studies[0], label_kind="none", finding="unlabelled")
    broken = replace(
        tables,
        studies=(unlabelled, *tables.studies[1:]),
        slices=(tables.slices[0], straying, *tables.slices[2:]),
        images=(tables.images[0], images, *tables.images[2:]),
    )
    return judge(broken)


def judge(tables: Tables) -> list[Outcome]:
    chosen = [check for check in checks(promises()) if check.table in TABLES]
    return run_checks(frames_of(tables, promises()), chosen)


def test_critical_failure_stops_and_names_check_reason_and_rows(outcomes: list[Outcome]) -> None:
    with pytest.raises(ValidationFailedError, match=r"one_patient_one_split.*leaks.*P1"):
        stop_on_critical(outcomes)


def test_warning_alone_does_not_stop(outcomes: list[Outcome]) -> None:
    warnings = [outcome for outcome in outcomes if outcome.severity == "warning"]
    assert not all(outcome.passed for outcome in warnings)
    stop_on_critical(warnings)


def test_file_is_sorted_and_the_same_twice(outcomes: list[Outcome], tmp_path: Path) -> None:
    write_outcomes(tmp_path / "a.json", outcomes)
    write_outcomes(tmp_path / "b.json", judge(sound_tables()))
    written = [json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json")]
    names = [[(e["table"], e["name"]) for e in content["expectations"]] for content in written]
    assert names[0] == sorted(names[0])
    assert names[0] == names[1]
    write_outcomes(tmp_path / "c.json", outcomes)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "c.json").read_bytes()


def test_file_counts_failures_and_names_rows(outcomes: list[Outcome], tmp_path: Path) -> None:
    write_outcomes(tmp_path / "a.json", outcomes)
    content = json.loads((tmp_path / "a.json").read_text())
    assert not content["passed"]
    failed = {f"{e['table']}.{e['name']}": e for e in content["expectations"] if not e["passed"]}
    assert content["critical_failures"] + content["warnings"] == len(failed)
    assert failed["patients.one_patient_one_split"]["failing_rows"] == ["P1"]


def test_file_names_so_many_rows_and_says_how_many_there_are(tmp_path: Path) -> None:
    rows = tuple(f"row {i:04d}" for i in range(MOST_NAMED + 7))
    outcome = Outcome("images", "finite", "critical", False, "NaN spreads", 900, rows)
    write_outcomes(tmp_path / "a.json", [outcome])
    (written,) = json.loads((tmp_path / "a.json").read_text())["expectations"]
    assert written["failing"] == len(rows)
    assert written["failing_rows"] == list(rows[:MOST_NAMED])
    assert [row.row for row in failing_rows([outcome])] == list(rows)


def test_check_that_concerns_no_row_passes_and_says_so() -> None:
    tables = sound_tables()
    without = replace(tables, measured=replace(tables.measured, livers=()))
    liver = next(outcome for outcome in judge(without) if outcome.name == "suv_mean_plausible")
    assert liver.passed
    assert liver.examined == 0


def test_check_that_cannot_be_made_stops_and_names_its_table_and_column() -> None:
    frames = frames_of(sound_tables(), promises())
    without = frames | {"livers": frames["livers"].drop(columns="suv_mean")}
    with pytest.raises(ValidationFailedError, match=r"livers could not be checked.*suv_mean"):
        run_checks(without, [check for check in checks(promises()) if check.table == "livers"])
