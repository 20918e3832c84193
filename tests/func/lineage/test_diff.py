"""``petct lineage diff`` says which causes differ between two revisions, and what they moved."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from petct_uad.cli.app import app
from tests.stages import run_stage

METRICS = Path("metrics/runs/trivial/suvmax/metrics.json")


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def record(stage: str) -> None:
    """As after ``dvc repro`` and ``git commit``."""
    run(sys.executable, "-m", "dvc", "commit", "-f", "-q", stage)
    run("git", "-c", "user.name=x", "-c", "user.email=x", "commit", "-qam", stage)


def diff(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["lineage", "diff", *words, "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def history(tracked_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three commits: as it was, with another threshold, and with a figure edited by hand."""
    home = tmp_path_factory.mktemp("history") / "repository"
    shutil.copytree(tracked_repository, home)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        params = Path("params.yaml")
        text = params.read_text()
        assert "false_positive_rate: 0.05" in text
        params.write_text(text.replace("false_positive_rate: 0.05", "false_positive_rate: 0.3"))
        run_stage("evaluate_trivial")
        record("evaluate_trivial")
        content = json.loads(METRICS.read_text())
        METRICS.write_text(json.dumps(content | {"auroc": 0.987}))
        record("evaluate_trivial")
        run("git", "update-ref", "refs/exps/ab/cdef/loud-exp", "HEAD~1")
    return home


@pytest.fixture(autouse=True)
def at_history(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(history)


def test_same_revision_differs_in_nothing() -> None:
    found = diff("HEAD", "workspace")
    assert not any(found[name] for name in ("causes", "outputs", "unexplained", "figures"))


def test_changed_param_is_the_cause_of_what_moved() -> None:
    found = diff("HEAD~2", "HEAD~1")
    causes = [(item["kind"], item["name"], item["before"], item["after"])
              for item in found["causes"]]  # fmt: skip
    assert causes == [("param", "evaluate.false_positive_rate", "0.05", "0.3")]
    assert {item["stage"] for item in found["outputs"]} == {"evaluate_trivial"}
    assert found["unexplained"] == []
    assert found["figures"]
    assert all(item["causes"] == found["causes"] for item in found["figures"])


def test_figure_that_nothing_explains_is_named() -> None:
    found = diff("HEAD~1", "HEAD")
    assert found["causes"] == []
    assert found["unexplained"] == ["evaluate_trivial"]
    assert [item["name"] for item in found["figures"]] == ["suvmax:auroc"]
    shown = CliRunner().invoke(app, ["lineage", "diff", "HEAD~1", "HEAD"]).stdout
    assert "nothing that was recorded" in shown


def test_experiment_is_known_by_its_name() -> None:
    assert diff("loud-exp", "HEAD~1")["causes"] == []
    assert diff("HEAD~2", "loud-exp") == diff("HEAD~2", "HEAD~1") | {
        "after": {"name": "loud-exp", "commit": diff("loud-exp")["before"]["commit"]}
    }


@pytest.mark.parametrize("name", ["nothing", "--help-me", "-n", "HEAD~99", ""])
def test_unknown_revision_is_refused(name: str) -> None:
    done = CliRunner().invoke(app, ["lineage", "diff", "--", name])
    assert done.exit_code == 1
    assert "Traceback" not in done.output
