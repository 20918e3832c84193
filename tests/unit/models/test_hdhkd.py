from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from petct_uad.cli.presets import preset_content
from petct_uad.core.errors import TeacherError, TrainingError
from petct_uad.core.files import write_json
from petct_uad.core.params.base import Modality
from petct_uad.models.common.batch import Batch
from petct_uad.models.hdhkd.decoder import MambaUpNet
from petct_uad.models.hdhkd.hdhkd import Hdhkd, Student
from petct_uad.models.hdhkd.params import HdhkdParams
from petct_uad.models.hdhkd.teacher.params import DistilParams
from petct_uad.models.hdhkd.teacher.pdn import Pdn
from petct_uad.models.hdhkd.teacher.teacher import (
    TEACHER_CONFIG,
    TEACHER_WEIGHTS,
    PatchTeacher,
    PatchTeacherConfig,
)
from petct_uad.schema import parse_params
from petct_uad.teachers.params import TeacherParams
from tests.samples import schedule
from tests.unit.models.batches import descend, first, hottest_in_the_square, learnt, noise, only

ROOT = Path(__file__).resolve().parents[3]
SIDE = 64
CHANNELS = 16
PARAMS: dict[str, Any] = {
    "encoder": "efficientnet_lite0",
    "encoder_weights": "bundled",
    "encoder_strides": (4, 8, 16),
    "lateral_width": 16,
    "width": 32,
    "conv_branch": True,
    "mamba_branch": True,
    "multi_feature": True,
    "ss2d": True,
    "decoder": "mamba",
    "blocks": 2,
    "ssm_state": 4,
    "dropout": 0.0,
    "error": "squared",
    "map_sigma_px": 0.0,
    "scan": "auto",
    "schedule": schedule(iterations=20),
}
PAPER: dict[str, Any] = {
    "encoder": "wide_resnet50_2",
    "encoder_weights": "random",
    "lateral_width": 128,
    "width": 256,
    "blocks": 4,
    "ssm_state": 16,
    "dropout": 0.2,
}
TEACHER = TeacherParams(name="efficientnet_lite0", weights="bundled")


def params(**keys: Any) -> HdhkdParams:
    return HdhkdParams.model_validate(PARAMS | keys)


@pytest.fixture(scope="module")
def pdn(normals: Batch) -> PatchTeacher:
    torch.manual_seed(7)
    teacher = PatchTeacher(Pdn(0.0625, CHANNELS))
    teacher.standardise([normals])
    return teacher


def build(teacher: PatchTeacher, modality: Modality = "pet", seed: int = 0, **keys: Any) -> Hdhkd:
    torch.manual_seed(seed)
    return Hdhkd(params(**keys), teacher, modality, SIDE)


def names(model: Hdhkd) -> set[str]:
    return set(model.student_state())


def paper_student(**keys: Any) -> Student:
    with torch.device("meta"):
        return Student(params(**PAPER | keys), 384, 256)


def test_paper_size_has_30_9_million_parameters_to_learn() -> None:
    assert learnt(paper_student()) / 1e6 == pytest.approx(30.9, rel=0.02)


