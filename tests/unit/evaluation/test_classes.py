"""Which disease a row finds is told by class, under the names that studies.csv has."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from petct_uad.cli.app import app
from petct_uad.core.errors import EvaluationError
from petct_uad.core.files import read_table, write_table
from petct_uad.evaluation.classes import read_kinds
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.results import ResultPaths, RunResults, measure, write_results
from petct_uad.evaluation.tables import ClassRow, RunIdentity
from petct_uad.ingest.tables import StudyRow
from petct_uad.scoring.tables import SeedScores
from tests.samples import image_row, study_row

KINDS = {"a": "normal", "b": "CNV", "c": "drusen", "d": "normal", "e": "CNV"}
LABELS = {x: int(kind != "normal") for x, kind in KINDS.items()}
ROWS = [
    image_row(slice_id=f"{x}_0000", study_id=x, patient=x, split="test", label=label)
    for x, label in LABELS.items()
]
# The first seed ranks CNV above both normals and drusen between them; the second drusen below.
SCORES = {1: (0.1, 0.9, 0.3, 0.5, 0.8), 2: (0.1, 1.0, 0.0, 0.2, 0.9)}
ROOT = Path(__file__).parents[3]
IDENTITY = RunIdentity(
    run="patchcore-pet", model="patchcore", modality="pet", dataset="tiny", protocol="patient"
)
PARAMS = EvaluateParams(false_positive_rate=0.1, bootstrap_samples=200, confidence=0.95, seed=0)


def results(kinds: dict[str, str] | None = None) -> RunResults:
    seeds = [SeedScores(seed, np.array([0.2]), np.array(x)) for seed, x in SCORES.items()]
    return measure(IDENTITY, seeds=seeds, test_rows=ROWS, params=PARAMS, kinds=kinds)


def test_each_class_is_measured_against_all_normals_with_an_interval() -> None:
    cnv, drusen = results(KINDS).classes
    assert (cnv.run, cnv.lesion_kind, cnv.slices, cnv.patients) == ("patchcore-pet", "CNV", 2, 2)
    assert (cnv.auroc, cnv.low, cnv.high) == (1, 1, 1)
    assert (drusen.lesion_kind, drusen.auroc) == ("drusen", 0.25)  # 0.5 and 0, by seed
    # A draw without the other normal has an AUROC of 0 or of 0.5; one without drusen has none.
    assert (drusen.low, drusen.high) == (0, 0.5)


def test_one_class_that_has_no_name_is_what_all_abnormal_slices_are() -> None:
    found = results()
    (alone,) = found.classes
    assert alone.lesion_kind == "none"
    assert alone.auroc == pytest.approx(found.metrics.auroc.value)
    assert (alone.low, alone.high) == (found.metrics.auroc.low, found.metrics.auroc.high)


def test_every_abnormal_slice_names_its_class_in_scores_csv(tmp_path: Path) -> None:
    paths = ResultPaths.of(tmp_path, "patchcore", "patchcore-pet")
    write_results(paths, results(KINDS))
    with paths.scores.open(newline="") as stream:
        kinds = [row["lesion_kind"] for row in csv.DictReader(stream)]
    assert kinds == ["none", "CNV", "drusen", "none", "CNV"] * len(SCORES)


def test_the_command_shows_the_table_and_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    none_yet = CliRunner().invoke(app, ["classes"])
    assert "Run `dvc repro` first" in none_yet.output
    write_results(ResultPaths.of(Path("metrics"), "patchcore", "patchcore-pet"), results(KINDS))
    name_dataset("tiny")
    done = CliRunner().invoke(app, ["classes", "--csv", "classes.csv"])
    assert done.exit_code == 0, done.output
    assert "drusen" in done.stdout
    assert "figures of" not in done.stderr
    assert [x.lesion_kind for x in read_table(Path("classes.csv"), ClassRow)] == ["CNV", "drusen"]


def test_figures_of_another_data_set_than_params_yaml_names_are_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_results(ResultPaths.of(Path("metrics"), "patchcore", "patchcore-pet"), results(KINDS))
    name_dataset("mine")
    done = CliRunner().invoke(app, ["classes"])
    assert "figures of tiny, not of mine" in done.stderr


def name_dataset(name: str) -> None:
    """In params.yaml, the committed one otherwise."""
    committed = (ROOT / "params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(committed.replace("dataset: phantom", f"dataset: {name}"))


def test_studies_of_another_data_set_are_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "studies.csv", StudyRow, [study_row(study_id="a")])
    with pytest.raises(EvaluationError, match=r"4 of the studies in index\.csv are not there"):
        read_kinds(tmp_path / "studies.csv", ROWS)
