"""``benchmarks/development.py`` says of a trained row what the pipeline says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.development import choose, train
from petct_uad.core.console import console
from tests.func.images.conftest import MODEL

WIDE = 200  # so that no cell of the table is cut


@pytest.fixture
def kept(whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The maps of two PatchCores, one as params have it and one that reads stride 16 alone."""
    monkeypatch.chdir(whole_run)
    monkeypatch.setattr(console, "width", WIDE)
    for name, settings in (("shipped", []), ("deep", ["strides=[16]"])):
        train(Path(), tmp_path, name, MODEL, "pet", "models.patchcore", seeds="42", set_=settings)
    return tmp_path


def chosen(kept: Path, capsys: pytest.CaptureFixture[str]) -> Mapping[str, list[str]]:
    """The printed line of each row and score: seeds, AUROC, paired difference and interval."""
    capsys.readouterr()
    choose(Path(), kept, ["shipped-pet", "deep-pet"], fusion="raw_sum", score="max,mean")
    lines = [line.strip("│").split("│") for line in capsys.readouterr().err.splitlines()]
    lines = [[cell.strip() for cell in line] for line in lines if len(line) == 5]
    return {cells[0]: cells[1:] for cells in lines}


def test_auroc_and_paired_difference_are_those_of_the_pipeline(
    whole_run: Path, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = json.loads((whole_run / "metrics/auroc/patchcore.json").read_text())["pet"]
    lines = chosen(kept, capsys)
    assert len(lines) == 4
    first, *others = lines.values()
    assert first[:2] == ["1", f"{shipped:.4f}"]
    assert first[2:] == ["", ""]
    for _, auroc, difference, interval in others:
        low, high = map(float, interval.split(" to "))
        assert float(difference) == pytest.approx(float(auroc) - shipped, abs=1e-4)
        assert low <= float(difference) <= high
