"""Commands that look at results say what to run where there are none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from petct_uad.cli.app import app

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "line",
    [
        "card",
        "classes",
        "data-docs",
        "embed cmad-petct",
        "lineage trace cmad-petct:auroc",
        "lineage verify",
        "lineage seal",
        "panels p-0000000000_00000000_0001",
        "power lesions",
        "view p-0000000000_00000000",
    ],
)
def test_before_the_first_run_it_says_to_run_the_pipeline(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    done = CliRunner().invoke(app, line.split())
    assert done.exit_code == 1, done.output
    assert "dvc repro" in done.stderr
