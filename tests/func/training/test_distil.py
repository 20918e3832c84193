from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from petct_uad.core.errors import ParamsError, TeacherError
from petct_uad.core.files import read_table, sha256_bytes
from petct_uad.distil.run import Distillation, Distilled, distil_teacher
from petct_uad.models.common.batch import Batch
from petct_uad.models.hdhkd.teacher.params import DistilParams
from petct_uad.models.hdhkd.teacher.patches import PatchFeatures, share_channels
from petct_uad.models.hdhkd.teacher.teacher import PatchTeacher
from petct_uad.slices.store import SliceStore, read_shard, write_index, write_shard
from petct_uad.slices.tables import ImageRow, shard_path
from petct_uad.teachers.cnn import CnnTeacher
from petct_uad.teachers.params import TeacherParams
from petct_uad.training.loop.tables import TrainingRow
from tests.func.training.tiny import SIDE, TEACHER, write_store
from tests.samples import schedule, train_section

PARAMS = DistilParams(
    network="pdn",
    width=0.0625,
    channels=16,
    strides=(8, 16),
    enlarge=1,
    schedule=schedule(
        iterations=6,
        batch_size=3,
        learning_rate=3e-3,
        decay="step",
        final_learning_rate=3e-4,
    ),
)
TRAIN = train_section(precision="float32", validate_every=3)


@pytest.fixture
def processed(tmp_path: Path) -> Path:
    return write_store(tmp_path / "processed", cell_px=8)


@pytest.fixture(scope="module")
def cnn() -> CnnTeacher:
    return CnnTeacher.load(TEACHER)


