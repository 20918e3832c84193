from typing import Any, get_args

import pytest
import torch
from torch.nn import functional as F

from petct_uad.cli.accounting import count
from petct_uad.core.errors import ParamsError, TrainingError
from petct_uad.core.params.base import Modality
from petct_uad.models.cmad.cmad import Cmad, GlobalFusionRefinement, merge_heads, split_heads
from petct_uad.models.cmad.params import CmadParams
from petct_uad.models.common.batch import Batch
from petct_uad.models.common.fusion import MapFusion
from petct_uad.models.common.params import Fusion
from petct_uad.teachers.cnn import CnnTeacher
from petct_uad.teachers.params import TeacherParams
from petct_uad.teachers.tokens import CnnTokens, VitTokens
from tests.unit.models.batches import (
    SQUARE,
    descend,
    first,
    hottest_in_the_square,
    learnt,
    noise,
    only,
)

BUNDLED = TeacherParams(name="efficientnet_lite0", weights="bundled")
SIDE = 64


def build(
    params: CmadParams,
    teacher: CnnTeacher,
    modality: Modality = "petct",
    seed: int = 0,
    side: int = SIDE,
    **keys: Any,
) -> Cmad:
    params = params.model_copy(update=keys)
    torch.manual_seed(seed)
    return Cmad(params, CnnTokens(teacher, params.width, side), modality, side)


def first_stage(model: Cmad) -> GlobalFusionRefinement:
    stage = model.decoder.stages[0]
    assert isinstance(stage, GlobalFusionRefinement)
    return stage


@pytest.fixture(scope="module")
def vit_b14() -> VitTokens:
    with torch.device("meta"):
        vit = TeacherParams(name="vit_base_patch14_reg4_dinov2.lvd142m", weights="random")
        return VitTokens(vit, image_size_px=392)


def paper(params: CmadParams, teacher: VitTokens, **keys: Any) -> Cmad:
    own: dict[str, object] = {"heads": 12, "levels": 9, "ssm_state": 16, "ssm_expand": 2}
    with torch.device("meta"):
        return Cmad(params.model_copy(update=own | keys), teacher, "petct", 392)


def test_paper_size_has_201_8_million_parameters_of_which_136_9_learn(
    cmad_params: CmadParams, vit_b14: VitTokens
) -> None:
    model = paper(cmad_params, vit_b14)
    total = sum(p.numel() for p in model.parameters())
    assert (round(total / 1e6, 1), round(learnt(model) / 1e6, 1)) == (201.8, 136.9)


def test_token_grid_of_the_paper_is_28_by_28(cmad_params: CmadParams, vit_b14: VitTokens) -> None:
    images = torch.empty(1, 1, 392, 392, device="meta")
    model = paper(cmad_params, vit_b14, gfr=False)
    (prepared,) = model.prepare(Batch(images, images, ("a",)))
    assert prepared.shape == (1, 2, 10, 784, 768)
    assert model.loss(prepared).shape == ()


@pytest.mark.slow
def test_loss_falls_and_a_pasted_blob_stands_out(
    cmad_params: CmadParams, teacher: CnnTeacher, normals: Batch, unseen: Batch, abnormal: Batch
) -> None:
    model = build(cmad_params, teacher)
    losses = descend(model, normals, steps=120)
    assert losses[-1] < 0.5 * losses[0]
    model.calibrate([normals])
    with torch.no_grad():
        clean, changed = model.anomaly_map(unseen), model.anomaly_map(abnormal)
    rise = (changed - clean).mean(0)
    assert rise[SQUARE].mean() > 1.3 * rise.mean() > 0
    assert (model.score(changed) > model.score(clean)).all()


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["petct", "pet"])
def test_loss_falls_by_90_percent_on_one_slice(
    cmad_params: CmadParams, teacher: CnnTeacher, normals: Batch, modality: Modality
) -> None:
    model = build(cmad_params, teacher, modality, width=64)
    losses = descend(model, first(normals), steps=240, rate=5e-3)
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["petct", "pet"])
def test_hottest_pixel_lies_inside_a_planted_square(
    cmad_params: CmadParams,
    teacher: CnnTeacher,
    normals: Batch,
    abnormal: Batch,
    modality: Modality,
) -> None:
    """With the paper's nine levels: the deepest few see the whole of so small a slice at once."""
    model = build(cmad_params, teacher, modality, levels=9)
    descend(model, normals, steps=240)
    model.calibrate([normals])
    maps, _ = model.detect(abnormal)
    assert hottest_in_the_square(maps)


