"""A small repository that the real data stages have filled, with one model beside them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from petct_uad.core.provenance.record import Activity, Derivation, Entity, write_lineage
from petct_uad.models.benchmark import model_folder
from petct_uad.schema import load_params
from tests.stages import run_stage

ROOT = Path(__file__).resolve().parents[2]
DATA_STAGES = ("params", "phantom", "ingest", "register", "split", "preprocess", "evaluate_trivial")
PATIENTS = 6
FAMILY, RUN = "patchcore", "patchcore-pet"
PHANTOM = "data/dvc.yaml:phantom"
OTHERS = tuple(name for name in DATA_STAGES if name != "phantom")
DVC_STAGES = (*OTHERS, PHANTOM, f"train@{FAMILY}")


def lay_out(home: Path, dataset: str = "phantom", refine: str = "none") -> None:
    """Code and params of a repository without data."""
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", home)
    params = YAML().load((ROOT / "params.yaml").read_text())
    params["dataset"] = dataset
    params["phantom"] |= {"patients": PATIENTS, "extent_mm": 80.0, "ct_matrix": 64}
    params["workers"] = 1
    params["register"] |= {"refine": refine}
    params["preprocess"] |= {"image_size_px": 64}
    YAML().dump(params, home / "params.yaml")


def write_model() -> None:
    """A row of the benchmark whose weights derive from the training shards."""
    weights = Path("models") / FAMILY / RUN / "seed-0/weights.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(bytes(range(256)))
    training = [Path("data/processed/phantom/training.csv")]
    training += sorted(Path("data/processed/phantom/shards").glob("*"))[:3]
    key = "models.patchcore"
    asked = {key: load_params().model_section(key).model_dump(mode="json")}
    activity = Activity(f"train {RUN}", asked, (Path("stages/train.py"), model_folder(FAMILY)))
    sources = tuple(Entity.of_file(path) for path in training)
    write_lineage(
        Path("models") / FAMILY / RUN / "lineage",
        activity,
        [Derivation(Entity.of_file(weights), sources)],
    )


def track_with_dvc(home: Path) -> None:
    """Put all under DVC and git, as after ``dvc repro`` and ``git commit``."""
    for name in ("dvc.yaml", "data/dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, home / name)
    Path("data/withdrawn.csv").write_text("patient,date\n")
    # What stages that take long would have written.
    Path("metrics/validation.json").write_text("{}\n")
    Path("data/validation.passed").write_text("\n")
    curve = Path("metrics/training") / FAMILY / f"{RUN}.csv"
    curve.parent.mkdir(parents=True)
    curve.write_text("seed,iteration\n0,0\n")
    git = ("git", "-c", "user.name=x", "-c", "user.email=x")
    for command in (
        (*git, "init", "-q"),
        (sys.executable, "-m", "dvc", "init", "-q"),
        (sys.executable, "-m", "dvc", "commit", "-f", "-q", *DVC_STAGES),
        (*git, "add", "-A"),
        (*git, "commit", "-qm", "all"),
    ):
        subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="session")
def tracked_repository(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Under DVC and git; whoever changes a file puts it back."""
    home = tmp_path_factory.mktemp("tracked") / "repository"
    shutil.copytree(filled, home)
    before = Path.cwd()
    os.chdir(home)
    try:
        track_with_dvc(home)
    finally:
        os.chdir(before)
    return home


@pytest.fixture
def at_tracked(tracked_repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tracked_repository)
    return tracked_repository


@pytest.fixture
def without_slices(at_tracked: Path) -> Iterator[str]:
    """What preprocess made is not here, nor in the cache, as in a fresh clone."""
    folder = "data/processed/phantom"
    moved = {Path(folder): Path("slices-away"), Path(".dvc/cache"): Path(".dvc/away")}
    for here, away in moved.items():
        here.rename(away)
    yield folder
    for here, away in moved.items():
        away.rename(here)


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once; tests that change anything take ``repository``."""
    home = tmp_path_factory.mktemp("repository")
    lay_out(home)
    before = Path.cwd()
    os.chdir(home)
    try:
        for name in DATA_STAGES:
            run_stage(name)
        write_model()
    finally:
        os.chdir(before)
    return home


@pytest.fixture
def repository(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to work in."""
    home = tmp_path / "repository"
    shutil.copytree(filled, home)
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def at_filled(filled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """To read only."""
    monkeypatch.chdir(filled)
    return filled
