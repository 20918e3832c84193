"""Several processes train one model as one process would."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from petct_uad.core.files import read_table
from petct_uad.training.loop.tables import TrainingRow
from tests.func.training import tiny

# Batches of 3 and 3 validation slices: shares of unequal size.
SETTINGS: dict[str, Any] = {
    "schedule": {"iterations": 12, "batch_size": 3},
    "seeds": (0,),
    "modalities": ("petct",),
    "validate_every": 1,
    "checkpoint_every": 5,
}


def torchrun(
    processed: Path, out: Path, settings: dict[str, Any]
) -> subprocess.CompletedProcess[str]:
    """Train in two CPU processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "tests.func.training.tiny"]
    environment = os.environ | {"PYTHONPATH": "src", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, processed, out, json.dumps(settings)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_store(tmp_path_factory.mktemp("store"))


def test_two_processes_give_the_loss_curve_of_one_within_1e_4(
    processed: Path, tmp_path: Path
) -> None:
    result = torchrun(processed, tmp_path / "two", SETTINGS)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("cmad-petct, seed 0") == 1, "only the first process prints"
    tiny.train(processed, tmp_path / "one", **SETTINGS)
    two, one = (
        read_table(tmp_path / name / "curves/cmad-petct.csv", TrainingRow)
        for name in ("two", "one")
    )
    assert len(one) == len(two) == 12
    for ours, theirs in zip(two, one, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, abs=1e-4)
        assert ours.val_loss == pytest.approx(theirs.val_loss, abs=1e-4)
    # Not because nothing happened.
    assert one[0].val_loss - one[-1].val_loss > 0.01


def test_more_processes_than_slices_in_a_batch_are_refused(processed: Path, tmp_path: Path) -> None:
    settings = SETTINGS | {"schedule": {"iterations": 2, "batch_size": 1}}
    result = torchrun(processed, tmp_path, settings)
    assert result.returncode != 0
    assert "each of the 2 processes" in " ".join(result.stderr.split())
