"""What every baseline promises, whatever it computes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from petct_uad.core.errors import ParamsError
from petct_uad.core.params.base import VALIDATED, Modality
from petct_uad.models.autoencoder.params import AutoencoderParams
from petct_uad.models.benchmark import RunParams
from petct_uad.models.build import build_model, teacher_sha256
from petct_uad.models.cflow.params import CflowParams
from petct_uad.models.common.batch import Batch
from petct_uad.models.common.interface import FittedModel, GradientModel, TrainableModel
from petct_uad.models.common.params import AnyModelParams
from petct_uad.models.efficient_ad.params import EfficientAdParams
from petct_uad.models.efficient_ad.photographs import photograph_crops
from petct_uad.models.fastflow.params import FastflowParams
from petct_uad.models.ganomaly.ganomaly import Ganomaly
from petct_uad.models.ganomaly.params import GanomalyParams
from petct_uad.models.inp_former.inp_former import InpFormer, incoherence
from petct_uad.models.inp_former.params import InpFormerParams
from petct_uad.models.mkd.params import MkdParams
from petct_uad.models.padim.padim import Padim
from petct_uad.models.padim.params import PadimParams
from petct_uad.models.stfpm.params import StfpmParams
from petct_uad.models.stfpm.stfpm import Stfpm
from petct_uad.models.super_simple_net.params import SuperSimpleNetParams
from petct_uad.models.super_simple_net.super_simple_net import FeatureNoise, SuperSimpleNet
from petct_uad.teachers.cnn import CnnTeacher
from petct_uad.teachers.params import TeacherParams
from petct_uad.teachers.tokens import CnnTokens
from tests.samples import schedule
from tests.unit.models.batches import descend, first, hottest_in_the_square, noise, only

SIDE = 64
TEACHER = TeacherParams(name="efficientnet_lite0", weights="bundled")
PADIM = PadimParams(strides=(4, 8, 16), features=10, map_sigma_px=4.0, batch_size=8)
STFPM = StfpmParams(strides=(4, 8, 16), map_sigma_px=4.0, schedule=schedule())
AUTOENCODER = AutoencoderParams(
    variational=False, kl_weight=0.0, width=8, latent=16, map_sigma_px=4.0, schedule=schedule()
)
GANOMALY = GanomalyParams(
    width=4,
    latent=16,
    adversarial_weight=1.0,
    content_weight=50.0,
    encoding_weight=1.0,
    map_sigma_px=4.0,
    schedule=schedule(),
)
INP_FORMER = InpFormerParams(
    prototypes=6,
    levels=4,
    blocks=2,
    width=64,
    heads=2,
    score_top_fraction=0.01,
    map_sigma_px=4.0,
    schedule=schedule(),
)
SUPER_SIMPLE_NET = SuperSimpleNetParams(
    strides=(8, 16),
    enlarge=1,
    noise=0.5,
    perlin_threshold=0.2,
    score="head",
    map_sigma_px=4.0,
    schedule=schedule(),
)


@dataclass(frozen=True)
class Baseline:
    """A model small enough for a test.

    Attributes:
        falls_to: which part of its first loss is left after ``steps`` on two slices.
        slices: that it is taught on.
        reach_px: how far from a lesion its map may be hottest.
        score_px: of how many pixels, the hottest, its score is the mean; 0: it has another source.
    """

    name: str
    model: str
    params: AnyModelParams
    steps: int = 30
    rate: float = 3e-3
    falls_to: float = 0.2
    slices: int = 16
    reach_px: int = 4
    score_px: int = 1

    def build(self, modality: Modality = "pet", side: int = SIDE, seed: int = 0) -> TrainableModel:
        torch.manual_seed(seed)
        run = RunParams(
            model=self.model,
            modality=modality,
            params=f"models.{self.name}",
            after=VALIDATED,
        )
        return build_model(run, self.params, TEACHER, side)

    def taught(self, normals: Batch, modality: Modality = "pet", seed: int = 0) -> TrainableModel:
        """Trained on some of the batch for a moment."""
        normals = first(normals, self.slices)
        model = self.build(modality, normals.pet.shape[-1], seed)
        if isinstance(model, FittedModel):
            model.fit([normals], [normals])
        elif isinstance(model, GradientModel):
            descend(model, normals, self.steps, self.rate)
        model.eval().calibrate([normals])
        return model


BASELINES = (
    Baseline("padim", "padim", PADIM),
    Baseline("stfpm", "stfpm", STFPM, steps=15, falls_to=0.5),
    Baseline(
        "efficient_ad",
        "efficient_ad",
        EfficientAdParams(
            strides=(8, 16), channels=16, width=0.1, map_sigma_px=4.0, schedule=schedule()
        ),
        steps=25,
        falls_to=0.7,
        slices=4,
        reach_px=12,  # a PDN's neuron sees 33 px
    ),
    Baseline("autoencoder", "autoencoder", AUTOENCODER),
    Baseline(
        "vae",
        "autoencoder",
        AUTOENCODER.model_copy(update={"variational": True, "kl_weight": 1e-4}),
        falls_to=0.3,
    ),
    Baseline(
        "mkd",
        "mkd",
        MkdParams(
            strides=(4, 8, 16), width=8, cosine_weight=0.5, map_sigma_px=4.0, schedule=schedule()
        ),
        steps=60,
        rate=1e-2,
        falls_to=0.5,
    ),
    Baseline(
        "cflow",
        "cflow",
        CflowParams(
            strides=(4, 8, 16),
            coupling_blocks=2,
            condition=16,
            fibres=256,
            map_sigma_px=4.0,
            schedule=schedule(),
        ),
        steps=100,
        rate=1e-2,
        falls_to=0.8,
    ),
    Baseline(
        "fastflow",
        "fastflow",
        FastflowParams(
            strides=(4, 8, 16),
            flow_steps=2,
            hidden_ratio=1.0,
            conv3x3_only=False,
            map_sigma_px=4.0,
            schedule=schedule(),
        ),
        falls_to=0.8,
    ),
    Baseline(
        "ganomaly",
        "ganomaly",
        GANOMALY,
        steps=40,
        rate=5e-3,
        falls_to=0.1,
        slices=8,
        score_px=0,
    ),
    Baseline(
        "inp_former",
        "inp_former",
        INP_FORMER,
        steps=60,
        falls_to=0.4,
        reach_px=8,  # tokens are 16 px apart
        score_px=41,
    ),
    Baseline(
        "super_simple_net",
        "super_simple_net",
        SUPER_SIMPLE_NET,
        steps=40,
        rate=1e-3,
        falls_to=0.4,
        slices=8,
        score_px=0,
    ),
)
_TAUGHT: dict[str, TrainableModel] = {}


@pytest.fixture
def taught(baseline: Baseline, normals: Batch) -> TrainableModel:
    """A trained model, shared by tests that leave it as it is."""
    if baseline.name not in _TAUGHT:
        _TAUGHT[baseline.name] = baseline.taught(normals)
    return _TAUGHT[baseline.name]


each = pytest.mark.parametrize("baseline", BASELINES, ids=lambda x: x.name)
each_trained = pytest.mark.parametrize(
    "baseline", [x for x in BASELINES if x.name != "padim"], ids=lambda x: x.name
)


@pytest.mark.slow
@each_trained
def test_loss_falls_on_one_slice(baseline: Baseline, normals: Batch) -> None:
    model = baseline.build()
    assert isinstance(model, GradientModel)
    losses = descend(model, first(normals, 2), baseline.steps, baseline.rate)
    assert losses[-1] < baseline.falls_to * losses[0]


@pytest.mark.slow
@each
def test_hottest_pixel_lies_in_a_planted_square(
    baseline: Baseline, taught: TrainableModel, unseen: Batch, abnormal: Batch
) -> None:
    maps, scores = taught.detect(abnormal)
    assert hottest_in_the_square(maps, baseline.reach_px)
    assert (scores > taught.detect(unseen)[1]).all()
    if baseline.score_px:
        highest = maps.flatten(1).topk(baseline.score_px).values
        torch.testing.assert_close(scores, highest.mean(1))


@each
@pytest.mark.parametrize("side", [32, 80, 112])
def test_any_side_gives_finite_maps_of_that_side(baseline: Baseline, side: int) -> None:
    model = baseline.build(side=side)
    if isinstance(model, FittedModel):
        model.fit([noise(12, side)], [noise(2, side)])
    elif isinstance(model, GradientModel):
        descend(model, noise(2, side), steps=1)
    model.eval().calibrate([noise(2, side, seed=1)])
    maps = model.anomaly_map(noise(2, side, seed=2))
    assert maps.shape == (2, side, side)
    assert maps.isfinite().all()


@each
def test_state_round_trip_through_a_file_gives_the_same_maps(
    baseline: Baseline, taught: TrainableModel, unseen: Batch, tmp_path: Path
) -> None:
    other = baseline.build(seed=1).eval()
    path = tmp_path / "weights.safetensors"
    save_file({name: x.contiguous() for name, x in taught.student_state().items()}, path)
    other.load_student_state(load_file(path))
    assert torch.equal(taught.anomaly_map(unseen), other.anomaly_map(unseen))


@pytest.mark.slow
@each
def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(
    baseline: Baseline, normals: Batch
) -> None:
    short = replace(baseline, steps=2)
    states = [short.taught(first(normals, 12), seed=seed).student_state() for seed in (0, 0, 1)]
    assert all(torch.equal(x, states[1][name]) for name, x in states[0].items())
    assert any(not torch.equal(x, states[2][name]) for name, x in states[0].items())


@each
@pytest.mark.parametrize("modality", ["pet", "ct"])
def test_the_other_modality_is_never_read(
    baseline: Baseline, unseen: Batch, modality: Modality
) -> None:
    model = baseline.build(modality).eval()
    if isinstance(model, FittedModel):
        model.fit([unseen], [unseen])
    else:
        model.calibrate([unseen])
    assert torch.equal(model.anomaly_map(unseen), model.anomaly_map(only(unseen, modality)))


@each
def test_the_teacher_is_frozen_and_not_kept_with_the_model(
    baseline: Baseline, taught: TrainableModel, teacher: CnnTeacher
) -> None:
    assert teacher_sha256(taught) == teacher.sha256
    assert not any("teacher" in name.split(".") for name in taught.student_state())


@each_trained
def test_validation_loss_is_the_same_each_time(baseline: Baseline, unseen: Batch) -> None:
    model = baseline.build().eval()
    assert isinstance(model, GradientModel)
    prepared = model.prepare(unseen)
    before = torch.get_rng_state()
    found = model.loss(*prepared).detach()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert torch.equal(model.loss(*prepared).detach(), found)


def test_padim_measures_the_distance_of_mahalanobis(teacher: CnnTeacher, normals: Batch) -> None:
    torch.manual_seed(0)
    params = PADIM.model_copy(update={"map_sigma_px": 0.0, "features": 3})
    model = Padim(params, teacher, "pet", SIDE)
    model.fit([normals], [normals])
    features = teacher.features(normals.pet, 16)
    joined = torch.cat(
        [torch.nn.functional.interpolate(features[s], size=(16, 16)) for s in (4, 8, 16)], 1
    )
    vectors = joined[:, model.chosen, 5, 9].double()
    covariance = torch.cov(vectors.T) + 0.01001 * torch.eye(3)  # anomalib's guard
    away = vectors - vectors.mean(0)
    expected = (away * torch.linalg.solve(covariance, away.T).T).sum(1).sqrt()
    found = model._distances(model._embed(normals))[:, 5, 9]
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)


def test_padim_refuses_more_features_than_the_teacher_has(teacher: CnnTeacher) -> None:
    with pytest.raises(ParamsError, match=r"models\.padim\.features = 200: the teacher has 176"):
        Padim(PADIM.model_copy(update={"features": 200}), teacher, "pet", SIDE)


def test_a_student_with_the_teachers_weights_finds_nothing(
    teacher: CnnTeacher, unseen: Batch
) -> None:
    model = Stfpm(STFPM, teacher, "pet", SIDE).eval()
    assert model.anomaly_map(unseen).max() > 1e-3
    model.student.load_state_dict(
        {name: x for name, x in teacher.state_dict().items() if name in model.student.state_dict()}
    )
    assert model.anomaly_map(unseen).abs().max() < 1e-6


def gradients(teacher: CnnTeacher, batch: Batch, **weights: float) -> dict[str, Tensor]:
    """Of a GANomaly with other weights of its three terms, by parameter."""
    torch.manual_seed(0)
    model = Ganomaly(GANOMALY.model_copy(update=weights), teacher, "pet", SIDE).train()
    model.loss(*model.prepare(batch)).backward()  # type: ignore[no-untyped-call]
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_ganomalys_networks_learn_from_one_loss_what_each_would_from_its_own(
    teacher: CnnTeacher, normals: Batch
) -> None:
    mild = gradients(teacher, normals, adversarial_weight=1.0)
    strong = gradients(teacher, normals, adversarial_weight=100.0)
    drawn = [name for name in mild if name.startswith("generator.")]
    judged = [name for name in mild if not name.startswith("generator.")]
    assert all(torch.equal(mild[name], strong[name]) for name in judged)
    assert all(mild[name].abs().sum() > 0 for name in judged)
    assert not any(torch.equal(mild[name], strong[name]) for name in drawn[:3])
    alone = {"adversarial_weight": 0.0, "content_weight": 0.0, "encoding_weight": 0.0}
    silent = gradients(teacher, normals, **alone)
    assert not any(silent[name].any() for name in drawn if name in silent)


def test_photographs_are_grey_vary_and_follow_the_seed() -> None:
    draws: list[Any] = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(photograph_crops(6, 48))
    assert draws[0].shape == (6, 3, 48, 48)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(draws[0][:, 0], draws[0][:, 1])
    assert draws[0].min() >= 0
    assert draws[0].max() <= 1
    assert (draws[0].flatten(1).std(1) > 0.01).all()


def test_incoherence_is_the_distance_to_the_nearest_prototype() -> None:
    tokens = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])
    prototypes = torch.tensor([[[3.0, 0.0], [-1.0, -1.0], [1.0, 1.0]]])
    expected = (0 + 1 - 0.5**0.5) / 2
    torch.testing.assert_close(incoherence(tokens, prototypes), torch.tensor(expected))


def test_inp_former_refuses_heads_that_do_not_divide_the_tokens_width(teacher: CnnTeacher) -> None:
    with pytest.raises(ValidationError, match="heads must divide width, got 5 and 64"):
        InpFormerParams.model_validate(INP_FORMER.model_dump() | {"heads": 5})
    wide = CnnTokens(teacher, width=65, image_size_px=SIDE)  # as a ViT, which brings its own width
    with pytest.raises(ParamsError, match=r"models\.inp_former\.heads = 2: must divide .* 65"):
        InpFormer(INP_FORMER, wide, "pet", SIDE)


def test_super_simple_net_scores_by_its_head_or_by_its_map(
    teacher: CnnTeacher, unseen: Batch
) -> None:
    by_map = SUPER_SIMPLE_NET.model_copy(update={"score": "max"})
    maps, scores = SuperSimpleNet(by_map, teacher, "pet", SIDE).eval().detect(unseen)
    assert torch.equal(scores, maps.amax((1, 2)))
    maps, scores = SuperSimpleNet(SUPER_SIMPLE_NET, teacher, "pet", SIDE).eval().detect(unseen)
    assert scores.shape == (4,)
    assert not torch.isclose(scores, maps.amax((1, 2))).any()


@pytest.mark.parametrize("side", [2, 7, 16, 40])
def test_feature_noise_fills_part_of_half_of_the_maps_whatever_their_side(side: int) -> None:
    noise = FeatureNoise(0.0, 1.0, threshold=0.2)
    draws = []
    for _ in range(2):
        torch.manual_seed(0)
        draws.append(noise.generate_perlin(64, side, side))
    assert torch.equal(*draws)
    assert draws[0].shape == (64, 1, side, side)
    assert set(draws[0].flatten().tolist()) == {0.0, 1.0}
    filled = draws[0].flatten(1).mean(1)
    assert 8 < (filled > 0).sum() < 48
    assert filled.max() > filled[filled > 0].min()
