"""What the ingest stage and ``petct`` return to the shell, and docs/rejections.md about it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from petct_uad.core import errors
from tests.func.ingest.conftest import Patient

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs" / "rejections.md"


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run stages/ingest.py in a project whose only data set is the test's."""
    home = tmp_path / "project"
    home.mkdir()
    for name in ("src", "stages", "pyproject.toml"):
        (home / name).symlink_to(ROOT / name)
    (home / "data").mkdir()

    def run(raw: Path, **changes: object) -> subprocess.CompletedProcess[str]:
        params = YAML().load((ROOT / "params.yaml").read_text())
        params["dataset"] = "cases"
        params["workers"] = 1
        params["ingest"] |= {"pseudonyms": "public", **changes}
        YAML().dump(params, home / "params.yaml")
        (home / "data" / "raw").mkdir()
        if raw.is_dir():
            raw.rename(home / "data" / "raw" / "cases")
        command = [sys.executable, "stages/ingest.py"]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        return subprocess.run(
            command, cwd=home, env=environment, capture_output=True, text=True, check=False
        )

    return run


def written(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "project/data").glob("interim/cases/ingest/*"))


def test_0_when_all_were_read(
    patient: Callable[..., Patient],
    raw: Path,
    stage: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    patient().both()
    assert stage(raw).returncode == 0
    assert "studies.csv" in written(tmp_path)


def test_0_when_some_were_refused_and_reported(
    patient: Callable[..., Patient],
    raw: Path,
    stage: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    patient().both()
    (raw / "notes.txt").write_text("no DICOM")
    assert stage(raw).returncode == 0
    assert "rejected.csv" in written(tmp_path)


def test_3_when_some_were_refused_and_on_reject_is_stop(
    patient: Callable[..., Patient],
    raw: Path,
    stage: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    patient().both()
    (raw / "notes.txt").write_text("no DICOM")
    done = stage(raw, on_reject="stop")
    assert done.returncode == 3
    assert "notes.txt" in done.stderr
    assert "Traceback" not in done.stderr
    assert written(tmp_path) == []


def test_4_when_nothing_can_be_used(
    patient: Callable[..., Patient],
    raw: Path,
    stage: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    patient().ct()
    done = stage(raw)
    assert done.returncode == 4
    assert "no usable PET" in " ".join(done.stderr.split())
    assert written(tmp_path) == []


def test_4_when_there_is_no_data_set(
    raw: Path, stage: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    assert stage(raw).returncode == 4


def test_1_when_params_are_wrong(
    patient: Callable[..., Patient],
    raw: Path,
    stage: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    patient().both()
    assert stage(raw, suv="bodyweight").returncode == 1


def test_petct_returns_1_for_a_failure_and_2_for_a_wrong_command_line(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    for arguments, code in ((["add", "x", "nowhere"], 1), (["add"], 2)):
        command = [sys.executable, "-m", "petct_uad.cli.app", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        assert done.returncode == code


def table(heading: str) -> list[list[str]]:
    """Cells of the table below a heading of docs/rejections.md, without its two head lines."""
    section = DOCS.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]


def test_docs_list_every_code_with_its_meaning() -> None:
    kinds = errors.RejectedInputError.__subclasses__()
    assert table("Codes") == [
        [kind.code, kind.__name__, (kind.__doc__ or "").splitlines()[0]] for kind in kinds
    ]
    assert len({kind.code for kind in kinds}) == len(kinds)


def test_docs_list_every_exit_code() -> None:
    pending, raised = [errors.PetctError], set()
    while pending:
        kind = pending.pop()
        raised.add(kind.exit_code)
        pending += kind.__subclasses__()
    of_every_program = {0, 2, 128 + signal.SIGINT}
    assert {int(code) for code, _ in table("Exit codes")} == raised | of_every_program


def test_tree_at_the_head_of_errors_draws_every_error() -> None:
    drawn = (errors.__doc__ or "").split()
    pending = [errors.PetctError]
    while pending:
        kind = pending.pop()
        assert kind.__name__ in drawn
        pending += kind.__subclasses__()
    for refusal in errors.RejectedInputError.__subclasses__():
        assert f"``{refusal.code}``:" in drawn
