from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from petct_uad.errors import ParamsError, TeacherError
from petct_uad.files import read_table, sha256_bytes, write_table
from petct_uad.models.hdhkd.distil import Distillation, Distilled, PatchFeatures, distil_pdn
from petct_uad.models.hdhkd.pdn import PdnTeacher
from petct_uad.params import DistilParams, ScheduleParams, TeacherParams, TrainParams
from petct_uad.slices.batch import Batch
from petct_uad.slices.store import Shard, SliceStore, shard_path, write_shard
from petct_uad.slices.tables import ImageRow
from petct_uad.teachers.cnn import CnnTeacher
from petct_uad.training.tables import TrainingRow

SIDE = 64
TEACHER = TeacherParams(name="efficientnet_lite0", weights="bundled")
PARAMS = DistilParams(
    width=0.0625,
    channels=16,
    strides=(8, 16),
    enlarge=1,
    schedule=ScheduleParams(
        iterations=6,
        batch_size=3,
        optimiser="adam",
        beta1=0.9,
        beta2=0.999,
        weight_decay=0.0,
        adam_eps=1e-8,
        learning_rate=3e-3,
        decay="step",
        final_learning_rate=3e-4,
        warmup_iterations=0,
        gradient_clip=0.0,
    ),
)
TRAIN = TrainParams(
    seeds=(0,),
    device="cpu",
    precision="float32",
    launcher="python",
    validate_every=3,
    patience=0,
    checkpoint_every=0,
)


@pytest.fixture
def processed(tmp_path: Path) -> Path:
    folder = tmp_path / "processed"
    rows: list[ImageRow] = []
    for number, (split, count) in enumerate([("train", 6), ("val", 3), ("test", 2)]):
        study = f"p{number}_00000000"
        coarse = np.random.default_rng(number).random((2, count, SIDE // 8, SIDE // 8))
        pixels = coarse.repeat(8, 2).repeat(8, 3).astype(np.float16)
        empty = np.zeros((count, SIDE, SIDE), np.uint8)
        shard = Shard(ct=pixels[0], pet=pixels[1] ** 2, lesion=empty, body=empty + 1)
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


@pytest.fixture(scope="module")
def cnn() -> CnnTeacher:
    return CnnTeacher.load(TEACHER)


def distil(processed: Path, out: Path, params: DistilParams = PARAMS, seed: int = 0) -> Distilled:
    return distil_pdn(
        params=params,
        teacher=TEACHER,
        train=TRAIN.model_copy(update={"seeds": (seed,)}),
        processed=processed,
        folder=out / "distil",
        curve_file=out / "distil.csv",
    )


def read(out: Path) -> dict[str, str]:
    files: Iterator[Path] = out.rglob("*")
    return {file.name: sha256_bytes(file.read_bytes()) for file in files if file.is_file()}


def normals(processed: Path) -> Batch:
    return SliceStore.open(processed, "train").batch(range(6))


def test_same_inputs_give_the_same_bytes_and_another_seed_other_weights(
    processed: Path, tmp_path: Path
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        distil(processed, tmp_path / name, seed=seed)
    a, b, c = (read(tmp_path / name) for name in "abc")
    assert a == b
    assert sorted(a) == ["config.json", "distil.csv", "pdn.safetensors"]
    assert a["pdn.safetensors"] != c["pdn.safetensors"]


def test_curve_falls_and_its_rate_drops_at_the_end(processed: Path, tmp_path: Path) -> None:
    schedule = PARAMS.schedule.model_copy(update={"iterations": 30})
    distil(processed, tmp_path / "out", PARAMS.model_copy(update={"schedule": schedule}))
    rows = read_table(tmp_path / "out/distil.csv", TrainingRow)
    assert [row.iteration for row in rows] == list(range(3, 31, 3))
    assert rows[-1].val_loss < rows[0].val_loss
    assert rows[-1].train_loss < 0.9 * rows[0].train_loss
    assert (rows[0].learning_rate, rows[-1].learning_rate) == (3e-3, 3e-4)


def test_test_split_is_never_opened(processed: Path, tmp_path: Path) -> None:
    shard_path(processed, "p2_00000000").unlink()
    done = distil(processed, tmp_path / "out")
    assert [path.stem for path in done.inputs] == ["index", "p0_00000000", "p1_00000000"]
    assert all(path.is_file() for path in done.outputs)


def test_outputs_on_training_normals_have_mean_0_and_spread_1(
    processed: Path, tmp_path: Path
) -> None:
    distil(processed, tmp_path / "out")
    pdn = PdnTeacher.load(TEACHER, SIDE, tmp_path / "out/distil")
    batch = normals(processed)
    outputs = pdn.normalised(torch.cat([batch.pet, batch.ct]))
    torch.testing.assert_close(outputs.mean((0, 2, 3)), torch.zeros(16), atol=1e-3, rtol=0)
    torch.testing.assert_close(outputs.std((0, 2, 3)), torch.ones(16), atol=1e-3, rtol=0)


def test_knowing_only_the_means_costs_1(processed: Path, cnn: CnnTeacher) -> None:
    model = Distillation(PARAMS, cnn, SIDE)
    batch = normals(processed)
    model.standardise_targets([batch])
    torch.nn.init.zeros_(model.pdn.layers[-1].weight)
    torch.nn.init.zeros_(model.pdn.layers[-1].bias)
    assert model.loss(*model.prepare(batch)).item() == pytest.approx(1, abs=1e-3)


def test_every_stride_has_an_equal_share_of_the_channels(processed: Path, cnn: CnnTeacher) -> None:
    both = PatchFeatures(cnn, PARAMS)
    eight = PatchFeatures(cnn, PARAMS.model_copy(update={"strides": (8,), "channels": 8}))
    images = normals(processed).pet
    assert both(images).shape == (6, 16, SIDE // 4, SIDE // 4)
    assert torch.equal(both(images)[:, :8], eight(images))


def test_a_feature_is_the_mean_of_a_run_of_neighbouring_channels(cnn: CnnTeacher) -> None:
    params = PARAMS.model_copy(update={"strides": (8,), "channels": 8, "enlarge": 2})
    images = torch.rand(1, 1, SIDE, SIDE)
    large = torch.nn.functional.interpolate(images, scale_factor=2, mode="bilinear")
    runs = cnn.features(large)[8].unflatten(1, (8, 5)).mean(2)  # 40 channels
    expected = torch.nn.functional.avg_pool2d(runs, 3, 1, 1)
    torch.testing.assert_close(PatchFeatures(cnn, params)(images), expected, atol=1e-5, rtol=1e-4)


def test_channels_must_divide_among_the_strides(cnn: CnnTeacher) -> None:
    with pytest.raises(ParamsError, match=r"distil\.channels = 15"):
        PatchFeatures(cnn, PARAMS.model_copy(update={"channels": 15}))


def test_a_vision_transformer_has_no_strides(processed: Path, tmp_path: Path) -> None:
    vit = TeacherParams(name="vit_base_patch14_reg4_dinov2.lvd142m", weights="random")
    with torch.device("meta"), pytest.raises(TeacherError, match="feature maps by stride"):
        Distillation.build(PARAMS, vit, "petct", SIDE)
