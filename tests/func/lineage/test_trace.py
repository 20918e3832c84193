"""A trace ends in exactly the DICOM files, params and code that a thing was made from."""

from __future__ import annotations

import csv
import json
import os
import shutil
from contextlib import chdir
from pathlib import Path

import pytest
from typer.testing import CliRunner

from petct_uad.cli.app import app
from petct_uad.core.files import read_table, sha256_file, write_table
from petct_uad.slices.tables import ImageRow, SliceRow
from tests.func.conftest import PATIENTS, ROOT, RUN, lay_out
from tests.stages import run_stage

INDEX = Path("data/processed/phantom/index.csv")
STS = Path(os.environ.get("PETCT_DATA", ROOT.parent / "shared/data")) / "sts/dicom"
# 019 starts 6.6 mm away from its CT.
REAL_PATIENTS = ("STS_001", "STS_004", "STS_013", "STS_019", "STS_035")


def lineage(*words: str) -> str:
    done = CliRunner().invoke(app, ["lineage", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def slice_ids() -> list[str]:
    return [row.slice_id for row in read_table(INDEX, ImageRow)]


def raw_files(dataset: str = "phantom") -> dict[str, Path]:
    found = Path("data/raw", dataset).rglob("*")
    files = (path for path in found if path.is_file() and path.suffix != ".csv")
    return {sha256_file(path): path for path in files}


def test_a_trace_that_ends_early_says_which_folder_is_not_here(without_slices: str) -> None:
    done = CliRunner().invoke(app, ["lineage", "trace", RUN])
    assert done.exit_code == 0, done.output
    assert f"missing here: 1 folder that dvc.lock lists, such as {without_slices}" in done.stderr
    assert f"The way ends before DICOM, at {without_slices}/" in done.stdout
    assert "0 DICOM instances" not in done.stdout


def test_slice_rebuilt_from_the_traced_files_alone_has_the_same_bytes(
    at_filled: Path, tmp_path: Path
) -> None:
    wanted = next(row for row in read_table(INDEX, ImageRow) if row.label)
    assert rebuilt(wanted, "phantom", tmp_path) == wanted.sha256


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four real patients, registered and preprocessed as they would be."""
    home = tmp_path_factory.mktemp("real")
    lay_out(home, dataset="sts", refine="rigid")
    for patient in REAL_PATIENTS:
        shutil.copytree(STS / patient, home / "data/raw/sts" / patient)
    with chdir(home):
        for name in ("ingest", "register", "split", "preprocess"):
            run_stage(name)
    return home


@pytest.mark.skipif(not STS.is_dir(), reason="PETCT_DATA holds no sts/dicom")
def test_a_slice_of_each_real_patient_is_rebuilt_from_its_traced_files(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(real)
    by_study = {
        row.study_id: row for row in read_table(Path("data/processed/sts/index.csv"), ImageRow)
    }
    assert len(by_study) == len(REAL_PATIENTS)
    for study, wanted in by_study.items():
        assert rebuilt(wanted, "sts", tmp_path / study) == wanted.sha256


def rebuilt(wanted: ImageRow, dataset: str, home: Path) -> str:
    """The hash of a slice that the data stages make of the files that its trace names alone."""
    table = Path("data/interim", dataset, "split/slices.csv")
    kept = [row for row in read_table(table, SliceRow) if row.study_id == wanted.study_id]
    on_disk = raw_files(dataset)
    traced = json.loads(lineage("trace", wanted.slice_id, "--json"))["instances"]
    shutil.copytree("src", home / "src")
    shutil.copytree("stages", home / "stages")
    shutil.copy("params.yaml", home)
    for file in (on_disk[item["sha256"]] for item in traced):
        (home / file.parent).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, home / file)
    with chdir(home):
        for stage in ("ingest", "register"):
            run_stage(stage)
        write_table(table, SliceRow, kept)
        run_stage("preprocess")
        index = read_table(Path("data/processed", dataset, "index.csv"), ImageRow)
    return next(row.sha256 for row in index if row.slice_id == wanted.slice_id)


def test_slice_comes_from_every_file_of_its_study_and_no_other(at_filled: Path) -> None:
    of_study: dict[str, set[str]] = {}
    with Path("data/interim/phantom/ingest/instances.csv").open() as stream:
        for row in csv.DictReader(stream):
            of_study.setdefault(row["study_id"], set()).add(row["sha256"])
    for study, digests in of_study.items():
        name = next(name for name in slice_ids() if name.startswith(study))
        traced = json.loads(lineage("trace", name, "--json"))
        assert {item["sha256"] for item in traced["instances"]} == digests
        stages = [activity["stage"] for activity in traced["activities"]]
        assert {"preprocess", "ingest"} <= set(stages) <= {
            "preprocess", "register", "ingest", "phantom"
        }  # fmt: skip


def test_trace_names_params_and_every_source_file_with_its_hash(at_filled: Path) -> None:
    traced = json.loads(lineage("trace", slice_ids()[0], "--json"))
    preprocess = next(item for item in traced["activities"] if item["stage"] == "preprocess")
    assert preprocess["params"]["preprocess"]["image_size_px"] == 64
    assert "stages/preprocess.py" in preprocess["sources"]
    for name, digest in preprocess["sources"].items():
        assert sha256_file(Path(name)) == digest


def test_own_names_are_those_on_disk_as_sha256sum_lists_them(at_filled: Path) -> None:
    name = slice_ids()[0]
    listed = dict(line.split("  ") for line in lineage("trace", name, "--own-names").splitlines())
    on_disk = raw_files()
    digests = {item["sha256"] for item in json.loads(lineage("trace", name, "--json"))["instances"]}
    assert listed == {digest: on_disk[digest].as_posix() for digest in digests}


def test_a_trace_says_that_it_shows_pseudonyms_in_place_of_the_files_own_names(
    at_filled: Path,
) -> None:
    shown = lineage("trace", slice_ids()[0])
    assert "replaced by pseudonyms; --own-names shows the files'" in shown


def test_metric_is_traced_with_its_value_to_every_patient(at_filled: Path) -> None:
    value = json.loads(Path("metrics/runs/trivial/suvmax/metrics.json").read_text())["auroc"]
    traced = json.loads(lineage("trace", "suvmax:auroc", "--json"))
    assert traced["value"] == value
    assert len({item["study_id"] for item in traced["instances"]}) == PATIENTS
    assert {item["sha256"] for item in traced["instances"]} == raw_files().keys()


def test_model_is_traced_to_the_weights_first(at_filled: Path) -> None:
    traced = json.loads(lineage("trace", RUN, "--json"))
    assert traced["activities"][0]["stage"] == f"train {RUN}"


@pytest.mark.parametrize("form", [(), ("--tree",), ("--mermaid",)])
def test_trace_is_shown_in_three_forms(at_filled: Path, form: tuple[str, ...]) -> None:
    shown = lineage("trace", slice_ids()[0], *form)
    assert slice_ids()[0] in shown
    assert "DICOM instance" in shown


def test_file_and_instance_are_names_too(at_filled: Path) -> None:
    traced = json.loads(lineage("trace", INDEX.as_posix(), "--json"))
    uid = traced["instances"][0]["sop_instance_uid"]
    assert json.loads(lineage("trace", uid, "--json"))["instances"] == [traced["instances"][0]]


@pytest.mark.parametrize("name", ["nothing", "suvmax:aurok", "../etc", "", "slice:"])
def test_unknown_name_is_refused_by_name(at_filled: Path, name: str) -> None:
    done = CliRunner().invoke(app, ["lineage", "trace", name])
    assert done.exit_code == 1
    assert "Traceback" not in done.output


@pytest.mark.parametrize(("name", "meant"), [("suvmx:auroc", "suvmax:auroc"), ("suvmx", "suvmax")])
def test_misspelt_row_gets_the_one_that_was_meant(at_filled: Path, name: str, meant: str) -> None:
    done = CliRunner().invoke(app, ["lineage", "trace", name])
    assert f"Did you mean '{meant}'?" in done.stderr


def test_misspelt_figure_gets_the_one_that_was_meant(at_filled: Path) -> None:
    done = CliRunner().invoke(app, ["lineage", "trace", "suvmax:aurok"])
    assert "has no figure aurok. Did you mean 'auroc'?" in done.stderr
