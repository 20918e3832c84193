"""An experiment in a copy of the workspace takes from the store that the machine names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SRC = Path(__file__).parents[3] / "src"
STAGE = """
from dataclasses import dataclass
from pathlib import Path

from petct_uad.core.store.map_stored import map_stored
from petct_uad.core.store.settings import bound_bytes, store_folder
from petct_uad.core.store.study_store import Storable, StudyStore


@dataclass(frozen=True)
class Copy(Storable):
    source: Path
    target: Path

    @property
    def sources(self):
        return (self.source,)

    @property
    def said(self):
        return ""

    @property
    def outputs(self):
        return {"copy": self.target}


@dataclass(frozen=True)
class Copied:
    size: int


def copy(task):
    task.target.parent.mkdir(exist_ok=True)
    return Copied(task.target.write_bytes(task.source.read_bytes()))


tasks = [Copy(path, Path("out", path.name)) for path in sorted(Path("raw").iterdir())]
store = StudyStore(store_folder(), "copy", "code", bound_bytes())
map_stored(copy, tasks, Copied, "studies", workers=1, store=store)
"""
PIPELINE = """
stages:
  copy:
    cmd: python stage.py
    deps: [stage.py, raw]
    params: [seed]
    outs: [out]
"""


def test_an_experiment_in_another_folder_computes_no_study_again(tmp_path: Path) -> None:
    home, store = tmp_path / "home", tmp_path / "scratch"
    (home / "raw").mkdir(parents=True)
    for name in "ab":
        (home / "raw" / name).write_text(f"study {name}")
    (home / "stage.py").write_text(STAGE)
    (home / "dvc.yaml").write_text(PIPELINE)
    (home / "params.yaml").write_text("seed: 0\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    kept |= {"PYTHONPATH": os.pathsep.join([str(SRC), kept.get("PYTHONPATH", "")])}
    kept |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"}

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=home, env=kept | {"PETCT_STORE": str(store)}, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    dvc = (sys.executable, "-m", "dvc")
    run("git", "init", "--quiet")
    run("git", "config", "user.name", "x")
    run("git", "config", "user.email", "x@example.org")
    run(*dvc, "init", "--quiet")
    assert "taken from" not in run(*dvc, "repro")
    run("git", "add", "--all")
    run("git", "commit", "--quiet", "-m", "all")
    said = run(*dvc, "exp", "run", "--temp", "--set-param", "seed=1")
    assert "2 of 2 taken from" in said
    assert (store / "petct-studies/copy").is_dir()
    assert not (home / ".cache").exists()
