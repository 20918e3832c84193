"""A preset says what differs from the base; all else is the base's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from petct_uad.cli.presets import preset_content, values_alone, without_questions
from petct_uad.core.errors import ParamsError

ROOT = Path(__file__).resolve().parents[2]
BASE = """\
# The 'other' preset, written by `petct preset other`.
seed: 1  # of everything
split:
  seed: 2
  benchmark: 3
benchmark:
  one: {model: a}
  two: {model: b}
"""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ("split: {seed: 9}", {"split": {"seed": 9, "benchmark": 3}}),
        ("benchmark: [two]", {"benchmark": {"two": {"model": "b"}}}),
        ("benchmark: {three: {model: c}}", {"benchmark": {"three": {"model": "c"}}}),
        # Only the section at the top holds rows.
        ("split: {benchmark: 9}", {"split": {"seed": 2, "benchmark": 9}}),
    ],
    ids=["a key", "rows kept", "rows of its own", "a key of the same name"],
)
def test_preset_differs_from_the_base_in_what_it_says_and_no_more(
    tmp_path: Path, changes: str, expected: dict[str, object]
) -> None:
    folder = tmp_path / "params"
    folder.mkdir()
    (tmp_path / "params.yaml").write_text(BASE.replace("seed: 2", "seed: 7"))  # changed by hand
    (folder / "cpu.yaml").write_text(without_questions(BASE))
    (folder / "mine.yaml").write_text(changes)
    text = preset_content("mine", folder)
    yaml = YAML(typ="safe", pure=True)
    assert yaml.load(text) == yaml.load(BASE) | expected
    assert "# of everything" in text
    assert text.startswith("# The 'mine' preset")
    assert "The 'other' preset" not in text


def test_a_misspelt_preset_gets_the_one_that_was_meant() -> None:
    with pytest.raises(
        ParamsError, match=r"preset 'smok': not found. Did you mean 'smoke'\? There"
    ):
        preset_content("smok", ROOT / "params")


def test_the_base_is_generated_from_params_yaml_and_holds_no_question() -> None:
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    if not params.startswith("# The 'cpu' preset"):
        pytest.skip("params.yaml is another preset")
    base = (ROOT / "params/cpu.yaml").read_text(encoding="utf-8")
    assert base == values_alone(params), "run python -m petct_uad.cli.presets"


def test_going_to_another_preset_and_back_gives_the_same_bytes(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    params = tmp_path / "params.yaml"
    params.write_text(preset_content("cpu", tmp_path / "params"))
    before = params.read_bytes()
    for name in ("smoke", "ablations", "cpu"):
        params.write_text(preset_content(name, tmp_path / "params"))
    assert params.read_bytes() == before
