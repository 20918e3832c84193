"""`--json`: every command that prints a table gives a program the same rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from petct_uad.cli import accounting
from petct_uad.cli.app import app
from petct_uad.core.files import write_table
from petct_uad.evaluation.tables import ClassRow

ROOT = Path(__file__).resolve().parents[3]


def said(*words: str) -> Any:
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_classes_are_the_rows_of_classes_csv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    row = ClassRow("cmad-pet", "effusion", 12, 3, 0.75, 0.5, 1.0)
    write_table(tmp_path / "metrics/runs/cmad/cmad-pet/classes.csv", ClassRow, [row])
    (found,) = said("classes")
    assert ClassRow(**found) == row


def test_cache_has_bytes_and_ages_by_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    entry = tmp_path / ".cache/studies/register/abc"
    entry.mkdir(parents=True)
    (entry / "manifest.json").write_bytes(b"12345")
    (found,) = said("cache")
    assert (found["stage"], found["entries"], found["size_bytes"]) == ("register", 1, 5)
    assert 0 <= found["newest_days"] == found["oldest_days"] < 1


def test_models_have_what_was_counted_beside_what_the_paper_prints(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    entry = next(x for x in accounting.ENTRIES if x.printed.title == "Hetero-AE, hybrid")
    monkeypatch.setattr(accounting, "ENTRIES", (entry,))
    (found,) = said("models")
    assert found["title"] == "Hetero-AE, hybrid"
    assert found["parameters"] / 1e6 == pytest.approx(found["paper_parameters_m"], rel=0.02)
