"""Lineage of a packed data set goes to the instance inside its archive."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from petct_uad.cli.add import add_dataset
from petct_uad.core.files import sha256_file
from petct_uad.lineage.instances import instance_rows, locate
from petct_uad.lineage.verify import verify
from petct_uad.lineage.withdraw import find_beyond
from tests.func.conftest import lay_out
from tests.func.ingest.conftest import Patient
from tests.stages import run_stage


@pytest.fixture(params=[False, True], ids=["loose", "packed"])
def mine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A repository whose stage ingest has read a data set of two; is it packed?"""
    home, packed = tmp_path / "repository", bool(request.param)
    home.mkdir()
    lay_out(home, dataset="mine")
    monkeypatch.chdir(home)
    Path("data").mkdir()
    Path("data/withdrawn.csv").write_text("patient,date\n")
    for command in (["git"], [sys.executable, "-m", "dvc"]):
        subprocess.run([*command, "init", "--quiet"], check=True)
    for name in ("P1", "P2"):
        Patient(tmp_path / "source", name).both()
    add_dataset("mine", tmp_path / "source", pack=packed)
    run_stage("ingest")
    return packed


def test_nothing_is_found_until_a_raw_file_is_damaged(mine: bool) -> None:
    assert verify([]).findings == ()
    raw = min(path for path in Path("data/raw/mine").rglob("*") if path.is_file())
    raw.chmod(0o644)
    raw.write_bytes(raw.read_bytes()[:-3] + b"bad")
    assert [finding.path for finding in verify([]).findings] == [raw.as_posix()]


def test_instance_is_found_where_it_lies_and_goes_with_its_patient(mine: bool) -> None:
    rows = instance_rows("p-")
    found = locate(rows)
    assert len(found) == len(rows) == 48
    for row in found:
        assert ("!/" in row.file) == mine
        assert sha256_file(Path(row.file)) == row.sha256
    patient = rows[0].study_id.partition("_")[0]
    held = find_beyond(patient)
    assert len(held.raw) == (1 if mine else 24)
    assert all(path.is_file() for path in held.raw)
    assert len(held.cached) == len(held.raw)
