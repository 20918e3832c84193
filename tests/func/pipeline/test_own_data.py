"""Data of one's own wait for no phantom, and the phantom is made where it is asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

from tests.e2e.conftest import Clone

# DVC asks pygtrie in a way that it will refuse one day.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")

ROOT = Path(__file__).resolve().parents[3]
CODE = ("src", "stages", "pyproject.toml", "params.yaml", "dvc.yaml", ".dvcignore", "data/dvc.yaml")
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
ROWS = yaml.safe_load((ROOT / "params.yaml").read_text())["benchmark"]
TARGETS = ["dvc.yaml", *(f"{name}@{row}" if "foreach" in stage else name
                         for name, stage in PIPELINE.items()
                         for row in (ROWS if "foreach" in stage else [""]))]  # fmt: skip
PHANTOM = "data/dvc.yaml:phantom"
# It never sees a data set.
WAITS_FOR_NO_DATA = {"params"}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Clone]:
    """A fresh clone in which params.yaml names a data set, with data/raw/mine under DVC."""

    def make(dataset: str) -> Clone:
        root = tmp_path_factory.mktemp(dataset) / "repository"
        (root / "data/raw/mine").mkdir(parents=True)
        for name in CODE:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, root / name)
        (root / "data/raw/mine/notes.txt").write_text("no DICOM\n")
        (root / "data/withdrawn.csv").write_text("patient,date\n")
        params = (root / "params.yaml").read_text()
        (root / "params.yaml").write_text(params.replace("dataset: phantom", f"dataset: {dataset}"))
        clone = Clone(root)
        clone.run("git", "init", "--quiet")
        clone.run("git", "config", "user.name", "Test")
        clone.run("git", "config", "user.email", "test@example.org")
        clone.dvc("init", "--quiet")
        clone.dvc("add", "--quiet", "data/raw/mine")
        clone.run("git", "add", "--all")
        clone.run("git", "commit", "--quiet", "--message", "mine")
        return clone

    return make


@pytest.fixture(scope="module")
def phantom(fresh: Callable[[str], Clone]) -> Clone:
    return fresh("phantom")


def plans(clone: Clone) -> dict[str, set[str]]:
    """The stages that ``dvc repro TARGET`` looks at, by DVC's own plan, for each target."""
    with chdir(clone.root), Repo() as repo:
        graph = get_active_graph(repo.index.graph)
        steps = {name: plan_repro(graph, collect_stages(repo, [name])) for name in TARGETS}
        return {name: {stage.addressing for stage in found} for name, found in steps.items()}


def test_no_target_makes_the_phantom_for_own_data(fresh: Callable[[str], Clone]) -> None:
    found = plans(fresh("mine"))
    assert [target for target, plan in found.items() if PHANTOM in plan] == []
    reading = {target for target, plan in found.items() if "data/raw/mine.dvc" in plan}
    assert reading == set(TARGETS) - WAITS_FOR_NO_DATA


def test_every_target_that_reads_data_makes_the_phantom_where_it_is_named(phantom: Clone) -> None:
    found = plans(phantom)
    making = {target for target, plan in found.items() if PHANTOM in plan}
    assert making == set(TARGETS) - WAITS_FOR_NO_DATA


def test_experiment_on_own_data_reads_them_at_once(phantom: Clone) -> None:
    """They hold no DICOM here, so it ends there."""
    said = phantom.dvc("exp", "run", "-S", "dataset=mine", check=False)
    phantom.run("git", "checkout", "--quiet", "params.yaml")
    assert phantom.stages_run(said) == {"params", "ingest"}
    assert "data/raw/mine" in said


def test_livers_of_the_phantom_are_still_held_to_their_suv() -> None:
    """Validate reads where they are in the data set itself, whichever that is."""
    assert "data/raw/${dataset}" in PIPELINE["validate"]["deps"]
    assert "data/truth" not in (ROOT / "dvc.yaml").read_text()
