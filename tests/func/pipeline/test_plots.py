"""What `dvc plots` draws, with a repository's own .dvc folder."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from petct_uad.files import write_table
from petct_uad.training.tables import TrainingRow

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of one training with two seeds, drawn as dvc.yaml says, committed once."""
    folder = tmp_path_factory.mktemp("plots")
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc")
    shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
    rows = [TrainingRow(seed, step, 1.0, seed / step, 0.1) for seed in (3, 7) for step in (1, 2)]
    write_table(folder / "training.csv", TrainingRow, rows)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    (drawn,) = stages["train"]["do"]["plots"][0].values()
    plots = [{"training.csv": drawn | {"title": "a training", "cache": False}}]
    pipeline = {"stages": {"train": {"cmd": "echo", "plots": plots}}}
    (folder / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    run(folder, "git", "init", "--quiet")
    run(folder, "git", "add", ".")
    run(folder, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "a")
    return folder


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def plots(folder: Path, *arguments: str) -> str:
    return run(folder, sys.executable, "-m", "dvc", "plots", *arguments)


def test_each_seed_of_a_training_is_a_line_of_its_own(repository: Path) -> None:
    chart = json.loads(plots(repository, "show", "training.csv", "--show-vega"))
    assert {row["seed"] for row in chart["data"]["values"]} == {"3", "7"}
    assert chart["encoding"]["strokeDash"]["field"] == "seed"
    assert chart["encoding"]["y"]["field"] == "val_loss"


@pytest.mark.parametrize("command", [("show",), ("diff", "HEAD")])
def test_pages_of_plots_draw_without_a_network(
    repository: Path, command: tuple[str, ...], visit: Callable[..., Any]
) -> None:
    rows = [TrainingRow(seed, step, 1.0, 2 / step, 0.1) for seed in (3, 7) for step in (1, 2)]
    write_table(repository / "training.csv", TrainingRow, rows)
    plots(repository, *command, "--out", "page")
    html = repository / "page/index.html"
    assert not re.search(r"<script[^>]*src|<link[^>]*http", html.read_text(encoding="utf-8"))
    page = visit(html.as_uri())
    page.locator(".vega-embed :is(canvas, svg)").first.wait_for(timeout=10_000)
    assert page.complaints == []
    assert page.locator(".vega-embed").count() == 1
    assert not page.get_by_text("Open in Vega Editor").count()