@pytest.mark.parametrize("modality", ["petct", "pet"])
@pytest.mark.parametrize("side", [32, 80, 100, 112])
def test_maps_are_finite_and_as_large_as_the_slice(
    cmad_params: CmadParams, teacher: CnnTeacher, modality: Modality, side: int
) -> None:
    maps, scores = build(cmad_params, teacher, modality, side=side).eval().detect(noise(1, side))
    assert maps.shape == (1, side, side)
    assert scores.shape == (1,)
    assert maps.isfinite().all()
    assert scores.isfinite().all()


def test_a_teacher_that_sees_slices_twice_as_large_gives_four_times_the_tokens(
    cmad_params: CmadParams,
) -> None:
    params = cmad_params.model_copy(update={"enlarge": 2})
    model = Cmad.build(params, BUNDLED, "petct", SIDE).eval()
    batch = noise(1, SIDE)
    (prepared,) = model.prepare(batch)
    assert prepared.shape[3] == 4 * (SIDE // 16) ** 2
    large = F.interpolate(batch.pet, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(prepared[:, 0], model.teacher.tokens(large, prepared.shape[2]))
    assert model.detect(batch)[0].shape == (1, SIDE, SIDE)


def test_a_decoder_on_the_last_nine_blocks_starts_from_the_deepest(
    cmad_params: CmadParams, teacher: CnnTeacher
) -> None:
    model = Cmad.build(cmad_params.model_copy(update={"nine": "last"}), BUNDLED, "pet", SIDE)
    batch = noise(1, SIDE)
    (prepared,) = model.prepare(batch)
    tokens = CnnTokens(teacher, cmad_params.width, SIDE, "last").tokens(batch.pet)
    torch.testing.assert_close(prepared[0, 0, -1], tokens[0, -1])
    assert not cmad_params.model_copy(update={"nine": "last"}).is_as_published()


def test_a_picture_that_stands_in_both_planes_is_seen_by_the_teacher_once(
    cmad_params: CmadParams, teacher: CnnTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(cmad_params, teacher).eval()
    batch, shown = noise(2, SIDE), []
    tokens = model.teacher.tokens

    def counting(images: torch.Tensor, count: int) -> torch.Tensor:
        shown.append(len(images))
        return tokens(images, count)

    monkeypatch.setattr(model.teacher, "tokens", counting)
    picture = Batch(batch.pet, batch.pet.clone(), batch.slice_ids)
    (prepared,) = model.prepare(picture)
    model.prepare(batch)
    assert shown == [2, 4]
    assert torch.equal(prepared[:, 0], prepared[:, 1])
    torch.testing.assert_close(prepared[:, 0], tokens(batch.pet, prepared.shape[2]))


@pytest.mark.parametrize(
    ("keys", "gone", "kept"),
    [
        ({"cmh": False}, "hybrid.attention", "hybrid.mlp"),
        ({"gfr": False}, "scan", "attention.query"),
    ],
)
def test_a_switch_removes_its_module_and_no_other(
    cmad_params: CmadParams, teacher: CnnTeacher, keys: dict[str, Any], gone: str, kept: str
) -> None:
    full = build(cmad_params, teacher).student_state().keys()
    less = build(cmad_params, teacher, **keys).student_state().keys()
    assert {name for name in full - less if gone not in name} == set()
    assert not any(gone in name for name in less)
    assert any(kept in name for name in less)


def test_prior_tokens_are_shared_by_both_branches(
    cmad_params: CmadParams, teacher: CnnTeacher
) -> None:
    four, eight = (learnt(build(cmad_params, teacher, cmpt=count)) for count in (4, 8))
    assert eight - four == 4 * cmad_params.width


def test_each_level_costs_one_stage(cmad_params: CmadParams, teacher: CnnTeacher) -> None:
    sizes = [learnt(build(cmad_params, teacher, levels=count)) for count in (1, 2, 3)]
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] > 0


@pytest.mark.parametrize("modality", ["pet", "ct"])
def test_single_modality_never_reads_the_other(
    cmad_params: CmadParams, teacher: CnnTeacher, unseen: Batch, modality: Modality
) -> None:
    model = build(cmad_params, teacher, modality)
    assert torch.equal(*model.prepare(unseen), *model.prepare(only(unseen, modality)))
    assert not any("hybrid.attention" in name for name in model.student_state())


def test_branches_meet_only_in_gfr(cmad_params: CmadParams, teacher: CnnTeacher) -> None:
    tokens = torch.randn(2, 1, 16, cmad_params.width)
    changed = torch.stack([tokens[0], torch.randn_like(tokens[1])])
    for gfr in (True, False):
        decoder = build(cmad_params, teacher, gfr=gfr).decoder
        same = torch.allclose(decoder(tokens)[:, 0], decoder(changed)[:, 0], atol=1e-6)
        assert same is not gfr


def test_the_hybrid_adds_attention_to_the_prior_tokens_then_an_mlp(
    cmad_params: CmadParams, teacher: CnnTeacher
) -> None:
    """Eqs. 3 and 4, with torch's own attention."""
    hybrid: Any = build(cmad_params, teacher).decoder.hybrid.requires_grad_(False)
    attention = hybrid.attention
    assert attention is not None
    attention.prior.normal_()
    tokens = 3 * torch.randn(2, 3, 16, cmad_params.width)
    query = split_heads(attention.query(attention.norm(tokens)), cmad_params.heads)
    prior = attention.prior_norm(attention.prior.expand(2, 3, -1, -1))
    key, value = (
        split_heads(x, cmad_params.heads) for x in attention.key_value(prior).chunk(2, -1)
    )
    read = merge_heads(F.scaled_dot_product_attention(query, key, value))
    attended = tokens + attention.out(read)
    torch.testing.assert_close(hybrid(tokens), attended + hybrid.mlp(attended))


def test_attention_of_a_stage_weighs_by_the_positive_part_of_scaled_cosines(
    cmad_params: CmadParams, teacher: CnnTeacher
) -> None:
    """Eq. 6, head by head."""
    attention = first_stage(build(cmad_params, teacher)).attention.requires_grad_(False)
    attention.scale.uniform_(0.5, 2.0)
    own, other = torch.randn(2, 2, 3, 16, cmad_params.width)
    query = split_heads(attention.query(own), cmad_params.heads)
    key, value = (
        split_heads(x, cmad_params.heads) for x in attention.key_value(other).chunk(2, -1)
    )
    cosines = F.cosine_similarity(query[..., :, None, :], key[..., None, :, :], dim=-1)
    assert cosines.min() < -0.1
    read = merge_heads((attention.scale * cosines).clamp(min=0) @ value)
    torch.testing.assert_close(attention(own, other), attention.out(read))


def test_a_stage_is_its_attention_plus_what_the_scan_adds_to_it(
    cmad_params: CmadParams, teacher: CnnTeacher
) -> None:
    """Eqs. 5 to 9; where the scan gives nothing, the attention is what is left."""
    stage = first_stage(build(cmad_params, teacher)).requires_grad_(False)
    assert stage.scan is not None
    assert stage.scan_norm is not None
    tokens = torch.randn(2, 3, 16, cmad_params.width)
    own = stage.norm(tokens)
    attended = stage.attention(own, own.flip(0))
    scanned = stage.scan(stage.scan_norm(attended).view(2, 3, 4, 4, -1)).view(tokens.shape)
    assert scanned.abs().max() > 1e-3
    torch.testing.assert_close(stage(tokens), attended + scanned)
    stage.scan.out_proj.zero_()
    torch.testing.assert_close(stage(tokens), attended)


def test_branches_have_weights_of_their_own(cmad_params: CmadParams, teacher: CnnTeacher) -> None:
    same_input = torch.randn(1, 1, 16, cmad_params.width).expand(2, -1, -1, -1)
    pet, ct = build(cmad_params, teacher).decoder(same_input).unbind(1)
    assert not torch.allclose(pet, ct)


def test_calibration_standardises_each_modality(
    cmad_params: CmadParams, teacher: CnnTeacher, normals: Batch
) -> None:
    model = build(cmad_params, teacher)
    model.calibrate([normals])
    standardised = model.fusion.standardised(model.modality_maps(normals))
    torch.testing.assert_close(standardised.mean((1, 2, 3)), torch.zeros(2), atol=1e-3, rtol=0)
    torch.testing.assert_close(standardised.std((1, 2, 3)), torch.ones(2), atol=1e-3, rtol=0)
    torch.testing.assert_close(model.anomaly_map(normals), standardised.sum(0))


def test_the_map_is_fused_as_the_param_says(
    cmad_params: CmadParams, teacher: CnnTeacher, normals: Batch, unseen: Batch
) -> None:
    for how in get_args(Fusion):
        model = build(cmad_params, teacher, fusion=how)
        model.calibrate([normals])
        expected = MapFusion(how, 2)
        expected.fit([model.modality_maps(normals)])
        maps = model.modality_maps(unseen)
        torch.testing.assert_close(model.anomaly_map(unseen), expected(maps))


def test_no_target_is_the_decoders_input_as_eqs_2_and_10_have_it(
    cmad_params: CmadParams, teacher: CnnTeacher, unseen: Batch
) -> None:
    """A decoder that gives its input back has a loss only where no target equals the input."""
    below, within = (
        build(cmad_params, teacher, targets=x, levels=1) for x in ("below_input", "with_input")
    )
    for model in (below, within):
        model.decoder.forward = lambda deepest: deepest[None]  # type: ignore[method-assign]
    assert within.loss(*within.prepare(unseen)) < 1e-5
    assert below.loss(*below.prepare(unseen)) > 1e-2


@pytest.mark.parametrize("levels", [1, 3, 9])
@pytest.mark.parametrize("targets", ["below_input", "with_input"])
def test_targets_are_the_levels_next_to_the_input_deepest_first(
    cmad_params: CmadParams, teacher: CnnTeacher, unseen: Batch, targets: str, levels: int
) -> None:
    model = build(cmad_params, teacher, targets=targets, levels=levels)
    every = model.teacher.tokens(torch.cat([unseen.pet, unseen.ct]), 10)
    every = every.view(2, -1, *every.shape[1:]).permute(2, 0, 1, 3, 4).flip(0)  # (10, K, B, N, d)
    first = 1 if targets == "below_input" else 0
    expected = every[first : first + levels]
    model.decoder.forward = lambda deepest: expected  # type: ignore[method-assign]
    assert model.loss(*model.prepare(unseen)) < 1e-5
    (prepared,) = model.prepare(unseen)
    torch.testing.assert_close(prepared[:, :, -1].transpose(0, 1), every[0])


def test_a_vits_first_target_level_is_its_patch_embedding(cmad_params: CmadParams) -> None:
    """Eq. 1: f1 is what the first block reads; Eq. 2: f10 comes out of the ninth."""
    vit = TeacherParams(name="vit_base_patch14_reg4_dinov2.lvd142m", weights="random")
    teacher = VitTokens(vit, image_size_px=28)
    images = torch.rand(1, 1, 28, 28)
    every = teacher.tokens(images, 10)
    network: Any = teacher.teacher.network
    with torch.no_grad():
        x = network._pos_embed(network.patch_embed(teacher.teacher.normalise(images)))
        seen = [x]
        for block in network.blocks[:9]:
            x = block(x)
            seen.append(x)
    expected = torch.stack([y[:, 5:] for y in seen], dim=1)  # a class and four register tokens
    torch.testing.assert_close(every, expected)
    torch.testing.assert_close(teacher.tokens(images), every[:, 1:])
    torch.testing.assert_close(teacher.tokens(images, 4), every[:, 6:])
    own: dict[str, object] = {"levels": 9, "targets": "below_input", "heads": 12}
    model = Cmad(cmad_params.model_copy(update=own), teacher, "pet", 28)
    (prepared,) = model.prepare(Batch(images, images, ("a",)))
    torch.testing.assert_close(prepared[:, 0], every)


def test_only_the_papers_targets_are_as_published(cmad_params: CmadParams) -> None:
    assert cmad_params.is_as_published()
    assert cmad_params.model_copy(update={"fusion": "max"}).is_as_published()
    assert not cmad_params.model_copy(update={"targets": "with_input"}).is_as_published()


def test_state_round_trip_gives_the_same_maps(
    cmad_params: CmadParams, teacher: CnnTeacher, unseen: Batch
) -> None:
    model, other = build(cmad_params, teacher), build(cmad_params, teacher, seed=1)
    model.calibrate([unseen])
    other.load_student_state(model.student_state())
    assert torch.equal(model.anomaly_map(unseen), other.anomaly_map(unseen))
    assert not any("teacher" in name for name in model.student_state())


def test_weights_of_another_shape_are_refused(cmad_params: CmadParams, teacher: CnnTeacher) -> None:
    state = build(cmad_params, teacher, cmpt=4).student_state()
    with pytest.raises(TrainingError, match="prior"):
        build(cmad_params, teacher).load_student_state(state)


def test_weights_of_another_ablation_are_refused(
    cmad_params: CmadParams, teacher: CnnTeacher
) -> None:
    state = build(cmad_params, teacher, gfr=False).student_state()
    with pytest.raises(TrainingError, match="names differ"):
        build(cmad_params, teacher).load_student_state(state)


def test_heads_must_divide_the_teachers_width(cmad_params: CmadParams, vit_b14: VitTokens) -> None:
    with pytest.raises(ParamsError, match="768"):
        paper(cmad_params, vit_b14, heads=5)


@pytest.mark.parametrize(
    ("cmh", "gfr", "paper_g"),
    [
        (False, False, 140.40),
        (True, False, 142.28),
        (False, True, 190.67),
        (True, True, 192.55),
    ],
)
def test_multiply_accumulates_are_those_of_table_4_within_2_percent(
    cmad_params: CmadParams, vit_b14: VitTokens, cmh: bool, gfr: bool, paper_g: float
) -> None:
    model = paper(cmad_params, vit_b14, cmh=cmh, gfr=gfr)
    assert count(model, 392).macs / 1e9 == pytest.approx(paper_g, rel=0.02)


def test_gfr_costs_a_single_branch_what_table_4_says_within_2_percent(
    cmad_params: CmadParams, vit_b14: VitTokens
) -> None:
    own = cmad_params.model_copy(update={"heads": 12, "levels": 9, "ssm_expand": 2})
    with torch.device("meta"):
        models = [
            Cmad(own.model_copy(update={"ssm_state": 16, "gfr": gfr}), vit_b14, "pet", 392)
            for gfr in (False, True)
        ]
    baseline, full = (count(model, 392).macs / 1e9 for model in models)
    assert full - baseline == pytest.approx(157.17 - 132.03, rel=0.02)
