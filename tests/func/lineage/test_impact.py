"""Forward from a cause to everything that depends on it, and a patient taken out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from petct_uad.cli.app import app
from petct_uad.core.files import read_table
from petct_uad.ingest.pseudonyms import PUBLIC
from petct_uad.slices.tables import ImageRow
from tests.func.conftest import PATIENTS, RUN
from tests.samples import PETCT_BASELINES
from tests.stages import run_stage

INDEX = Path("data/processed/phantom/index.csv")


def impact(*words: str) -> dict[str, object]:
    done = CliRunner().invoke(app, ["lineage", "impact", *words, "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads(done.stdout)
    return found


def outputs(*words: str) -> set[str]:
    return {item["id"] for item in impact(*words)["outputs"]}  # type: ignore[attr-defined]


def rows() -> list[ImageRow]:
    return read_table(INDEX, ImageRow)


def trained_on() -> set[str]:
    shards = sorted(Path("data/processed/phantom/shards").glob("*"))[:3]
    return {path.stem for path in shards}


def test_patient_is_behind_their_slices_and_no_other_patients(at_filled: Path) -> None:
    patient = rows()[0].patient
    found = {name for name in outputs(patient) if name.startswith("slice:")}
    assert found == {f"slice:{row.slice_id}" for row in rows() if row.patient == patient}


def test_patient_is_behind_every_number_drawn_from_the_index(at_filled: Path) -> None:
    found = impact(rows()[0].patient)
    assert set(found["numbers"]) == PETCT_BASELINES  # type: ignore[call-overload]


def test_a_stage_that_runs_once_per_row_is_shown_once(at_filled: Path) -> None:
    done = CliRunner().invoke(app, ["lineage", "impact", "PHANTOM-0001"])
    stages = [line.split()[0] for line in done.stdout.splitlines() if line.strip()]
    assert stages.count("evaluate_trivial") == 1


def test_patient_id_and_pseudonym_are_one_patient(at_filled: Path) -> None:
    assert outputs("PHANTOM-0001") == outputs(PUBLIC.patient("PHANTOM-0001"))


def test_weights_depend_on_the_shards_that_they_were_trained_on(at_filled: Path) -> None:
    study = next(iter(trained_on()))
    shard = f"data/processed/phantom/shards/{study}.safetensors"
    assert impact(shard)["models"] == [RUN]
    other = next(r for r in rows() if r.study_id not in trained_on())
    shard = f"data/processed/phantom/shards/{other.study_id}.safetensors"
    assert impact(shard)["models"] == []


def test_nothing_depends_on_itself(at_filled: Path) -> None:
    shard = next(Path("data/processed/phantom/shards").glob("*")).as_posix()
    assert f"file:{shard}" not in outputs(shard)


def test_series_is_behind_its_volume(at_filled: Path) -> None:
    studies = Path("data/interim/phantom/ingest/studies.csv").read_text().splitlines()
    header, row = studies[0].split(","), studies[1].split(",")
    study = row[header.index("study_id")]
    found = outputs(row[header.index("pet_series_instance_uid")])
    volumes = f"file:data/interim/phantom/ingest/volumes/{study}"
    assert f"{volumes}/pet.nii.gz" in found
    assert f"{volumes}/ct.nii.gz" not in found


def test_raw_file_is_known_by_its_bytes(at_filled: Path) -> None:
    file = next(Path("data/raw/phantom").rglob("*.dcm"))
    patient = PUBLIC.patient(file.relative_to("data/raw/phantom").parts[0])
    slices = {name for name in outputs(file.as_posix()) if name.startswith("slice:")}
    assert slices == {f"slice:{row.slice_id}" for row in rows() if row.patient == patient}


@pytest.mark.parametrize(
    ("cause", "first", "spared"),
    [
        ("preprocess.image_size_px", "preprocess", "register"),
        ("preprocess", "preprocess", "register"),
        ("models.patchcore.coreset_fraction", f"train {RUN}", "preprocess"),
        ("src/petct_uad/preprocess/shards.py", "preprocess", "register"),
        ("stages/ingest.py", "ingest", "phantom"),
    ],
)
def test_param_or_module_changes_its_stages_and_those_after(
    at_filled: Path, cause: str, first: str, spared: str
) -> None:
    stages = impact(cause)["stages"]
    assert first in stages  # type: ignore[operator]
    assert spared not in stages  # type: ignore[operator]


def test_cause_without_consequence_is_refused_by_name(at_filled: Path) -> None:
    done = CliRunner().invoke(app, ["lineage", "impact", "model.cmptt"])
    assert done.exit_code == 1
    assert "model.cmptt" in done.stderr


def test_withdrawn_patient_is_behind_nothing_after_the_stages_ran_again(repository: Path) -> None:
    patient = PUBLIC.patient("PHANTOM-0002")
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("['remote \"far\"']\n    url = s3://far/away\n")
    words = ["lineage", "impact", "PHANTOM-0002", "--withdraw", "--date", "2026-11-22"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    listed = Path("data/withdrawn.csv").read_text()
    assert f"{patient},2026-11-22" in listed
    assert "PHANTOM" not in listed
    reached = "raw files below", "remote far", "git history", "dvc gc", "cache trim", "other clones"
    for place in reached:
        assert place in done.stderr

    for stage in ("ingest", "register", "split", "preprocess"):
        run_stage(stage)

    found = impact(patient)
    assert found["outputs"] == []
    assert len({row.patient for row in rows()}) == PATIENTS - 1
    for path in Path("data/interim").rglob("*.csv"):
        assert patient not in path.read_text()
    again = CliRunner().invoke(app, ["lineage", "impact", "PHANTOM-0002"])
    assert "raw files below data/raw/phantom, such as data/raw/phantom/PHANTOM-0002/" in (
        again.stderr
    ), "they are still there, and no table names them any more"


def test_what_ran_before_a_patient_was_added_is_older_and_not_behind(repository: Path) -> None:
    """As after ``dvc exp run`` that ends at the slices."""
    params = Path("params.yaml")
    params.write_text(
        params.read_text().replace(f"patients: {PATIENTS}", f"patients: {PATIENTS + 1}")
    )
    for stage in ("phantom", "ingest", "register", "split", "preprocess"):
        run_stage(stage)
    added = impact(f"PHANTOM-{PATIENTS:04}")
    assert "preprocess" in added["stages"]  # type: ignore[operator]
    assert added["numbers"] == {}
    assert added["models"] == []
    assert {*added["older"]} == {"evaluate_trivial", f"train {RUN}"}  # type: ignore[misc]
    for words in (["impact", f"PHANTOM-{PATIENTS:04}"], ["trace", "suvmax:auroc"]):
        shown = CliRunner().invoke(app, ["lineage", *words]).stdout
        assert "older: evaluate_trivial" in shown
        assert "Run dvc repro" in shown


@pytest.mark.parametrize("date", ["", "yesterday", "22.11.2026"])
def test_withdrawal_needs_a_date(repository: Path, date: str) -> None:
    words = ["lineage", "impact", rows()[0].patient, "--withdraw", "--date", date]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "YYYY-MM-DD" in done.stderr
    assert not Path("data/withdrawn.csv").exists()


def test_only_a_patient_can_be_withdrawn(repository: Path) -> None:
    words = ["lineage", "impact", "preprocess", "--withdraw", "--date", "2026-11-22"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert not Path("data/withdrawn.csv").exists()


@pytest.mark.parametrize("line", ["John Doe,2026-11-22", "p-0123456789,soon", "p-0123456789"])
def test_ingest_stops_at_a_list_that_it_cannot_read(repository: Path, line: str) -> None:
    Path("data/withdrawn.csv").write_text(f"patient,date\n{line}\n")
    done = CliRunner().invoke(app, ["lineage", "impact", rows()[0].patient, "--withdraw"])
    assert done.exit_code == 1
    assert "withdrawn.csv" in done.stderr
