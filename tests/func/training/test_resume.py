"""A training that was killed goes on as if nothing had happened."""

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
    command = [sys.executable, "-m", "tests.func.training.tiny", processed, out]
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
    assert "goes on after iteration" in capsys.readouterr().err
    assert outputs(tmp_path) == uninterrupted
    assert not (tmp_path / "checkpoints").exists()
