"""params.yaml refuses what it does not understand, and says what it would take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from petct_uad.errors import ParamsError
from petct_uad.params import load_params

ROOT = Path(__file__).resolve().parents[2]
PRESETS = [ROOT / "params.yaml", *sorted((ROOT / "params").glob("*.yaml"))]


def with_value(tmp_path: Path, key: str, value: object) -> Path:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    *groups, last = key.split(".")
    node = content
    for group in groups:
        node = node[group]
    node[last] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_every_preset_is_a_whole_valid_file(preset: Path) -> None:
    load_params(preset)


def test_there_are_presets_for_a_laptop_a_test_and_the_papers() -> None:
    assert {path.stem for path in PRESETS} >= {"params", "cpu", "smoke", "paper"}


def test_committed_params_are_the_cpu_preset() -> None:
    assert load_params(ROOT / "params.yaml") == load_params(ROOT / "params/cpu.yaml")


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "null"), (8.0, "8.0"), ("eight", "'eight'"), (-1, "-1"), (65, "65")]
)
def test_wrong_number_of_prior_tokens_names_key_value_and_range(
    tmp_path: Path, value: object, shown: str
) -> None:
    with pytest.raises(ParamsError) as error:
        load_params(with_value(tmp_path, "model.cmpt", value))
    message = str(error.value)
    assert f"model.cmpt = {shown}" in message
    assert "an integer, at least 1, at most 64" in message


@pytest.mark.parametrize("key", ["model.cmptt", "modle", "split.patient"])
def test_misspelt_key_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ParamsError, match=f"{key} = 4: unknown key"):
        load_params(with_value(tmp_path, key, 4))


def test_misspelt_key_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="Did you mean 'cmpt'"):
        load_params(with_value(tmp_path, "model.cmptt", 4))


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("split.train_fraction", 0.95, "test gets the rest"),
        ("model.heads", 5, "heads must divide width"),
        ("preprocess.ct_low_hu", 1000.0, "below ct_high_hu"),
        ("preprocess.image_size_px", 100, "needs a multiple of 16"),
        ("dataset", "../secret", "matching"),
        ("train.device", "gpu", "one of 'auto', 'cpu', 'cuda'"),
        ("model.schedule.learning_rate", float("nan"), "a number"),
    ],
)
def test_impossible_value_is_refused_with_its_reason(
    tmp_path: Path, key: str, value: object, reason: str
) -> None:
    with pytest.raises(ParamsError, match=reason):
        load_params(with_value(tmp_path, key, value))


def test_params_stage_fails_in_one_line_without_traceback(tmp_path: Path) -> None:
    with_value(tmp_path, "model.cmpt", "eight")
    run = subprocess.run(
        [sys.executable, ROOT / "stages/params.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "model.cmpt = 'eight'" in run.stderr
    assert "Traceback" not in run.stderr
