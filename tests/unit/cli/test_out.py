"""A place that a command cannot write to is refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from petct_uad.cli.app import app

WRITES_A_FILE = (
    "panels p-00_00_0001 --out",
    "sweep cmad-petct model.cmpt --out",
    "embed cmad-petct --out",
    "classes --csv",
    "audit-split split.csv --badge",
    "lineage seal -o",
    "lineage export -o",
)
WRITES_A_FOLDER = ("view p-00_00 --out", "card --out", "data-docs")


def refusal(line: str, path: Path) -> str:
    """Standard error without the frame and the breaks of its box."""
    done = CliRunner().invoke(app, [*line.split(), str(path)])
    assert done.exit_code == 2, done.output
    return " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize("line", WRITES_A_FILE)
def test_a_folder_is_refused_where_a_file_is_written(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    assert "there is a folder. Name a file." in refusal(line, Path("there"))


@pytest.mark.parametrize("line", WRITES_A_FOLDER)
def test_a_file_is_refused_where_a_folder_is_written(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").write_text("kept")
    assert "there is a file. Name a folder." in refusal(line, Path("there"))
    assert Path("there").read_text() == "kept"


@pytest.mark.parametrize("line", [*WRITES_A_FILE, *WRITES_A_FOLDER])
def test_a_place_below_a_file_is_refused(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").write_text("kept")
    assert "there is a file, so nothing can lie below it." in refusal(line, Path("there/below/x"))


def test_a_folder_that_is_replaced_may_hold_pages_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("src").mkdir()
    Path("src/index.html").write_text("a page")
    Path("src/mine.py").write_text("kept")
    assert "src would be replaced, and holds mine.py" in refusal("data-docs", Path("src"))
    assert Path("src/mine.py").read_text() == "kept"
