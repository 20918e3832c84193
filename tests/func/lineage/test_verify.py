"""``petct lineage verify`` names every file that is not as recorded, and raises no false alarm."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from benchmarks.corruption import KINDS, Journal, chances, flips_object, run_one
from petct_uad.cli.app import app
from petct_uad.core.files import sha256_file, write_json
from petct_uad.core.provenance.record import Activity, Derivation, Entity, write_lineage
from petct_uad.lineage.store import cache_store
from petct_uad.lineage.verify import verify
from tests.func.conftest import RUN

TIMES = 3  # each kind of corruption; the long run is benchmarks/corruption.py


@pytest.fixture
def journal() -> Iterator[Journal]:
    journal = Journal()
    yield journal
    journal.undo()


def findings() -> dict[str, str]:
    return {finding.path: f"{finding.problem}. {finding.advice}" for finding in verify([]).findings}


def dvc(*words: str) -> str:
    command = [sys.executable, "-m", "dvc", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout


def test_untouched_repository_has_no_findings(at_tracked: Path) -> None:
    done = CliRunner().invoke(app, ["lineage", "verify"])
    assert done.stdout == ""
    assert done.exit_code == 0


@pytest.mark.parametrize("seed", range(len(KINDS) * TIMES))
def test_every_corruption_is_found_in_its_file(at_tracked: Path, seed: int) -> None:
    done, found, _ = run_one(seed, chances(), ask_dvc=False)
    assert found, done
    assert not findings(), "put back, it is sound again"


def test_rot_that_dvc_status_calls_up_to_date_is_found(at_tracked: Path, journal: Journal) -> None:
    """DVC trusts a file whose time and size are those that it once saw."""
    volume = next(Path("data/interim").rglob("ct.nii.gz"))
    content = bytearray(volume.read_bytes())
    content[-1] ^= 1
    assert "ct.nii.gz" not in dvc("data", "status", "--granular", "data/interim")
    journal.rewrite(volume, bytes(content), rot=True)
    objects = [path for _, path in cache_store().objects()]
    stored = flips_object(Random(0), journal, objects)[0]
    assert "ct.nii.gz" not in dvc("data", "status", "--granular", "data/interim")
    assert {volume.as_posix(), stored.as_posix()} <= findings().keys()


def test_file_of_another_patient_is_recognised(at_tracked: Path, journal: Journal) -> None:
    first, second, *_ = sorted(Path("data/interim/phantom/ingest").rglob("pet.nii.gz"))
    journal.rewrite(first, second.read_bytes())
    assert f"holds what {second}" in findings()[first.as_posix()]


def test_advice_restores_the_file(at_tracked: Path, journal: Journal) -> None:
    shard = next(Path("data/processed").glob("*/shards/*"))
    sound = shard.read_bytes()
    journal.rewrite(shard, b"rubbish", rot=True)
    advice = findings()[shard.as_posix()]
    assert f"rm -f {shard}" in advice
    assert "dvc checkout --force data/processed/phantom" in advice
    shard.unlink()
    dvc("checkout", "--force", "data/processed/phantom")
    assert shard.read_bytes() == sound
    assert not findings()


def test_changed_param_names_the_stage_that_ran_with_another(
    at_tracked: Path, journal: Journal
) -> None:
    params = Path("params.yaml")
    text = params.read_text()
    journal.rewrite(params, text.replace("suv_high: 5.0", "suv_high: 6.0").encode())
    found = findings()["params.yaml: preprocess.suv_high"]
    assert "is 6.0" in found
    assert "preprocess ran with 5.0" in found


def test_lost_cache_is_no_damage_while_the_workspace_is_sound(
    at_tracked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a clone whose files came by another way."""
    cache = Path(".dvc/cache")
    cache.rename(".dvc/away")
    try:
        assert not findings()
        shard = next(Path("data/processed").glob("*/shards/*"))
        journal = Journal()
        journal.rewrite(shard, b"rubbish")
        assert "dvc pull" in findings()[shard.as_posix()]
        journal.undo()
    finally:
        Path(".dvc/away").rename(cache)


def test_file_too_many_is_found_in_a_folder_that_the_cache_no_longer_lists(
    at_tracked: Path,
) -> None:
    """Of such a folder DVC's lock has one hash, and no list of files."""
    stranger = Path("data/processed/phantom/shards/stranger.safetensors")
    cache = Path(".dvc/cache")
    cache.rename(".dvc/away")
    stranger.write_bytes(b"")
    try:
        found = findings()
    finally:
        stranger.unlink()
        Path(".dvc/away").rename(cache)
    assert found.keys() == {"data/processed/phantom"}
    assert "differs from what dvc.lock recorded" in found["data/processed/phantom"]


