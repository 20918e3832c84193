"""Files at the top that tools read say the same as each other."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read_yaml(name: str) -> Any:
    return YAML(typ="safe", pure=True).load((ROOT / name).read_text(encoding="utf-8"))


def test_citation_is_of_this_project_and_version() -> None:
    citation = read_yaml("CITATION.cff")
    title = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[0]
    assert citation["title"] == title.removeprefix("# ")
    assert citation["title"] == PROJECT["name"]
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["abstract"] == PROJECT["description"]


def test_citation_has_what_the_format_demands_and_names_no_person() -> None:
    citation = read_yaml("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["message"]
    # A person has given and family names; an entity has a name.
    assert [set(author) for author in citation["authors"]] == [{"name"}]


def test_commit_hooks_are_what_make_lint_runs_and_download_nothing() -> None:
    (source,) = read_yaml(".pre-commit-config.yaml")["repos"]
    assert source["repo"] == "local"
    assert {hook["language"] for hook in source["hooks"]} == {"system"}
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nlint:")[1].split("\n\n")[0]
    commands = [
        line.replace("$(BIN)", ".venv/bin") for line in re.findall(r"^\t(\$.*)$", lint, re.M)
    ]
    assert [hook["entry"] for hook in source["hooks"]] == commands


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on the PATH")
@pytest.mark.parametrize(("tests", "expected"), [("exit 0", 0), ("exit 1", 2)])
def test_make_coverage_shows_what_ran_and_fails_where_a_test_does(
    tmp_path: Path, tests: str, expected: int
) -> None:
    """Of a Makefile whose rule fails, make itself returns 2."""
    programs = {"python": tests, "coverage": 'echo "covered: $*"'}
    (tmp_path / "bin").mkdir()
    for name, line in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / ".ready").touch()
    command = ["make", "--no-print-directory", "coverage", f"VENV={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "covered: report --skip-covered" in done.stdout
    assert done.returncode == expected
