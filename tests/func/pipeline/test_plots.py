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

from petct_uad.core.files import write_table
from petct_uad.evaluation.tables import FrocRow, RocRow
from petct_uad.training.loop.tables import TrainingRow

ROOT = Path(__file__).resolve().parents[3]
CURVES = ("roc", "froc")  # of evaluate, in the order of dvc.yaml


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline with a training of two seeds, a ROC and a FROC, drawn as dvc.yaml says."""
    folder = tmp_path_factory.mktemp("plots")
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc")
    shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
    write_curves(folder, 0.5)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    pipeline = {
        "stages": {
            "train": {"cmd": "echo", "plots": [{"training": drawn(stages["train"]["do"])}]},
            "evaluate": {
                "cmd": "echo",
                "plots": [{x: drawn(stages["evaluate"]["do"], n)} for n, x in enumerate(CURVES)],
            },
        }
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    (folder / "params.yaml").write_text("split: {protocol: patient}\n")
    run(folder, "git", "init", "--quiet")
    run(folder, "git", "add", ".")
    run(folder, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "a")
    return folder


def drawn(stage: dict[str, Any], number: int = 0) -> dict[str, Any]:
    (properties,) = stage["plots"][number].values()
    return {**properties, "cache": False}


def write_curves(folder: Path, level: float) -> None:
    rows = [TrainingRow(seed, step, 1.0, level / step, 0.1) for seed in (3, 7) for step in (1, 2)]
    write_table(folder / "training/cmad-pet.csv", TrainingRow, rows)
    corners = [RocRow(0.0, 0.0), RocRow(0.0, level), RocRow(1.0, 1.0)]
    write_table(folder / "roc/cmad-pet.csv", RocRow, corners)
    points = [FrocRow(rate, level, 0.0, 1.0) for rate in (0.125, 8.0)]
    write_table(folder / "froc/cmad-pet.csv", FrocRow, points)


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def plots(folder: Path, *arguments: str) -> str:
    return run(folder, sys.executable, "-m", "dvc", "plots", *arguments)


def test_each_seed_of_a_training_is_a_line_of_its_own(repository: Path) -> None:
    chart = json.loads(plots(repository, "show", "training", "--show-vega"))
    assert {row["seed"] for row in chart["data"]["values"]} == {"3", "7"}
    assert chart["encoding"]["strokeDash"]["field"] == "seed"
    assert chart["encoding"]["y"]["field"] == "val_loss"


@pytest.mark.parametrize(
    ("curve", "title"),
    [
        ("training", "Validation loss"),
        ("roc", "ROC, split.protocol patient"),
        ("froc", "FROC, split.protocol patient"),
    ],
)
def test_each_plot_says_which_row_it_is_of(repository: Path, curve: str, title: str) -> None:
    vl_convert = pytest.importorskip("vl_convert", reason="pip install vl-convert-python")
    chart = plots(repository, "show", curve, "--show-vega")
    svg = vl_convert.vegalite_to_svg(json.loads(chart))
    assert {title, "cmad-pet"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", svg))


@pytest.mark.parametrize("command", [("show",), ("diff", "HEAD")])
def test_pages_of_plots_draw_without_a_network(
    repository: Path, command: tuple[str, ...], visit: Callable[..., Any]
) -> None:
    write_curves(repository, 0.7)
    plots(repository, *command, "--out", "page")
    html = repository / "page/index.html"
    assert not re.search(r"<script[^>]*src|<link[^>]*http", html.read_text(encoding="utf-8"))
    page = visit(html.as_uri())
    page.locator(".vega-embed :is(canvas, svg)").nth(1).wait_for(timeout=10_000)
    assert page.complaints == []
    assert page.locator(".vega-embed").count() == 3
    assert not page.get_by_text("Open in Vega Editor").count()
