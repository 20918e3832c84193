import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from petct_uad.core.errors import DatasetError, TeacherError, TrainingError
from petct_uad.core.files import read_table
from petct_uad.models.build import load_model
from petct_uad.models.cmad.params import CmadParams
from petct_uad.models.common.batch import Batch
from petct_uad.ops.selective_scan.scan import resolve_backend
from petct_uad.slices.store import Shard, SliceStore, write_shard
from petct_uad.slices.tables import shard_path
from petct_uad.training.loop.tables import TrainingRow
from petct_uad.training.run import Learnt, learn
from tests.func.training.tiny import SIDE, train, write_store

ROWS = {"cmad": "cmad-petct", "patchcore": "patchcore-pet"}  # that tiny trains by default


@pytest.fixture
def processed(tmp_path: Path) -> Path:
    return write_store(tmp_path / "processed")


def read(out: Path) -> dict[str, bytes]:
    files = [file for file in sorted(out.rglob("*")) if file.is_file()]
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files}


@pytest.mark.parametrize("model", ["cmad", "patchcore"])
def test_same_inputs_give_the_same_bytes(processed: Path, tmp_path: Path, model: str) -> None:
    for name in ("a", "b"):
        train(processed, tmp_path / name, model)
    assert read(tmp_path / "a") == read(tmp_path / "b")
    row = ROWS[model]
    assert set(read(tmp_path / "a")) == {
        f"models/{row}/seed-0/config.json",
        f"models/{row}/seed-0/weights.safetensors",
        f"curves/{row}.csv",
    }


def test_a_configuration_says_how_many_steps_its_epochs_were(
    processed: Path, tmp_path: Path
) -> None:
    # 3 passes over 6 slices in batches of 4.
    train(processed, tmp_path, schedule={"iterations": 0, "epochs": 3})
    _, config = load_model(tmp_path / "models/cmad-petct/seed-0")
    assert config.iterations == 5
    assert isinstance(config.params, CmadParams)
    assert (config.params.schedule.iterations, config.params.schedule.epochs) == (0, 3)


@pytest.mark.parametrize(("deterministic", "tf32"), [(True, False), (False, True)])
def test_a_model_learns_in_the_arithmetic_that_params_name(
    processed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    deterministic: bool,
    tf32: bool,
) -> None:
    seen = []

    def watched(*args: Any) -> Learnt:
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        algorithms = torch.are_deterministic_algorithms_enabled()
        seen.append((algorithms, matmul.allow_tf32, cudnn.allow_tf32))
        return learn(*args)

    monkeypatch.setattr("petct_uad.training.run.learn", watched)
    train(processed, tmp_path, deterministic=deterministic, tf32=tf32)
    assert seen == [(deterministic, tf32, tf32)]


def test_tf32_moves_no_byte_on_a_cpu(processed: Path, tmp_path: Path) -> None:
    for name, tf32 in (("without", False), ("with", True)):
        train(processed, tmp_path / name, tf32=tf32, gfr=True)
    assert read(tmp_path / "without") == read(tmp_path / "with")


def test_another_seed_gives_other_weights(processed: Path, tmp_path: Path) -> None:
    train(processed, tmp_path, seeds=(0, 1))
    weights = [tmp_path / f"models/cmad-petct/seed-{seed}/weights.safetensors" for seed in (0, 1)]
    assert weights[0].read_bytes() != weights[1].read_bytes()


@pytest.mark.parametrize("model", ["cmad", "patchcore"])
def test_a_seed_gives_the_same_model_whatever_was_trained_before_it(
    processed: Path, tmp_path: Path, model: str
) -> None:
    done = train(processed, tmp_path / "both", model, seeds=(5, 3))
    train(processed, tmp_path / "one", model, seeds=(5,))
    both, one = (read(tmp_path / name) for name in ("both", "one"))
    row = ROWS[model]
    weights = f"models/{row}/seed-5/weights.safetensors"
    assert both[weights] == one[weights]
    assert load_model(tmp_path / f"both/models/{row}/seed-5")[1].seed == 5
    seeds = [x.seed for x in read_table(tmp_path / f"both/curves/{row}.csv", TrainingRow)]
    assert seeds == sorted(seeds)
    assert set(seeds) == {3, 5}
    assert set(done[row].outputs) == {tmp_path / "both" / name for name in both}


def test_test_split_is_never_opened(processed: Path, tmp_path: Path) -> None:
    shard_path(processed, "p2_00000000").unlink()
    done = train(processed, tmp_path / "out")
    assert not any("p2_" in path.name for path in done["cmad-petct"].inputs)


@pytest.mark.parametrize("model", ["cmad", "patchcore"])
def test_trained_folder_is_the_whole_model(processed: Path, tmp_path: Path, model: str) -> None:
    done = train(processed, tmp_path / "out", model, gfr=True)
    loaded, config = load_model(tmp_path / f"out/models/{ROWS[model]}/seed-0")
    assert config.scan_backend == {"cmad": resolve_backend("auto", torch.device("cpu"))}.get(
        model, "none"
    )
    assert config.teacher_sha256 == done[ROWS[model]].teacher.sha256
    batch = Batch.of(SliceStore.open(processed, "val"), [0, 1, 2])
    with torch.inference_mode():
        maps, scores = loaded.detect(batch)
    assert maps.shape == (3, SIDE, SIDE)
    assert torch.isfinite(scores).all()
    if model == "cmad":
        # Calibrated on these very slices: their maps add up to nothing.
        assert abs(float(maps.mean())) < 1e-2


def test_curve_has_a_row_per_validation_and_rates_warm_up_then_fall(
    processed: Path, tmp_path: Path
) -> None:
    train(processed, tmp_path / "out", schedule={"iterations": 7})
    rows = read_table(tmp_path / "out/curves/cmad-petct.csv", TrainingRow)
    assert [row.iteration for row in rows] == [2, 4, 6, 7]
    rates = [row.learning_rate or 0.0 for row in rows]
    assert rates[0] == pytest.approx(1e-3)
    assert rates == sorted(rates, reverse=True)


def test_fitted_model_writes_a_coverage_curve(processed: Path, tmp_path: Path) -> None:
    train(processed, tmp_path / "out", "patchcore")
    with (tmp_path / "out/curves/patchcore-pet.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["learning_rate"] for row in rows] == [""] * len(rows)
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])


def test_divergence_stops_with_advice(processed: Path, tmp_path: Path) -> None:
    pet = np.full((6, SIDE, SIDE), np.nan, np.float16)
    zero = np.zeros((6, SIDE, SIDE), np.uint8)
    write_shard(shard_path(processed, "p0_00000000"), Shard(pet, pet, zero, zero))
    with pytest.raises(TrainingError, match="learning_rate"):
        train(processed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_shard_is_named(processed: Path, tmp_path: Path) -> None:
    shard_path(processed, "p0_00000000").unlink()
    with pytest.raises(DatasetError, match="p0_00000000"):
        train(processed, tmp_path / "out")


def test_model_refuses_another_teacher(processed: Path, tmp_path: Path) -> None:
    train(processed, tmp_path / "out")
    config = tmp_path / "out/models/cmad-petct/seed-0/config.json"
    config.write_text(config.read_text().replace('"bundled"', '"random"'))
    with pytest.raises(TeacherError, match="trained with teacher weights"):
        load_model(config.parent)
