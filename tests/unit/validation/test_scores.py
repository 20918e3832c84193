"""Scores are checked as they lie on disk, before anything is made of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from petct_uad.comparison.judged_scores import judge_scores
from petct_uad.core.errors import ValidationFailedError
from petct_uad.core.files import write_table
from petct_uad.evaluation.tables import ScoreRow
from petct_uad.slices.tables import ImageRow
from tests.unit.validation.sound import ABNORMAL, sound_tables

SCORES = [
    ScoreRow(7, "P3_0000", "P3", "P3", 0, "none", 0.5, 0),
    ScoreRow(7, ABNORMAL, "P3", "P3", 1, "granuloma", 1.5, 1),
]
RESULT = Path("metrics/validation_scores.json")
INDEX = Path("data/index.csv")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.chdir(tmp_path)
    write_table(INDEX, ImageRow, sound_tables().images)
    files = {name: Path(f"metrics/runs/{name}/scores.csv") for name in ("b", "a")}
    for path in files.values():
        write_table(path, ScoreRow, SCORES)
    return files


def test_sound_scores_pass_and_the_outcome_derives_from_every_file(files: dict[str, Path]) -> None:
    derivation = judge_scores(list(files.values()), INDEX, RESULT)
    assert json.loads(RESULT.read_text())["passed"]
    inputs = {entity.id for entity in derivation.inputs}
    assert inputs == {f"file:{path.as_posix()}" for path in (*files.values(), INDEX)}


def test_missing_slice_stops_the_comparison_and_leaves_the_outcome(files: dict[str, Path]) -> None:
    write_table(files["b"], ScoreRow, SCORES[1:])
    with pytest.raises(ValidationFailedError, match=r"every_test_slice_scored.*b seed 7"):
        judge_scores(list(files.values()), INDEX, RESULT)
    assert not json.loads(RESULT.read_text())["passed"]


def test_scores_without_a_single_number_are_no_crash(files: dict[str, Path]) -> None:
    empty = [
        ScoreRow(7, row.slice_id, "P3", "P3", row.label, "none", float("nan"), 0) for row in SCORES
    ]
    write_table(files["b"], ScoreRow, empty)
    with pytest.raises(ValidationFailedError, match=r"scores\.finite.*P3_0000 by b seed 7"):
        judge_scores(list(files.values()), INDEX, RESULT)
