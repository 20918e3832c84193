"""What the test slices are called has no part in a trained model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from petct_uad.core.files import read_table
from petct_uad.distil.run import distil_teacher
from petct_uad.slices.tables import ImageRow, shard_path
from tests.func.training.test_distil import PARAMS as DISTIL
from tests.func.training.tiny import TEACHER, TRAIN, label_slices, train, write_store

# Looks often and stops early, so that the validation loss chooses when a training ends.
SETTINGS: dict[str, Any] = {"validate_every": 1, "patience": 1}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose second test slice is abnormal."""
    processed = write_store(tmp_path_factory.mktemp("store") / "processed")
    label_slices(processed, "test", (0, 1))
    return processed


@pytest.fixture(scope="module", params=["cmad", "patchcore"])
def model(request: pytest.FixtureRequest) -> str:
    """One that learns by gradient descent, and one that is fitted."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def trained(
    labelled: Path, model: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """Every file that a training with the true labels writes."""
    out = tmp_path_factory.mktemp("true")
    train(labelled, out, model, **SETTINGS)
    return outputs(out)


def outputs(out: Path) -> dict[str, bytes]:
    files = [file for file in sorted(out.rglob("*")) if file.is_file()]
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files}


def relabelled(labelled: Path, folder: Path, split: str, labels: tuple[int, ...]) -> Path:
    processed = folder / "processed"
    shutil.copytree(labelled, processed)
    label_slices(processed, split, labels)
    assert (processed / "index.csv").read_bytes() != (labelled / "index.csv").read_bytes()
    return processed


def without_test_slices(labelled: Path, folder: Path) -> Path:
    """The shard is gone, and the table that names it."""
    processed = folder / "processed"
    shutil.copytree(labelled, processed)
    index = processed / "index.csv"
    (study,) = {x.study_id for x in read_table(index, ImageRow) if x.split == "test"}
    shard_path(processed, study).unlink()
    index.unlink()
    return processed


@pytest.mark.parametrize("labels", [(1, 0), (1, 1), (0, 0)])
def test_shuffled_test_labels_change_no_byte_of_what_is_trained(
    labelled: Path,
    model: str,
    trained: dict[str, bytes],
    tmp_path: Path,
    labels: tuple[int, ...],
) -> None:
    """Weights, config and the curve that chose when to stop.

    Nor what ``dvc repro`` asks before it trains: ``training.csv`` is what a training depends on.
    """
    other = relabelled(labelled, tmp_path, "test", labels)
    assert (other / "training.csv").read_bytes() == (labelled / "training.csv").read_bytes()
    train(other, tmp_path / "out", model, **SETTINGS)
    assert outputs(tmp_path / "out") == trained


def test_trains_the_same_where_the_test_slices_are_gone(
    labelled: Path, model: str, trained: dict[str, bytes], tmp_path: Path
) -> None:
    train(without_test_slices(labelled, tmp_path), tmp_path / "out", model, **SETTINGS)
    assert outputs(tmp_path / "out") == trained


@pytest.mark.parametrize("network", ["cnn", "pdn"])
def test_hdhkds_teacher_is_made_the_same_with_other_test_labels_and_without_test_slices(
    labelled: Path, tmp_path: Path, network: str
) -> None:
    def made(processed: Path, name: str) -> dict[str, bytes]:
        distil_teacher(
            params=DISTIL.model_copy(update={"network": network}),
            teacher=TEACHER,
            train=TRAIN,
            processed=processed,
            folder=tmp_path / name / "distil",
            curve_file=tmp_path / name / "distil.csv",
        )
        return outputs(tmp_path / name)

    true = made(labelled, "true")
    shuffled = relabelled(labelled, tmp_path / "shuffled", "test", (1, 0))
    assert made(shuffled, "false") == true
    assert made(without_test_slices(labelled, tmp_path / "gone"), "none") == true


@pytest.mark.parametrize(("split", "labels"), [("train", (1, 0, 0, 0, 0, 0)), ("val", (1, 0, 0))])
def test_labels_of_the_other_splits_do_change_it(
    *,
    labelled: Path,
    model: str,
    trained: dict[str, bytes],
    tmp_path: Path,
    split: str,
    labels: tuple[int, ...],
) -> None:
    """So the promise above could be broken: an abnormal slice is left out of training."""
    other = relabelled(labelled, tmp_path, split, labels)
    assert (other / "training.csv").read_bytes() != (labelled / "training.csv").read_bytes()
    train(other, tmp_path / "out", model, **SETTINGS)
    assert outputs(tmp_path / "out") != trained
