"""A temporary clone of this repository, with a pipeline of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from petct_uad.cli.presets import preset_content

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("dvc.lock", "data/dvc.lock")


@dataclass(frozen=True)
class Clone:
    """A clone in which a person types commands."""

    root: Path

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the clone; its output is shown when it fails."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
        return done

    def dvc(self, *arguments: str, check: bool = True) -> str:
        """Run dvc and return what it printed."""
        return self.run(sys.executable, "-m", "dvc", *arguments, check=check).stdout

    def stages_run(self, output: str) -> set[str]:
        """Names of the stages that a dvc command said it ran, in whichever dvc.yaml they are."""
        lines = [line for line in output.splitlines() if line.startswith("Running stage")]
        return {line.split("'")[1].rpartition(":")[2] for line in lines}

    def lock(self) -> dict[str, Any]:
        """What both dvc.lock record, by stage."""
        locks = [yaml.safe_load((self.root / name).read_text()) for name in LOCKS]
        return {name: entry for lock in locks for name, entry in lock["stages"].items()}

    def outs(self, *names: str) -> dict[str, str]:
        """Hash of every output of the named stages."""
        lock = self.lock()
        return {out["path"]: out["md5"] for name in names for out in lock[name]["outs"]}


def environment() -> dict[str, str]:
    """This environment, with the tests' own Python first and nothing of a surrounding git."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def make_clone(folder: Path) -> Clone:
    """Clone the working tree, with uncommitted changes to tracked files, in the smoke preset."""
    git = shutil.which("git")
    assert git, "git is needed"
    changes = subprocess.run(
        [git, "stash", "create"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    clone = Clone(folder)
    subprocess.run([git, "clone", "--quiet", str(ROOT), str(folder)], check=True)
    clone.run(git, "config", "user.name", "Test")
    clone.run(git, "config", "user.email", "test@example.org")
    if changes:
        clone.run(git, "fetch", "--quiet", str(ROOT), changes)
        clone.run(git, "checkout", "--quiet", "--detach", changes)
    (folder / "params.yaml").write_text(preset_content("smoke", folder / "params"))
    return clone


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the smoke preset was rebuilt and committed, to copy and never to change.

    All processes of pytest-xdist share it.
    """
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "smoke-built"
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            clone = build_smoke(tmp_path_factory.mktemp("smoke") / "building")
            clone.root.rename(shared)
    return Clone(shared)


@pytest.fixture(scope="session")
def smoke(built: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A copy of it to work in."""
    return copy_of(built, tmp_path_factory.mktemp("smoke") / "repository")


def build_smoke(folder: Path) -> Clone:
    clone = make_clone(folder)
    clone.dvc("repro")
    clone.run("git", "add", "--all")
    clone.run("git", "commit", "--quiet", "--message", "smoke")
    return clone


def copy_of(clone: Clone, folder: Path) -> Clone:
    """The same, down to DVC's cache, in another folder."""
    return Clone(Path(shutil.copytree(clone.root, folder, symlinks=True)))
