"""``petct doctor`` finds what would stop a run and says what to do, to people and programs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from dvc.repo import Repo
from typer.testing import CliRunner

from petct_uad.cli.app import app
from petct_uad.cli.doctor import Finding, examine, exit_code
from petct_uad.ingest.pseudonyms import create_key
from petct_uad.ops.selective_scan import scan

# DVC's own.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")

ROOT = Path(__file__).resolve().parents[3]
KEY = "ab" * 32


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder under DVC with what the doctor reads, a key beside it and `python` on the PATH."""
    folder = tmp_path / "project"
    folder.mkdir()
    Repo.init(str(folder), no_scm=True)
    for name in ("pyproject.toml", "params.yaml", "dvc.lock"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "requirements.lock").write_text(
        f"torch=={version('torch')} \\\n    --hash=sha256:0\n"
    )
    key = tmp_path / "pseudonym.key"
    key.write_text(KEY)
    key.chmod(0o600)
    monkeypatch.setenv("PETCT_KEY_FILE", str(key))
    monkeypatch.setenv(
        "PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("PETCT_STORE", raising=False)
    monkeypatch.chdir(folder)
    return folder


def of(subject: str, folder: Path) -> list[Finding]:
    return [finding for finding in examine(folder) if finding.subject == subject]


def change(folder: Path, old: str, new: str) -> None:
    text = (folder / "params.yaml").read_text(encoding="utf-8")
    assert old in text
    (folder / "params.yaml").write_text(text.replace(old, new), encoding="utf-8")


def test_a_sound_project_has_no_problem_and_every_note_says_what_to_do(project: Path) -> None:
    found = examine(project)
    assert [x for x in found if x.state == "problem"] == []
    assert [x for x in found if x.state == "note" and not x.advice] == []
    assert exit_code(found) == 0
    subjects = {x.subject for x in found}
    looked = {"Python", "packages", "GPU", "selective scan", "threads", "memory", "disk"}
    assert subjects >= looked | {
        "DVC runs",
        "DVC cache",
        "DVC remote",
        "pseudonym key",
        "study store",
    }


def test_a_missing_author_of_commits_which_experiments_need_is_noted(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "gitconfig"
    config.write_text("[user]\n\tname = A\n", encoding="utf-8")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (noted,) = of("git author", project)
    assert noted.state == "note"
    assert noted.advice == "`git config --global user.email VALUE`."
    config.write_text("[user]\n\tname = A\n\temail = a@b\n", encoding="utf-8")
    assert not of("git author", project)


def test_packages_are_held_to_the_lock_where_its_markers_apply(project: Path) -> None:
    pins = (
        "torch==0.0.1 \\",
        "no-such-package==1.0 \\",
        "nor-this==1 ; sys_platform == 'other' \\",
    )
    (project / "requirements.lock").write_text("\n".join(pins))
    other, missing = of("packages", project)
    assert (other.state, missing.state) == ("problem", "problem")
    assert other.found == f"other versions: torch {version('torch')} (==0.0.1)"
    assert missing.found == "not installed: no-such-package==1.0"
    assert "make setup" in missing.advice


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_dvc_lock_that_dvc_was_killed_over_is_a_problem_with_its_remedy(
    project: Path, share: float
) -> None:
    """DVC writes it in place: it may be empty, or end within a key."""
    lock = project / "dvc.lock"
    whole = lock.read_text(encoding="utf-8")
    end = whole.index("    md5:", int(share * len(whole))) + 6 if share else 0
    lock.write_text(whole[:end], encoding="utf-8")
    (runs,) = of("DVC runs", project)
    assert runs.state == "problem"
    assert "git checkout dvc.lock" in runs.advice


def test_params_that_are_wrong_are_a_problem_and_the_rest_is_looked_at(project: Path) -> None:
    change(project, "guard_mm: 5.0", "gard_mm: 5.0")
    (params,) = of("params", project)
    assert params.state == "problem"
    assert "split.gard_mm" in params.found
    assert of("study store", project)[0].state == "ok"


def test_it_names_the_scan_that_a_gpu_would_run(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton's where mamba-ssm is not installed, though nvcc is not either."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    scan._missing.cache_clear()
    (found,) = of("selective scan", project)
    assert (found.state, found.found) == ("ok", "triton on cuda; model.scan: auto")
    monkeypatch.setitem(sys.modules, "triton", None)
    scan._missing.cache_clear()
    (found,) = of("selective scan", project)
    assert found.state == "note"
    assert "mamba-ssm is not installed" in found.found
    assert "triton is not installed" in found.found
    scan._missing.cache_clear()


def test_a_gpu_that_is_asked_for_and_not_there_is_a_problem(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert of("GPU", project)[0].state == "note"
    change(project, "device: auto", "device: cuda")
    (gpu,) = of("GPU", project)
    assert (gpu.state, gpu.advice) == ("problem", "Set train.device to auto or cpu in params.yaml.")


def test_a_key_is_needed_only_where_params_ask_for_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert of("pseudonym key", project)[0].state == "ok"
    assert KEY not in of("pseudonym key", project)[0].found
    monkeypatch.setenv("PETCT_KEY_FILE", str(project.parent / "none.key"))
    assert of("pseudonym key", project)[0].state == "note"
    change(project, "pseudonyms: auto", "pseudonyms: secret")
    (key,) = of("pseudonym key", project)
    assert key.state == "problem"
    assert "petct key create" in key.found


def test_a_key_below_a_folder_that_is_no_repository_is_not_accused_of_lying_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a home folder, which holds ~/.config/petct."""
    create_key(tmp_path / "keys/pseudonym.key")
    home = tmp_path / "keys"
    monkeypatch.setenv("PETCT_KEY_FILE", str(home / "pseudonym.key"))
    monkeypatch.chdir(home)
    (key,) = of("pseudonym key", Path())
    assert (key.state, key.advice) == ("note", "Run it from the repository's root.")
    subprocess.run(["git", "init", "-q"], check=True)
    (key,) = of("pseudonym key", Path())
    assert (key.state, "lies inside a repository" in key.found) == ("problem", True)


@pytest.mark.parametrize(("told", "state"), [("100000", "note"), ("many", "problem"), ("1", "ok")])
def test_threads_beyond_the_cores_are_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, told: str, state: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert of("threads", project)[0].state == state


def test_a_running_command_of_dvc_and_a_damaged_lock_differ(project: Path) -> None:
    held = project / ".dvc/tmp/rwlock"
    held.parent.mkdir(exist_ok=True)
    held.write_text(json.dumps({"write": {"/a": {"pid": os.getpid(), "cmd": "dvc repro"}}}))
    (busy,) = of("DVC lock", project)
    assert busy.state == "note"
    assert str(os.getpid()) in busy.found
    held.write_text(json.dumps({"write": {"/a": {"pid": 2**22 + 1, "cmd": "dvc repro"}}}))
    assert of("DVC lock", project) == []  # DVC itself removes what a killed command held
    held.write_text('{"write": ')
    assert of("DVC lock", project)[0].state == "problem"


def test_a_remote_is_named_without_its_password(project: Path) -> None:
    config = project / ".dvc/config"
    config.write_text(
        "[core]\n    no_scm = true\n    remote = far\n['remote \"far\"']\n    url = https://me:word@host/x\n"
    )
    (remote,) = of("DVC remote", project)
    assert remote.state == "ok"
    assert "word" not in remote.found


def test_python_that_dvc_would_run_must_be_this_one(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(project))
    (path,) = of("PATH", project)
    assert path.state == "problem"
    assert "source .venv/bin/activate" in path.advice


def test_a_folder_that_is_no_project_is_a_problem_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(app, ["doctor"])
    assert said.exit_code == 1
    assert "Run it from the repository's root." in said.stdout
    assert "A run would stop" in said.stdout


def test_what_a_program_reads_is_json_and_the_exit_code_says_whether_a_run_would_stop(
    project: Path,
) -> None:
    said = CliRunner().invoke(app, ["doctor", "--json"])
    assert said.exit_code == 0
    listed = json.loads(said.stdout)
    assert all(set(one) == {"subject", "state", "found", "advice"} for one in listed)
    change(project, "guard_mm: 5.0", "guard_mm: -1")
    assert CliRunner().invoke(app, ["doctor", "--json"]).exit_code == 1


def test_without_a_terminal_lines_are_plain(project: Path) -> None:
    said = CliRunner().invoke(app, ["doctor"])
    assert "\x1b" not in said.stdout
    assert said.stdout.splitlines()[-1].endswith("`dvc repro` can run here.")
