"""A preset says what differs from the base; all else is the base's."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from petct_uad.cli.presets import preset_content

BASE = """\
# This file is the base.
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
    (tmp_path / "cpu.yaml").write_text(BASE)
    (tmp_path / "mine.yaml").write_text(changes)
    text = preset_content("mine", tmp_path)
    yaml = YAML(typ="safe", pure=True)
    assert yaml.load(text) == yaml.load(BASE) | expected
    assert "# of everything" in text
    assert "This file is the base" not in text
