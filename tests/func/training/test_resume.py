"""A training that was killed resumes as if nothing had happened."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from petct_uad.models.benchmark import RunParams
from petct_uad.training.run import TrainingTask, train_run
from tests.func.training import tiny

SETTINGS: dict[str, Any] = {
    "schedule": {"iterations": 61},
    "seeds": (0, 1),
    "modalities": ("pet", "ct"),
    "validate_every": 4,
    "checkpoint_every": 6,
}


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def uninterrupted(processed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole")
    tiny.train(processed, out, **SETTINGS)
    return outputs(out)


def outputs(out: Path) -> dict[str, bytes]:
    files = [file for file in sorted(out.rglob("*")) if file.is_file()]
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files}


def train_until_killed(processed: Path, out: Path, checkpoint: Path) -> None:
    """Start a training of its own process and kill it when its first checkpoint appears."""
    command = [sys.executable, "-m", "tests.func.training.tiny", str(processed), str(out)]
    environment = os.environ | {"PYTHONPATH": "src", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*command, json.dumps(SETTINGS)], env=environment) as process:
        while not checkpoint.is_file():
            assert process.poll() is None, "ended before its first checkpoint"
            sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("killed_in", ["cmad-pet/seed-0", "cmad-ct/seed-1"])
def test_killed_training_ends_with_the_bytes_of_an_uninterrupted_one(
    processed: Path,
    tmp_path: Path,
    uninterrupted: dict[str, bytes],
    killed_in: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = tmp_path / f"checkpoints/{killed_in}/checkpoint.safetensors"
    train_until_killed(processed, tmp_path, checkpoint)
    assert not (tmp_path / "models" / killed_in).exists()
    # As DVC does with all outputs of a stage before it starts the stage again.
    shutil.rmtree(tmp_path / "models", ignore_errors=True)
    shutil.rmtree(tmp_path / "curves", ignore_errors=True)
    tiny.train(processed, tmp_path, **SETTINGS)
    assert "resumes after iteration" in capsys.readouterr().err
    assert outputs(tmp_path) == uninterrupted
    assert not (tmp_path / "checkpoints").exists()


def train_one(processed: Path, out: Path, teacher: Path) -> bytes:
    """Train one row that also depends on a folder, and keep its checkpoint: the weights."""
    task = TrainingTask(
        run=RunParams(model="cmad", modality="pet", params="model", after=teacher.as_posix()),
        params=tiny.CMAD,
        teacher=tiny.TEACHER,
        train=tiny.TRAIN.model_copy(update={"checkpoint_every": 2}),
        processed=processed,
        model_folder=out / "model",
        curve_file=out / "curve.csv",
        checkpoint_folder=out / "checkpoints",
    )
    train_run(task)
    return (out / "model/seed-0/weights.safetensors").read_bytes()


@pytest.mark.parametrize("changed", ["nothing", "slices", "teacher"])
def test_a_checkpoint_of_other_data_is_never_resumed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changed: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    processed, teacher = tiny.write_store(Path("processed")), Path("models/distil")
    teacher.mkdir(parents=True)
    (teacher / "statistics.json").write_text("1")
    before = train_one(processed, tmp_path / "out", teacher)
    if changed == "slices":
        tiny.label_slices(processed, "train", [1, 1, 0, 0, 0, 0])
    if changed == "teacher":
        (teacher / "statistics.json").write_text("2")
    capsys.readouterr()
    after = train_one(processed, tmp_path / "out", teacher)
    said = "".join(capsys.readouterr().err.split())  # the terminal breaks lines where it likes
    resumed = changed == "nothing"
    assert ("resumesafteriteration6" in said) is resumed
    assert ("ofotherparams,dataorcode;trainingstartsanew" in said) is not resumed
    # This stage does not read what lies in the folder, so that the same slices give the same bytes.
    assert (after == before) is (changed != "slices")
    assert after == train_one(processed, tmp_path / "fresh", teacher)
