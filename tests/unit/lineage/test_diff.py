"""A figure's causes are those of its stage and of every stage before it, and of no other."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from petct_uad.lineage.diff import Difference, OutputChange, compare
from petct_uad.lineage.revision import find_revision

# Stages with what they read and make; `aside` makes nothing that a figure comes from.
STAGES = {
    "make": ([], "data/raw"),
    "shape": (["data/raw"], "data/shaped"),
    "aside": (["data/raw"], "data/aside"),
    "evaluate": (["data/shaped", "src"], "metrics/runs/trivial"),
}
FIGURES = Path("metrics/runs/trivial/suvmax/metrics.json")


def git(*words: str) -> None:
    identity = ("-c", "user.name=x", "-c", "user.email=x")
    subprocess.run(["git", *identity, *words], check=True, capture_output=True)


def record(tag: str, auroc: float, params: Mapping[str, int], hashes: Mapping[str, str]) -> None:
    """Commit a lock in which each stage read its own param; a place has the hash "0" or another."""
    stages = {
        name: {
            "cmd": "x",
            "deps": [{"path": path, "md5": hashes.get(path, "0")} for path in deps],
            "outs": [{"path": made, "md5": hashes.get(made, "0")}],
            "params": {"params.yaml": {name: params.get(name, 0)}},
        }
        for name, (deps, made) in STAGES.items()
    }
    for file, content in (
        ("dvc.lock", {"stages": stages}),
        ("dvc.yaml", {"stages": {name: {"cmd": "x"} for name in STAGES}}),
        ("params.yaml", {name: params.get(name, 0) for name in STAGES}),
    ):
        YAML().dump(content, Path(file))
    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    FIGURES.write_text(json.dumps({"auroc": auroc}))
    git("add", "-A")
    git("commit", "-qm", tag)
    git("tag", tag)


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One commit, tagged `before`."""
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    Path("src").mkdir()
    Path("src/code.py").write_text("1")
    Path("src/README.md").write_text("1")
    record("before", 0.5, {}, {})
    return tmp_path


def difference() -> Difference:
    return compare(find_revision("before"), find_revision("after"))


def causes_of_the_figure() -> list[tuple[str, str]]:
    (figure,) = difference().figures()
    assert figure.name == "suvmax:auroc"
    return [(cause.kind, cause.name) for cause in figure.causes]


def test_a_param_of_the_first_stage_is_a_cause_of_the_last_ones_figure() -> None:
    everything = {made: "1" for _, made in STAGES.values()}
    record("after", 0.6, {"make": 1}, everything)
    assert causes_of_the_figure() == [("param", "make")]


def test_a_param_of_a_stage_on_another_branch_is_no_cause() -> None:
    moved = {"data/aside": "1", "data/shaped": "1", "metrics/runs/trivial": "1"}
    record("after", 0.6, {"aside": 1, "shape": 1}, moved)
    assert causes_of_the_figure() == [("param", "shape")]
    assert [cause.name for cause in difference().causes()] == ["aside", "shape"]


def test_changed_code_is_named_by_its_files_and_documentation_is_none() -> None:
    Path("src/code.py").write_text("2")
    Path("src/README.md").write_text("2")
    record("after", 0.6, {}, {"src": "1", "metrics/runs/trivial": "1"})
    assert causes_of_the_figure() == [("code", "src/code.py")]


def test_files_of_an_output_that_came_went_and_changed_are_counted_apart() -> None:
    old = listed({"gone": "1" * 32, "changed": "1" * 32, "same": "1" * 32})
    new = listed({"new": "1" * 32, "newer": "1" * 32, "changed": "2" * 32, "same": "1" * 32})
    record("before-files", 0.5, {}, {"data/aside": old})
    record("after", 0.5, {"aside": 1}, {"data/aside": new})
    found = compare(find_revision("before-files"), find_revision("after")).outputs()
    assert found == [OutputChange("aside", "data/aside", added=2, removed=1, changed=1)]


def listed(members: Mapping[str, str]) -> str:
    """The name of a folder's list in DVC's cache."""
    rows = [{"relpath": path, "md5": md5} for path, md5 in members.items()]
    content = json.dumps(rows).encode()
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + ".dir"
    stored = Path(".dvc/cache/files/md5") / md5[:2] / md5[2:]
    stored.parent.mkdir(parents=True, exist_ok=True)
    stored.write_bytes(content)
    return md5