def distil(processed: Path, out: Path, params: DistilParams = PARAMS, seed: int = 0) -> Distilled:
    return distil_teacher(
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
    return Batch.of(SliceStore.open(processed, "train"), range(6))


def test_same_inputs_give_the_same_bytes_and_another_seed_other_weights(
    processed: Path, tmp_path: Path
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        distil(processed, tmp_path / name, seed=seed)
    a, b, c = (read(tmp_path / name) for name in "abc")
    assert a == b
    assert sorted(a) == ["config.json", "distil.csv", "teacher.safetensors"]
    assert a["teacher.safetensors"] != c["teacher.safetensors"]


def test_curve_falls_and_its_rate_drops_at_the_end(processed: Path, tmp_path: Path) -> None:
    schedule = PARAMS.schedule.model_copy(update={"iterations": 30})
    distil(processed, tmp_path / "out", PARAMS.model_copy(update={"schedule": schedule}))
    rows = read_table(tmp_path / "out/distil.csv", TrainingRow)
    assert [row.iteration for row in rows] == list(range(3, 31, 3))
    assert rows[-1].val_loss < rows[0].val_loss
    assert rows[-1].train_loss < 0.9 * rows[0].train_loss
    assert (rows[0].learning_rate, rows[-1].learning_rate) == (3e-3, 3e-4)


@pytest.mark.parametrize(("deterministic", "tf32"), [(True, False), (False, True)])
def test_a_teacher_is_made_in_the_arithmetic_that_params_name(
    processed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    deterministic: bool,
    tf32: bool,
) -> None:
    seen = []

    def watched(teacher: PatchTeacher, batches: Iterable[Batch]) -> None:
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        algorithms = torch.are_deterministic_algorithms_enabled()
        seen.append((algorithms, matmul.allow_tf32, cudnn.allow_tf32))
        standardise(teacher, batches)

    standardise = PatchTeacher.standardise
    monkeypatch.setattr(PatchTeacher, "standardise", watched)
    distil_teacher(
        params=PARAMS.model_copy(update={"network": "cnn"}),
        teacher=TEACHER,
        train=TRAIN.model_copy(update={"deterministic": deterministic, "tf32": tf32}),
        processed=processed,
        folder=tmp_path / "distil",
        curve_file=tmp_path / "distil.csv",
    )
    assert seen == [(deterministic, tf32, tf32)]


def test_test_split_is_never_opened(processed: Path, tmp_path: Path) -> None:
    shard_path(processed, "p2_00000000").unlink()
    done = distil(processed, tmp_path / "out")
    assert [path.stem for path in done.inputs] == ["training", "p0_00000000", "p1_00000000"]
    assert all(path.is_file() for path in done.outputs)


@pytest.mark.parametrize("network", ["pdn", "cnn"])
def test_outputs_on_training_normals_have_mean_0_and_spread_1(
    processed: Path, tmp_path: Path, network: str
) -> None:
    distil(processed, tmp_path / "out", PARAMS.model_copy(update={"network": network}))
    teacher = PatchTeacher.load(TEACHER, SIDE, tmp_path / "out/distil")
    batch = normals(processed)
    outputs = teacher.normalised(torch.cat([batch.pet, batch.ct]))
    torch.testing.assert_close(outputs.mean((0, 2, 3)), torch.zeros(16), atol=1e-3, rtol=0)
    torch.testing.assert_close(outputs.std((0, 2, 3)), torch.ones(16), atol=1e-3, rtol=0)


def test_of_a_cnn_the_curve_says_what_knowing_only_the_means_costs(
    processed: Path, tmp_path: Path
) -> None:
    distil(processed, tmp_path / "out", PARAMS.model_copy(update={"network": "cnn"}))
    (row,) = read_table(tmp_path / "out/distil.csv", TrainingRow)
    assert (row.iteration, row.learning_rate) == (0, None)
    assert row.train_loss == pytest.approx(1, abs=1e-3)
    assert row.val_loss > 0


def test_knowing_only_the_means_costs_1(processed: Path, cnn: CnnTeacher) -> None:
    model = Distillation(PatchTeacher(PatchFeatures(cnn, PARAMS)), PARAMS)
    batch = normals(processed)
    model.teacher.standardise([batch])
    for parameter in model.pdn.layers[-1].parameters():
        torch.nn.init.zeros_(parameter)
    assert model.loss(*model.prepare(batch)).item() == pytest.approx(1, abs=1e-3)


def test_targets_are_standardised_over_the_training_slices_of_every_patient(
    processed: Path, tmp_path: Path
) -> None:
    """The first batch is flat: in units of its spread alone, the second would be far away."""
    path = shard_path(processed, "p0_00000000")
    shard = read_shard(path)
    flat = np.repeat(np.arange(6) < PARAMS.schedule.batch_size, SIDE**2).reshape(6, SIDE, SIDE)
    half = np.float16(0.5)
    changed = replace(shard, ct=np.where(flat, half, shard.ct), pet=np.where(flat, half, shard.pet))
    write_shard(path, changed)
    index = read_table(processed / "index.csv", ImageRow)
    rows = [
        replace(row, sha256=changed.sha256_of(row.shard_row)) if row.split == "train" else row
        for row in index
    ]
    write_index(processed, rows)
    # So slow that the first row is the loss of a PDN that knows nothing, over each slice once.
    slow = {"iterations": 2, "learning_rate": 1e-9, "final_learning_rate": 1e-9}
    schedule = PARAMS.schedule.model_copy(update=slow)
    distil(processed, tmp_path / "out", PARAMS.model_copy(update={"schedule": schedule}))
    (row,) = read_table(tmp_path / "out/distil.csv", TrainingRow)
    assert row.train_loss == pytest.approx(1, abs=0.1)


def test_only_the_pdn_is_kept_with_the_best_validation_loss(cnn: CnnTeacher) -> None:
    model = Distillation(PatchTeacher(PatchFeatures(cnn, PARAMS)), PARAMS)
    expected = {f"pdn.{name}" for name in model.pdn.state_dict()}
    assert model.student_state().keys() == expected


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
    runs = cnn.features(large)[8].reshape(1, 8, 5, *[SIDE * 2 // 8] * 2).mean(2)  # 40 channels
    expected = torch.nn.functional.avg_pool2d(runs, 3, 1, 1)
    torch.testing.assert_close(PatchFeatures(cnn, params)(images), expected, atol=1e-5, rtol=1e-4)


def test_strides_share_the_channels_equally_up_to_what_each_has() -> None:
    assert share_channels(384, [512, 1024]) == [192, 192]  # the paper's
    assert share_channels(152, [40, 112]) == [40, 112]
    assert share_channels(96, [40, 112]) == [40, 56]
    assert share_channels(15, [40, 112]) == [7, 8]


def test_with_all_channels_a_feature_is_the_mean_around_it(cnn: CnnTeacher) -> None:
    params = PARAMS.model_copy(update={"strides": (8,), "channels": 40, "enlarge": 2})
    images = torch.rand(1, 1, SIDE, SIDE)
    large = torch.nn.functional.interpolate(images, scale_factor=2, mode="bilinear")
    expected = torch.nn.functional.avg_pool2d(cnn.features(large)[8], 3, 1, 1)
    torch.testing.assert_close(PatchFeatures(cnn, params)(images), expected, atol=1e-5, rtol=1e-4)


def test_more_channels_than_the_teacher_has_are_refused(cnn: CnnTeacher) -> None:
    with pytest.raises(ParamsError, match=r"distil\.channels = 300: the teacher has 152"):
        PatchFeatures(cnn, PARAMS.model_copy(update={"channels": 300, "strides": (8, 16)}))


def test_a_vision_transformer_has_no_strides(processed: Path, tmp_path: Path) -> None:
    vit = TeacherParams(name="vit_base_patch14_reg4_dinov2.lvd142m", weights="random")
    with torch.device("meta"), pytest.raises(TeacherError, match="feature maps by stride"):
        Distillation.build(PARAMS, vit, "petct", SIDE)
