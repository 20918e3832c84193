"""Which disease a row finds is told by class, under the names that studies.csv has."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from petct_uad.audit.classes import ClassRow, measure_classes
from petct_uad.cli.app import app
from petct_uad.core.errors import EvaluationError
from petct_uad.core.files import read_table, write_table
from petct_uad.evaluation.tables import ScoreRow
from petct_uad.ingest.tables import StudyRow
from tests.samples import study_row

KINDS = {"a": "normal", "b": "CNV", "c": "drusen", "d": "normal"}


def lay_out(home: Path) -> None:
    """Two seeds; the first ranks CNV above both normals and drusen between them."""
    studies = [study_row(study_id=x, patient=x, lesion_kind=kind) for x, kind in KINDS.items()]
    scores = {1: {"a": 0.1, "d": 0.5, "c": 0.3, "b": 0.9}, 2: {"a": 0.1, "d": 0.2, "c": 0, "b": 1}}
    rows = [
        ScoreRow(seed, f"{x}_0000", x, x, int(KINDS[x] != "normal"), float(score), 0)
        for seed, of_seed in scores.items()
        for x, score in of_seed.items()
    ]
    for path, kind, content in (
        (home / "data/interim/pictures/ingest/studies.csv", StudyRow, studies),
        (home / "metrics/runs/patchcore/patchcore-pet/scores.csv", ScoreRow, rows),
    ):
        path.parent.mkdir(parents=True)
        write_table(path, kind, content)
    (home / "params.yaml").write_text("dataset: pictures\nworkers: 1\n")


def test_each_class_is_measured_against_all_normals(tmp_path: Path) -> None:
    lay_out(tmp_path)
    rows = measure_classes(
        tmp_path / "data/interim/pictures/ingest/studies.csv", tmp_path / "metrics/runs"
    )
    assert rows == [
        ClassRow("patchcore-pet", "CNV", 1, 1, 1.0),
        ClassRow("patchcore-pet", "drusen", 1, 1, 0.25),  # 0.5 and 0, by seed
    ]


def test_the_command_shows_the_table_and_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["classes", "--csv", "classes.csv"])
    assert done.exit_code == 0, done.output
    assert [row.kind for row in read_table(Path("classes.csv"), ClassRow)] == ["CNV", "drusen"]


def test_scores_of_another_data_set_are_refused(tmp_path: Path) -> None:
    lay_out(tmp_path)
    studies = tmp_path / "data/interim/pictures/ingest/studies.csv"
    write_table(studies, StudyRow, [study_row(study_id="a")])
    with pytest.raises(EvaluationError, match="3 of its studies are not in"):
        measure_classes(studies, tmp_path / "metrics/runs")
