"""The stages score and evaluate as DVC runs them, in a copy of the repository's code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from petct_uad.core.files import read_table, write_table
from petct_uad.core.params.base import VALIDATED
from petct_uad.core.provenance.sources import library_modules
from petct_uad.ingest.tables import StudyRow
from petct_uad.slices.tables import ImageRow, SliceRow
from tests.func.training import tiny
from tests.samples import slice_row, study_row

ROOT = Path(__file__).resolve().parents[3]
NO_TORCH = """
import os, runpy, sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm", "anomalib", "numba"):
            raise ImportError(f"{name} must not be needed here")
sys.meta_path.insert(0, Refused())
sys.argv = sys.argv[1:]
runpy.run_path(os.path.abspath(sys.argv[0]), run_name="__main__")
"""
PARAMS = {
    "dataset": "tiny",
    "workers": 1,
    "split": {"protocol": "patient", "test_patients": "all"},
    "train": {"device": "cpu"},
    "score": {"fusion": "sum", "z_sigma_mm": 0.0},
    "evaluate": {
        "false_positive_rate": 0.1, "bootstrap_samples": 20, "confidence": 0.9, "seed": 0,
    },
    "benchmark": {
        "patchcore": {
            "model": "patchcore",
            "modalities": ["pet"],
            "params": "models.patchcore",
            "teacher": "teacher",
            "after": VALIDATED,
        }
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Code, params, slices and a trained PatchCore."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    processed = tiny.write_store(folder / "data/processed/tiny")
    tiny.label_slices(processed, "test", [0, 1])
    rows = [slice_row(row) for row in read_table(processed / "index.csv", ImageRow)]
    write_table(folder / "data/interim/tiny/split/slices.csv", SliceRow, rows)
    studies = [study_row(study_id=x) for x in sorted({row.study_id for row in rows})]
    write_table(folder / "data/interim/tiny/ingest/studies.csv", StudyRow, studies)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tiny.train(Path("data/processed/tiny"), Path("trained"), "patchcore")
        shutil.copytree("trained/models", "models/patchcore")
    return folder


@pytest.fixture(scope="module")
def run(repository: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command],
            cwd=repository,
            env=os.environ | {"PYTHONPATH": str(repository / "src")},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def scored(repository: Path, run: Callable[..., Any]) -> Path:
    done = run("stages/score.py", "patchcore")
    assert done.returncode == 0, done.stderr
    return repository / "data/scores/patchcore"


def activity(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "lineage/activity.json").read_text())
    return content


def test_score_records_the_code_of_its_model_and_the_params_that_it_read(scored: Path) -> None:
    record = activity(scored.parents[1] / "scores-lineage" / scored.name)
    assert record["stage"] == "score patchcore"
    assert set(record["params"]) == {"dataset", "benchmark.patchcore", "score", "train.device"}
    models = {x.split("/")[3] for x in record["sources"] if x.startswith("src/petct_uad/models/")}
    assert "patchcore" in models
    assert not models & {"cmad", "hdhkd", "qfae"}
    assert "torch" in record["packages"]


def test_evaluate_runs_without_torch_and_reads_no_params_of_models(
    repository: Path, scored: Path, run: Callable[..., Any]
) -> None:
    done = run("-c", NO_TORCH, "stages/evaluate.py", "patchcore")
    assert done.returncode == 0, done.stderr
    folder = repository / "metrics/runs/patchcore/patchcore-pet"
    content = json.loads((folder / "metrics.json").read_text())
    assert {"auroc", "froc", "false_positive_ml"} <= content.keys()
    assert content["n_test_lesions"] == 1
    record = activity(folder)
    assert record["stage"] == "evaluate patchcore-pet"
    assert set(record["params"]) == {
        "dataset",
        "evaluate",
        "split.protocol",
        "split.test_patients",
    }
    assert not [x for x in record["sources"] if "/models/" in x or "/training/" in x]
    assert "torch" not in record["packages"]


def test_trivial_baselines_run_without_torch(repository: Path, run: Callable[..., Any]) -> None:
    done = run("-c", NO_TORCH, "stages/evaluate_trivial.py")
    assert done.returncode == 0, done.stderr
    assert activity(repository / "metrics/runs/trivial/suvmax")["stage"] == "evaluate_trivial"


def test_torch_is_refused_where_it_must_not_be_needed(run: Callable[..., Any]) -> None:
    done = run("-c", NO_TORCH, "stages/score.py", "patchcore")
    assert "torch must not be needed here" in done.stderr


@pytest.mark.parametrize("stage", ["evaluate", "evaluate_trivial", "compare"])
def test_stages_after_score_import_nothing_of_models(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    found = [x.as_posix() for x in library_modules(Path(f"stages/{stage}.py"))]
    assert any("/evaluation/" in x for x in found)
    assert not [x for x in found if "/models/" in x or "/training/" in x or "/teachers/" in x]


def test_slices_that_are_scored_are_those_of_validation_normals_and_test(
    repository: Path, scored: Path
) -> None:
    index = read_table(repository / "data/processed/tiny/index.csv", ImageRow)
    studies = {x.study_id for x in index if x.split == "test" or (x.split, x.label) == ("val", 0)}
    files = (scored / "patchcore-pet/seed-0").glob("*.safetensors")
    assert {path.stem for path in files} == studies
