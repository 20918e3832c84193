import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from petct_uad.errors import DatasetError, TeacherError, TrainingError
from petct_uad.files import read_table, write_table
from petct_uad.models.build import load_model
from petct_uad.params import (
    CmadParams,
    ModelName,
    PatchcoreParams,
    RunParams,
    ScheduleParams,
    TeacherParams,
    TrainParams,
)
from petct_uad.slices.store import Shard, SliceStore, shard_path, write_shard
from petct_uad.slices.tables import ImageRow
from petct_uad.training.data import batch_order
from petct_uad.training.tables import TrainingRow
from petct_uad.training.train import TrainedRun, train_run

SIDE = 64
TEACHER = TeacherParams(name="efficientnet_lite0", weights="bundled")
SCHEDULE = ScheduleParams(
    iterations=6,
    batch_size=4,
    learning_rate=1e-3,
    final_learning_rate=1e-4,
    warmup_iterations=2,
    weight_decay=1e-4,
    adam_eps=1e-8,
    gradient_clip=0.1,
)
CMAD = CmadParams(
    cmpt=2,
    cmh=True,
    gfr=True,
    levels=2,
    width=16,
    heads=2,
    ssm_state=2,
    ssm_expand=1,
    fusion="calibrated",
    score="top",
    score_top_fraction=0.01,
    map_sigma_px=4.0,
    scan="auto",
    schedule=SCHEDULE,
)
PATCHCORE = PatchcoreParams(
    strides=(8, 16),
    max_patches=200,
    coreset_fraction=0.1,
    neighbours=3,
    map_sigma_px=4.0,
    batch_size=4,
)
SECTIONS: dict[ModelName, tuple[str, CmadParams | PatchcoreParams]] = {
    "cmad": ("model", CMAD),
    "patchcore": ("models.patchcore", PATCHCORE),
}


@pytest.fixture
def processed(tmp_path: Path) -> Path:
    folder = tmp_path / "processed"
    rows: list[ImageRow] = []
    for number, (split, count) in enumerate([("train", 6), ("val", 3), ("test", 2)]):
        study = f"p{number}_00000000"
        pixels = np.random.default_rng(number).random((2, count, SIDE, SIDE)).astype(np.float16)
        empty = np.zeros((count, SIDE, SIDE), np.uint8)
        shard = Shard(ct=pixels[0], pet=pixels[1], lesion=empty, body=empty + 1)
        write_shard(shard_path(folder, study), shard)
        rows += [_row(study, split, i, shard.sha256_of(i)) for i in range(count)]
    write_table(folder / "index.csv", ImageRow, rows)
    return folder


def _row(study: str, split: str, index: int, sha256: str) -> ImageRow:
    return ImageRow(
        slice_id=f"{study}_{index:04d}",
        study_id=study,
        patient=study[:2],
        scanner="GE",
        split=split,
        label=0,
        position=0.5,
        shard_row=index,
        lesion_area_mm2=0.0,
        lesion_kept_fraction=1.0,
        suv_max=1.0,
        suv_mean=0.5,
        body_area_mm2=1.0,
        ct_mean_hu=0.0,
        ct_std=0.3,
        pet_std=0.3,
        sha256=sha256,
    )


def train(
    processed: Path, out: Path, model: ModelName = "cmad", seed: int = 0, **schedule: object
) -> TrainedRun:
    name, section = SECTIONS[model]
    if schedule and isinstance(section, CmadParams):
        section = section.model_copy(update={"schedule": SCHEDULE.model_copy(update=schedule)})
    run = RunParams.model_validate({"model": model, "modality": "petct", "params": name})
    return train_run(
        run=run,
        params=section,
        teacher=TEACHER,
        train=TrainParams(seed=seed, device="cpu", validate_every=2),
        processed=processed,
        model_folder=out / "model",
        curve_file=out / "training.csv",
    )


def read(out: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()]


@pytest.mark.parametrize("model", ["cmad", "patchcore"])
def test_same_inputs_give_the_same_bytes(processed: Path, tmp_path: Path, model: ModelName) -> None:
    for name in ("a", "b"):
        train(processed, tmp_path / name, model)
    assert read(tmp_path / "a") == read(tmp_path / "b")
    assert len(read(tmp_path / "a")) == 3


def test_another_seed_gives_other_weights(processed: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        train(processed, tmp_path / name, seed=seed)
    assert read(tmp_path / "a") != read(tmp_path / "b")


def test_test_split_is_never_opened(processed: Path, tmp_path: Path) -> None:
    shard_path(processed, "p2_00000000").unlink()
    done = train(processed, tmp_path / "out")
    assert not any("p2_" in path.name for path in done.inputs)


@pytest.mark.parametrize("model", ["cmad", "patchcore"])
def test_trained_folder_is_the_whole_model(
    processed: Path, tmp_path: Path, model: ModelName
) -> None:
    done = train(processed, tmp_path / "out", model)
    loaded, config = load_model(tmp_path / "out/model")
    assert config.teacher_sha256 == done.teacher_sha256
    batch = SliceStore.open(processed, "val").batch([0, 1, 2])
    maps = loaded.anomaly_map(batch)
    assert maps.shape == (3, SIDE, SIDE)
    # Calibrated on these very slices: their maps add up to nothing.
    assert abs(float(maps.mean())) < 1e-2
    assert torch.isfinite(loaded.score(maps)).all()


def test_curve_has_a_row_per_validation_and_rates_warm_up_then_fall(
    processed: Path, tmp_path: Path
) -> None:
    train(processed, tmp_path / "out", iterations=7)
    rows = read_table(tmp_path / "out/training.csv", TrainingRow)
    assert [row.iteration for row in rows] == [2, 4, 6, 7]
    rates = [row.learning_rate or 0.0 for row in rows]
    assert rates[0] == pytest.approx(1e-3)
    assert rates == sorted(rates, reverse=True)


def test_fitted_model_writes_a_coverage_curve(processed: Path, tmp_path: Path) -> None:
    train(processed, tmp_path / "out", "patchcore")
    with (tmp_path / "out/training.csv").open() as stream:
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
    config = tmp_path / "out/model/config.json"
    config.write_text(config.read_text().replace('"bundled"', '"random"'))
    with pytest.raises(TeacherError, match="trained with teacher weights"):
        load_model(tmp_path / "out/model")


def test_every_slice_comes_once_before_any_comes_twice() -> None:
    batches = list(batch_order(count=10, batch_size=5, iterations=4, seed=3))
    first, second = ([i for batch in part for i in batch] for part in (batches[:2], batches[2:]))
    assert sorted(first) == sorted(second) == list(range(10))
    assert batches != list(batch_order(count=10, batch_size=5, iterations=4, seed=4))
