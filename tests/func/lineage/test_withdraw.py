"""What still holds a withdrawn patient: theirs is named, and nothing of anyone else."""

from __future__ import annotations

import hashlib
from pathlib import Path

from typer.testing import CliRunner

from petct_uad.cli.app import app
from petct_uad.ingest.pseudonyms import PUBLIC
from petct_uad.lineage.store import cache_store, tracked
from petct_uad.lineage.withdraw import advice, find_beyond

NAME = "PHANTOM-0002"
PATIENT = PUBLIC.patient(NAME)
RAW = Path("data/raw/phantom")


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def test_raw_files_to_delete_are_the_patients_and_no_one_elses(at_tracked: Path) -> None:
    mine = files_below(RAW / NAME)
    assert mine < files_below(RAW)
    beyond = find_beyond(PATIENT)
    assert set(beyond.raw) == mine
    assert len(beyond.raw) == len(mine)
    assert f"{len(mine)} raw files below {RAW}, such as {RAW / NAME}/" in "\n".join(
        advice(PATIENT, beyond, gone=False)
    )


def test_stored_objects_of_the_patient_are_those_with_their_files(at_tracked: Path) -> None:
    folders = [Path(out.path) for out in tracked() if out.md5.endswith(".dir")]
    mine = {
        path
        for folder in folders
        for path in files_below(folder)
        if PATIENT in path.relative_to(folder).as_posix() or path.is_relative_to(RAW / NAME)
    }
    kinds = {path.parts[:4] for path in mine}
    assert {("data", "interim", "phantom", "ingest"), ("data", "raw", "phantom", NAME)} <= kinds
    assert set(find_beyond(PATIENT).cached) == {md5(path) for path in mine}


def test_stored_objects_that_no_output_names_are_counted(at_tracked: Path) -> None:
    before = find_beyond(PATIENT).idle
    stray = cache_store().path("0" * 32)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"")
    try:
        assert find_beyond(PATIENT).idle == before + 1
        assert before < len(cache_store().objects()) // 2
    finally:
        stray.unlink()


def test_every_remote_is_named(at_tracked: Path) -> None:
    config = at_tracked / ".dvc/config"
    before = config.read_text()
    config.write_text(f"{before}\n['remote \"far\"']\n    url = s3://far/away\n")
    try:
        beyond = find_beyond(PATIENT)
    finally:
        config.write_text(before)
    assert beyond.remotes == ("far (s3://far/away)",)
    assert "remote far (s3://far/away): `dvc gc" in "\n".join(advice(PATIENT, beyond, gone=False))


def test_what_to_do_next_begins_with_dvc_repro_only_until_it_has_been_done(
    at_tracked: Path,
) -> None:
    beyond = find_beyond(PATIENT)
    before, after = ("\n".join(advice(PATIENT, beyond, gone=gone)) for gone in (False, True))
    assert before.startswith(f"Next: dvc repro, then petct lineage impact {PATIENT}")
    assert after.startswith(f"dvc repro has nothing left to do for {PATIENT}.")
    assert "after dvc repro" not in after


def test_a_withdrawal_without_its_day_asks_for_it(at_tracked: Path) -> None:
    done = CliRunner().invoke(app, ["lineage", "impact", PATIENT, "--withdraw"])
    assert done.exit_code == 1
    assert "--withdraw needs the day of the withdrawal. Add --date YYYY-MM-DD." in done.stderr