@pytest.mark.parametrize("strides", [(16, 32), (8,), (4, 8, 16, 32)])
def test_student_joins_the_encoders_maps_of_any_strides(
    pdn: PatchTeacher, normals: Batch, strides: tuple[int, ...]
) -> None:
    model = build(pdn, encoder_strides=strides)
    maps = model.student.encoder(normals.pet[:1])
    assert [x.shape[-1] for x in maps] == [SIDE // stride for stride in strides]
    losses = descend(model, first(normals), steps=3, rate=1e-2)
    assert losses[-1] < losses[0]


def test_paper_preset_has_table_2s_schedule() -> None:
    content = preset_content("paper-hdhkd", ROOT / "params")
    # Its fields are known when the schema is made.
    models: Any = parse_params(content, Path("paper-hdhkd.yaml")).models
    schedule = models.hdhkd.schedule
    assert (schedule.iterations, schedule.batch_size, schedule.weight_decay) == (80_000, 1, 1e-5)
    assert (schedule.optimiser, schedule.decay) == ("adam", "step")
    assert (schedule.learning_rate, schedule.final_learning_rate) == (1e-4, 1e-5)


def test_table_7_with_a_dense_layer_has_46_6_million_parameters() -> None:
    assert learnt(paper_student(decoder="fcn")) / 1e6 == pytest.approx(46.6, rel=0.02)


def test_paper_pdn_has_8_03_million_parameters_and_64_by_64_outputs_at_256_px() -> None:
    with torch.device("meta"):
        network = Pdn(1.0, 384)
    assert round(learnt(network) / 1e6, 2) == 8.03
    assert network(torch.empty(1, 1, 256, 256, device="meta")).shape == (1, 384, 64, 64)


def test_a_neuron_of_the_pdn_sees_33_by_33_pixels() -> None:
    network = Pdn(0.0625, 4)
    images = torch.rand(1, 1, 128, 128, requires_grad=True)
    network(images)[..., 16, 16].sum().backward()
    assert images.grad is not None
    rows, columns = images.grad[0, 0].abs().sum(1).nonzero(), images.grad[0, 0].nonzero()[:, 1]
    extents = [int(x.max() - x.min()) + 1 for x in (rows, columns)]
    assert max(extents) <= 33
    assert min(extents) > 25  # a dead ReLU may hide the rim
    assert 4 * 16 - 16 <= int(rows.min()) <= int(rows.max()) <= 4 * 16 + 16


@pytest.mark.parametrize(
    ("encoder", "weights"),
    [("resnet18", "random"), ("wide_resnet101_2", "random"), ("efficientnet_lite0", "bundled")],
)
def test_encoder_of_table_6_is_cut_after_stride_16(
    pdn: PatchTeacher, encoder: str, weights: str
) -> None:
    encoder_of = build(pdn, encoder=encoder, encoder_weights=weights).student.encoder
    sides = [x.shape[-1] for x in encoder_of(torch.rand(1, 1, SIDE, SIDE))]
    assert sides == [SIDE // 4, SIDE // 8, SIDE // 16]
    assert not any("layer4" in name or "blocks.5" in name for name in encoder_of.state_dict())


def test_encoder_starts_from_its_weights_or_from_the_seed(pdn: PatchTeacher) -> None:
    def start(seed: int, weights: str) -> Tensor:
        encoder = build(pdn, seed=seed, encoder_weights=weights).student.encoder
        return next(iter(encoder.parameters())).detach()

    assert torch.equal(start(0, "bundled"), start(1, "bundled"))
    assert not torch.equal(start(0, "random"), start(1, "random"))


def test_bundled_weights_of_another_encoder_are_refused(pdn: PatchTeacher) -> None:
    with pytest.raises(TeacherError, match="bundled"):
        build(pdn, encoder="resnet18", encoder_weights="bundled")


@pytest.mark.slow
def test_loss_falls_by_90_percent_on_one_slice(pdn: PatchTeacher, normals: Batch) -> None:
    losses = descend(build(pdn), first(normals, 1), 40)
    assert min(losses) < 0.1 * losses[0]


@pytest.fixture(scope="module")
def learned(pdn: PatchTeacher, normals: Batch) -> Hdhkd:
    model = build(pdn)
    descend(model, first(normals, 4), 30)
    return model


@pytest.mark.slow
def test_hottest_pixel_lies_in_a_planted_square(learned: Hdhkd, abnormal: Batch) -> None:
    # A cell of the map is four pixels.
    assert hottest_in_the_square(learned.anomaly_map(abnormal), reach_px=4)


def test_abnormal_slices_score_higher_than_unseen_normal_ones(
    learned: Hdhkd, unseen: Batch, abnormal: Batch
) -> None:
    assert (learned.detect(abnormal)[1] > learned.detect(unseen)[1].max()).all()


@pytest.mark.parametrize("side", [96, 112, 160])
def test_maps_are_finite_at_odd_sizes(pdn: PatchTeacher, side: int) -> None:
    model = Hdhkd(params(), pdn, "ct", side).eval()
    maps, scores = model.detect(noise(1, side, seed=3))
    assert maps.shape == (1, side, side)
    assert scores.shape == (1,)
    assert torch.isfinite(maps).all()


def test_map_is_the_mean_squared_difference_and_score_its_maximum(
    pdn: PatchTeacher, unseen: Batch
) -> None:
    model = build(pdn).eval()
    images, target = model.prepare(unseen)
    grids = (model.student(images) - target).square().mean(1, keepdim=True)
    expected = torch.nn.functional.interpolate(grids, size=(SIDE, SIDE), mode="bilinear")
    maps, scores = model.detect(unseen)
    torch.testing.assert_close(maps, expected[:, 0].detach())
    assert torch.equal(scores, maps.amax((1, 2)))
    assert model.loss(images, target).item() == pytest.approx(grids.mean().item(), rel=1e-5)


def test_targets_of_normals_have_mean_0_and_spread_1_per_channel(
    pdn: PatchTeacher, normals: Batch
) -> None:
    both: tuple[Modality, Modality] = ("pet", "ct")
    target = torch.cat([build(pdn, one).prepare(normals)[1] for one in both])
    torch.testing.assert_close(target.mean((0, 2, 3)), torch.zeros(CHANNELS), atol=1e-3, rtol=0)
    torch.testing.assert_close(target.std((0, 2, 3)), torch.ones(CHANNELS), atol=1e-3, rtol=0)


@pytest.mark.parametrize("modality", ["pet", "ct"])
def test_it_never_reads_the_other_modality(
    pdn: PatchTeacher, unseen: Batch, modality: Modality
) -> None:
    model = build(pdn, modality).eval()
    assert torch.equal(model.anomaly_map(unseen), model.anomaly_map(only(unseen, modality)))


def test_state_round_trip_gives_the_same_maps(
    pdn: PatchTeacher, normals: Batch, unseen: Batch
) -> None:
    model, other = build(pdn), build(pdn, seed=1)
    descend(model, normals, 2)
    assert not torch.equal(model.anomaly_map(unseen), other.eval().anomaly_map(unseen))
    other.load_student_state(model.student_state())
    assert torch.equal(model.anomaly_map(unseen), other.anomaly_map(unseen))
    assert not any("teacher" in name for name in model.student_state())


def test_training_changes_the_encoder_but_never_the_pdn(pdn: PatchTeacher, normals: Batch) -> None:
    model = build(pdn)
    before, sha256 = model.student_state(), pdn.sha256
    encoder = next(name for name in before if name.startswith("student.encoder"))
    kept = before[encoder].clone()
    descend(model, normals, 1)
    assert not torch.equal(kept, model.student_state()[encoder])
    assert pdn.sha256 == sha256
    assert not pdn.training


@pytest.mark.parametrize(
    ("keys", "gone"),
    [
        ({"conv_branch": False}, ("decoder.conv.", "fuse.reduce.1")),
        ({"mamba_branch": False}, ("decoder.mamba.", "fuse.reduce.1")),
        ({"multi_feature": False}, ("decoder.fuse.",)),
        ({"ss2d": False}, ("ss2d.",)),
        ({"blocks": 1}, ("mamba.blocks.1.",)),
    ],
)
def test_a_switch_of_table_5_removes_its_module_and_no_other(
    pdn: PatchTeacher, keys: dict[str, Any], gone: tuple[str, ...]
) -> None:
    full, less = build(pdn), build(pdn, **keys)
    lost = names(full) - names(less)
    assert lost
    assert all(any(part in name for part in gone) for name in lost)
    assert names(less) <= names(full)
    images = torch.rand(2, 1, SIDE, SIDE)
    assert less.student(images).shape == (2, CHANNELS, SIDE // 4, SIDE // 4)


@pytest.mark.parametrize("decoder", ["fcn", "transformer", "conv"])
def test_a_decoder_of_table_7_replaces_the_mixer_and_nothing_else(
    pdn: PatchTeacher, decoder: str
) -> None:
    mamba, other = build(pdn, blocks=1), build(pdn, blocks=1, decoder=decoder)
    assert all(".mixer." in name for name in names(mamba) ^ names(other))
    assert any(".mixer." in name for name in names(other) - names(mamba))
    images = torch.rand(2, 1, SIDE, SIDE)
    assert other.student(images).shape == mamba.student(images).shape


def test_the_mamba_branch_sees_the_whole_slice() -> None:
    torch.manual_seed(0)
    network = MambaUpNet(params(), grid=16)
    x = torch.rand(1, 32, 4, 4, requires_grad=True)
    network(x)[0, :, 0, 0].sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().sum((0, 1)) > 0).all()


def test_dropout_acts_in_training_only(pdn: PatchTeacher, unseen: Batch) -> None:
    model = build(pdn, dropout=0.5)
    prepared = model.prepare(unseen)
    model.eval()
    assert model.loss(*prepared).item() == model.loss(*prepared).item()
    model.train()
    assert model.loss(*prepared).item() != model.loss(*prepared).item()


def test_some_branch_must_decode() -> None:
    with pytest.raises(ValueError, match="at least one must be true"):
        params(conv_branch=False, mamba_branch=False)


def test_ss2d_can_only_be_taken_out_of_mamba() -> None:
    with pytest.raises(ValueError, match="decoder = 'conv'"):
        params(ss2d=False, decoder="conv")


def distil_params(network: str) -> DistilParams:
    return DistilParams.model_validate({
        "network": network,
        "width": 0.0625,
        "channels": CHANNELS,
        "strides": (8, 16),
        "enlarge": 1,
        "schedule": schedule(),
    })  # fmt: skip


def write_teacher(folder: Path, teacher: PatchTeacher, network: str = "pdn") -> None:
    folder.mkdir(parents=True)
    config = PatchTeacherConfig(
        distil=distil_params(network),
        teacher=TEACHER,
        teacher_sha256="0" * 64,
        image_size_px=SIDE,
        parameters=1,
    )
    save_file(teacher.made(), folder / TEACHER_WEIGHTS)
    write_json(folder / TEACHER_CONFIG, config.model_dump(mode="json"))


@pytest.fixture
def distilled(pdn: PatchTeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder where the distil stage has left a PDN."""
    write_teacher(tmp_path / "models/distil", pdn)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("distilled")
def test_build_takes_the_distilled_pdn(pdn: PatchTeacher, unseen: Batch) -> None:
    model = Hdhkd.build(params(), TEACHER, "pet", SIDE)
    assert model.teacher.sha256 == pdn.sha256
    assert torch.equal(model.prepare(unseen)[1], build(pdn).prepare(unseen)[1])


def test_the_teacher_of_table_2_is_the_cnn_itself_and_only_its_statistics_are_kept(
    normals: Batch, unseen: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cnn = PatchTeacher.build(distil_params("cnn"), TEACHER)
    cnn.standardise([normals])
    write_teacher(tmp_path / "models/distil", cnn, "cnn")
    monkeypatch.chdir(tmp_path)
    assert cnn.made().keys() == {"mean", "std"}
    target = Hdhkd.build(params(), TEACHER, "pet", SIDE).prepare(unseen)[1]
    assert torch.equal(target, cnn.normalised(unseen.pet))
    assert target.shape == (len(unseen.pet), CHANNELS, SIDE // 4, SIDE // 4)


def test_without_a_pdn_it_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrainingError, match="dvc repro distil"):
        Hdhkd.build(params(), TEACHER, "pet", SIDE)


@pytest.mark.usefixtures("distilled")
@pytest.mark.parametrize(
    ("teacher", "side", "named"),
    [
        (TeacherParams(name="resnet18", weights="random"), SIDE, "teacher"),
        (TEACHER, 2 * SIDE, "image_size_px"),
    ],
)
def test_a_pdn_of_another_teacher_or_size_is_refused(
    teacher: TeacherParams, side: int, named: str
) -> None:
    with pytest.raises(TrainingError, match=named):
        Hdhkd.build(params(), teacher, "pet", side)


def test_relative_map_is_the_error_over_one_more_than_the_targets_own_square(
    pdn: PatchTeacher, unseen: Batch
) -> None:
    model = build(pdn, error="relative").eval()
    images, target = model.prepare(unseen)
    error = (model.student(images) - target).square().mean(1, keepdim=True)
    grids = error / (1 + target.square().mean(1, keepdim=True))
    expected = torch.nn.functional.interpolate(grids, size=(SIDE, SIDE), mode="bilinear")
    torch.testing.assert_close(model.anomaly_map(unseen), expected[:, 0].detach())


@pytest.mark.parametrize(("error", "bounded"), [("squared", False), ("relative", True)])
def test_relative_map_of_a_student_that_knows_the_means_only_stays_below_one(
    error: str, bounded: bool, pdn: PatchTeacher, abnormal: Batch
) -> None:
    model = build(pdn, error=error).eval()
    with torch.no_grad():
        for x in model.student.decoder.out.parameters():
            x.zero_()
    assert (float(model.anomaly_map(abnormal).max()) < 1) == bounded
