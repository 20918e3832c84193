"""A figure of merit is one declaration, from which every table follows."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from petct_uad.comparison.compare import read_runs, summarise, write_summary
from petct_uad.evaluation.figures import Figure
from petct_uad.evaluation.metrics import in_chunks
from petct_uad.report.page import render_report
from petct_uad.slices.store import ImageStack
from tests.unit.report.conftest import Project

pytestmark = pytest.mark.slow


def _brightest(maps: ImageStack) -> float:
    return max(float(maps[some].max()) for some in in_chunks(maps.shape[0]))


SPREAD = Figure(
    name="score_spread",
    title="score spread",
    of_seed=lambda seed: 100 + float(np.ptp(seed.scores.scores)),
    of_draws=lambda seed, draws: draws.slices.weights.max(axis=1),
    deviates=True,
    columns=("value", "low", "high", "deviation"),
    short="spread",
    decimals=1,
    threshold="twice the mean",
    in_diff=True,
)
BRIGHTEST = Figure(
    name="brightest_pixel",
    title="brightest pixel",
    of_seed=lambda seed: _brightest(seed.maps.maps) if seed.maps else None,
    shown=False,
)
HIDDEN = Figure("hidden", "hidden", lambda seed: 0.25, columns=())


@pytest.fixture
def written(project_with: Callable[..., Project]) -> tuple[Path, str]:
    """The folder of the tables, and the page."""
    project = project_with(SPREAD, BRIGHTEST, HIDDEN)
    runs = read_runs(project.report.results)
    summary = summarise(runs, project.params)
    write_summary(Path("metrics"), summary)
    return Path("metrics"), render_report(summary, runs, project.report)


def test_a_new_figure_is_in_every_table_that_its_declaration_names(
    written: tuple[Path, str],
) -> None:
    metrics, page = written
    content = json.loads((metrics / "runs/cmad/cmad-pet/metrics.json").read_text())
    parts = [key for key in content if key.startswith(("score_spread", "brightest", "hidden"))]
    assert parts == [
        "score_spread", "score_spread_low", "score_spread_high", "score_spread_deviation",
        "brightest_pixel", "hidden",
    ]  # fmt: skip
    assert content["score_spread"] > 100
    assert 1 <= content["score_spread_low"] <= content["score_spread_high"]
    assert content["hidden"] == 0.25

    with (metrics / "summary.csv").open(newline="") as stream:
        rows = {row["run"]: row for row in csv.DictReader(stream)}
    names = list(rows["cmad-pet"])
    at = names.index("oracle_dice")
    assert names[at + 1 : at + 7] == [*parts[:5], "parameters"]
    for key in parts[:5]:
        assert float(rows["cmad-pet"][key]) == content[key]
    assert rows["suvmax"]["brightest_pixel"] == ""

    narrow = json.loads((metrics / "summary.json").read_text())
    assert narrow["score_spread"]["cmad-pet"] == content["score_spread"]
    assert not {"brightest_pixel", "hidden"} & set(narrow)

    value, deviation, low, high = (
        f"{content[f'score_spread{x}']:.1f}" for x in ("", "_deviation", "_low", "_high")
    )
    header, _, *lines = (metrics / "summary.md").read_text().splitlines()
    assert header.endswith("| oracle Dice | score spread | parameters |")
    (line,) = (line for line in lines if line.startswith("| cmad-pet |"))
    assert f"| {value} ± {deviation} ({low} to {high}) |" in line

    headings = re.findall(r'<button type="button">([^/]*?)</button>', page.split("<tbody>")[0])
    assert headings[3:] == [
        "Adjusted<br>AUROC", "AP", "F1", "Sens.", "Spec.", "Oracle<br>F1", "Pixel<br>AUROC",
        "AUPRO", "Patient<br>AUROC", "FROC", "Lesion<br>sens.", "False<br>findings",
        "False<br>positive<br>ml", "False<br>negative<br>ml", "Dice", "Oracle<br>Dice", "Spread",
        "Params<br>(million)",
    ]  # fmt: skip
    row = page.split('<th scope="row" data-v="cmad-pet">')[1].split("</tr>")[0]
    assert f">{value}<br><small>± " in row
    assert "brightest" not in (metrics / "summary.md").read_text() + page.lower()


def test_the_page_and_the_table_say_where_the_threshold_of_each_figure_comes_from(
    written: tuple[Path, str],
) -> None:
    metrics, page = written
    notes = (metrics / "summary.md").read_text()
    for sentence in (
        "F1, sensitivity, specificity: at the threshold that validation normals chose.",
        "Oracle F1, oracle Dice: at the best threshold on the test slices themselves",
        "Lesion sensitivity, false findings per study, false positive ml, false negative ml, Dice: "
        "at the threshold of the map that pixels of at most",
        "Score spread: at twice the mean.",
    ):
        assert sentence in notes
        assert sentence in page
