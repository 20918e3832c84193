"""What `dvc plots` draws, with a repository's own .dvc folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from petct_uad.files import write_table
from petct_uad.training.tables import TrainingRow

ROOT = Path(__file__).resolve().parents[3]


def test_each_seed_of_a_training_is_a_line_of_its_own(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/config", tmp_path / ".dvc")
    shutil.copytree(ROOT / ".dvc/plots", tmp_path / ".dvc/plots")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    rows = [TrainingRow(seed, step, 1.0, seed / step, 0.1) for seed in (3, 7) for step in (1, 2)]
    write_table(tmp_path / "training.csv", TrainingRow, rows)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    (drawn,) = stages["train"]["do"]["plots"][0].values()
    plots = [{"training.csv": drawn | {"title": "a training"}}]
    pipeline = {"stages": {"train": {"cmd": "echo", "plots": plots}}}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    command = [sys.executable, "-m", "dvc", "plots", "show", "training.csv", "--show-vega"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    chart = json.loads(shown.stdout)
    assert {row["seed"] for row in chart["data"]["values"]} == {"3", "7"}
    assert chart["encoding"]["strokeDash"]["field"] == "seed"
    assert chart["encoding"]["y"]["field"] == "val_loss"
