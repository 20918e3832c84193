"""``petct validate`` in a project of its own."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from petct_uad.cli.app import app

ROOT = Path(__file__).resolve().parents[1]


def enter_project(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a run may write for a while; beside it params.yaml as committed, on one process."""
    folder, project = home / "temporary", home / "project"
    folder.mkdir()
    project.mkdir()
    content = (ROOT / "params.yaml").read_text().replace("workers: 0", "workers: 1")
    (project / "params.yaml").write_text(content)
    monkeypatch.chdir(project)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def judged(path: Path) -> Result:
    """What the command says of a folder."""
    return CliRunner().invoke(app, ["validate", str(path)])