def test_a_folder_that_is_not_here_is_one_finding_and_not_one_for_each_file(
    without_slices: str,
) -> None:
    """As in a fresh clone, before `dvc pull`."""
    found = findings()
    assert found.keys() == {without_slices}
    assert f"dvc pull {without_slices}`, else `dvc repro preprocess`" in found[without_slices]


def test_a_folder_of_another_data_set_is_one_finding_and_not_one_for_each_file(
    repository: Path,
) -> None:
    """A model of the phantom in a clone where only own data were made: dvc.lock lists no phantom's
    folder any more."""
    shutil.rmtree("data/processed/phantom")
    Path("data/processed/mine").mkdir()
    found = {at: text for at, text in findings().items() if at.startswith("data/processed")}
    assert found.keys() == {"data/processed/phantom"}
    assert f"evaluate_trivial, train {RUN} name 6 files of it" in found["data/processed/phantom"]
    assert "dvc repro" in found["data/processed/phantom"]


def test_stage_that_read_other_bytes_than_were_written_is_named(repository: Path) -> None:
    """Every file is as its maker recorded it, and yet one stage had another."""
    index = Path("data/processed/phantom/index.csv")
    assert not findings()
    activity = Activity("late", {}, (Path("stages/train.py"),))
    read = Derivation(Entity("slice:x", "0" * 64), (Entity(f"file:{index}", "1" * 64),))
    write_lineage(Path("models/late/lineage"), activity, [read])
    found = findings()
    assert found.keys() == {index.as_posix()}
    assert "late read it with SHA-256 111111111111" in found[index.as_posix()]
    assert f"preprocess has {sha256_file(index)[:12]}" in found[index.as_posix()]


def test_a_stage_whose_inputs_were_made_anew_is_one_finding_and_not_one_for_each_file(
    repository: Path,
) -> None:
    """As after `dvc exp run evaluate@cmad`, which leaves compare as it was."""
    shards = sorted(Path("data/processed/phantom/shards").glob("*"))
    activity = Activity("compare", {}, (Path("stages/compare.py"),))
    sources = tuple(Entity(f"file:{shard}", "1" * 64) for shard in shards)
    write_lineage(
        Path("metrics/lineage"), activity, [Derivation(Entity("row:x", "0" * 64), sources)]
    )
    found = findings()
    assert found.keys() == {"outputs of compare"}
    said = found["outputs of compare"]
    assert f"older than what preprocess wrote: {len(shards)} of the files" in said
    assert "Run `dvc repro`" in said


def test_package_of_another_version_is_a_note_and_no_finding(repository: Path) -> None:
    assert verify([]).notes == ()
    activity = Path("data/processed/phantom/lineage/activity.json")
    record = json.loads(activity.read_text())
    record["packages"]["numpy"] = "0.0.1"
    write_json(activity, record)
    found = verify([])
    assert found.findings == ()
    assert found.notes == (f"numpy is {version('numpy')} here, was 0.0.1 when preprocess ran",)


def test_no_alarm_after_gc_and_checkout(at_tracked: Path) -> None:
    dvc("gc", "--workspace", "--force", "--quiet")
    shutil.rmtree("data/processed")
    dvc("checkout", "--quiet", "data/processed/phantom")
    assert not findings()


def test_remote_in_a_folder_is_checked_on_request(at_tracked: Path, tmp_path: Path) -> None:
    md5, sound = cache_store().objects()[0]
    stored = tmp_path / "files/md5" / md5[:2] / md5[2:]
    stored.parent.mkdir(parents=True)
    stored.write_bytes(sound.read_bytes() + b"x")
    done = CliRunner().invoke(app, ["lineage", "verify", "--no-cache", "--remote", str(tmp_path)])
    assert done.exit_code == 1
    assert stored.as_posix() in done.stdout
    (as_json,) = json.loads(
        CliRunner()
        .invoke(app, ["lineage", "verify", "--no-cache", "--remote", str(tmp_path), "--json"])
        .stdout
    )
    assert stored.as_posix() in as_json["path"]
    assert {"problem", "advice"} < set(as_json)


def test_file_that_nobody_made_is_named(at_tracked: Path) -> None:
    stranger = Path("data/processed/phantom/shards/stranger.safetensors")
    stranger.write_bytes(b"")
    try:
        assert stranger.as_posix() in findings()
    finally:
        stranger.unlink()


def test_file_that_dvcignore_names_is_no_stranger(at_tracked: Path, journal: Journal) -> None:
    rules = Path(".dvcignore")
    ignored = Path("data/processed/phantom/shards/.tmp-half-written")
    ignored.write_bytes(b"")
    try:
        assert not findings()
        journal.rewrite(rules, rules.read_bytes().replace(b".tmp-*", b""))
        assert ignored.as_posix() in findings()
    finally:
        ignored.unlink()


def test_nothing_to_verify_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["lineage", "verify"])
    assert done.exit_code == 1
    assert "dvc repro" in done.stderr
