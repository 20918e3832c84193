from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from petct_uad.core.errors import ParamsError
from petct_uad.core.params.base import Modality
from petct_uad.models.common.interface import Batch
from petct_uad.models.common.maps import smooth_maps
from petct_uad.models.qfae.encoder import CnnEncoder
from petct_uad.models.qfae.images import augment, resize
from petct_uad.models.qfae.params import QfaeParams
from petct_uad.models.qfae.perceptual import PerceptualCnn
from petct_uad.models.qfae.qfae import Frozen, Qfae, consensus
from petct_uad.teachers.cnn import CnnTeacher
from petct_uad.teachers.params import TeacherParams
from petct_uad.teachers.tokens import CnnTokens
from tests.samples import schedule
from tests.unit.models.batches import descend, first, hottest_in_the_square, only

SIDE = 64

SMALL = QfaeParams(
    hidden_states=(2, 4),
    second_encoder="none",
    second_weights="random",
    width=32,
    queries_side=8,
    qformer_heads=4,
    depth=1,
    heads=4,
    patch_px=8,
    perceptual="teacher",
    perceptual_weights="random",
    training_patches=(16, 32),
    evaluation_patches=(16, 32),
    training_layers=(4, 8),
    evaluation_layers=(4, 8),
    evaluation="supplement",
    aggregation="mean",
    score="mean_of_max",
    map_sigma_px=4.0,
    augment=False,
    schedule=schedule(batch_size=4, decay="one_cycle", final_learning_rate=1e-7),
)
PAPER = {
    "width": 768,
    "queries_side": 28,
    "qformer_heads": 8,
    "depth": 6,
    "heads": 12,
    "perceptual": "vit_large_patch16_224.mae",
    "training_patches": (32, 56),
    "evaluation_patches": (16, 32, 56),
    "training_layers": (15, 19),
    "evaluation_layers": (11, 15, 19),
    "map_sigma_px": 0.0,
}


def build(
    teacher: CnnTeacher,
    modality: Modality = "pet",
    side: int = SIDE,
    seed: int = 0,
    **keys: Any,
) -> Qfae:
    params = SMALL.model_copy(update=keys)
    torch.manual_seed(seed)
    encoder = CnnEncoder(CnnTokens(teacher, params.width, side), params.hidden_states)
    layers = sorted({*params.training_layers, *params.evaluation_layers})
    frozen = Frozen(encoder, PerceptualCnn(teacher, layers))
    return Qfae(params, frozen, modality, side).eval()


def of_size(side: int) -> Batch:
    images = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(side))
    return Batch(images, images, ("one",))


@pytest.fixture(scope="module")
def trained(teacher: CnnTeacher, normals: Batch) -> Qfae:
    model = build(teacher)
    descend(model, normals, steps=60)
    return model


@pytest.fixture(scope="module")
def paper() -> Qfae:
    with torch.device("meta"):
        teacher = TeacherParams(name="vit_large_patch14_reg4_dinov2.lvd142m", weights="random")
        return Qfae.build(SMALL.model_copy(update=PAPER), teacher, "pet", 224)


@pytest.fixture(scope="module")
def paper_of_two() -> Qfae:
    """The configuration of Table 6."""
    two = PAPER | {"second_encoder": "vit_base_patch8_224.dino"}
    with torch.device("meta"):
        teacher = TeacherParams(name="vit_large_patch14_reg4_dinov2.lvd142m", weights="random")
        return Qfae.build(SMALL.model_copy(update=two), teacher, "pet", 224)


@pytest.mark.slow
def test_loss_falls_by_90_percent_on_one_slice(teacher: CnnTeacher, normals: Batch) -> None:
    losses = descend(build(teacher), first(normals), steps=120, rate=5e-3)
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.slow
def test_hottest_pixel_lies_inside_a_planted_square(trained: Qfae, abnormal: Batch) -> None:
    maps, _ = trained.detect(abnormal)
    assert hottest_in_the_square(maps)


@pytest.mark.parametrize("score", ["mean_of_max", "max_of_mean"])
def test_planted_square_raises_the_score(
    trained: Qfae, unseen: Batch, abnormal: Batch, score: str
) -> None:
    trained.params = trained.params.model_copy(update={"score": score})
    assert (trained.detect(abnormal)[1] > trained.detect(unseen)[1]).all()


@pytest.mark.parametrize("side", [64, 96, 112])
def test_maps_are_finite_and_as_large_as_the_slice(teacher: CnnTeacher, side: int) -> None:
    model = build(teacher, side=side)
    maps, scores = model.detect(of_size(side))
    assert maps.shape == (1, side, side)
    assert scores.shape == (1,)
    assert maps.isfinite().all()
    assert scores.isfinite().all()


def test_reconstruction_is_a_slice_even_where_queries_do_not_tile_it(teacher: CnnTeacher) -> None:
    model = build(teacher, side=96, queries_side=5)
    hidden = model.teacher.encoder.hidden(of_size(96).pet)
    assert model.reconstruct(hidden).shape == (1, 1, 96, 96)


def test_paper_size_has_53_4_million_parameters_that_learn(paper: Qfae) -> None:
    """Two ViT-L, one cut after block 22 and one after 19, and what is trained."""
    learnt = sum(p.numel() for p in paper.parameters() if p.requires_grad)
    total = sum(p.numel() for p in paper.parameters())
    assert (round(learnt / 1e6, 1), round(total / 1e6, 1)) == (53.4, 609.8)


def test_paper_shapes_are_those_of_the_supplements_table_1(paper: Qfae) -> None:
    images = torch.empty(2, 1, 224, 224, device="meta")
    hidden, *targets = paper.prepare(Batch(images, images, ("a", "b")))
    assert hidden.shape == (2, 2 * 16 * 16, 1024)
    assert paper.qformer.queries.shape == (784, 768)
    assert [x.shape[1:] for x in targets] == [(1024, 7, 7)] * 2 + [(1024, 4, 4)] * 2
    assert paper.reconstruct(hidden).shape == (2, 1, 224, 224)
    assert paper.loss(hidden, *targets).shape == ()


def test_paper_evaluates_nine_maps_at_patch_sizes_16_32_56(paper: Qfae) -> None:
    images = torch.empty(2, 1, 224, 224, device="meta")
    maps = paper.distance_maps(Batch(images, images, ("a", "b")))
    assert [x.shape[-1] for x in maps] == [14] * 3 + [7] * 3 + [4] * 3


def test_paper_reads_blocks_20_and_22_of_the_encoder_and_15_and_19_of_the_other(
    paper: Qfae,
) -> None:
    assert paper.teacher.encoder.indices == (20, 22)
    assert paper.params.training_layers == (15, 19)


def test_second_encoder_adds_its_tokens_and_a_projection_as_in_table_6(
    paper: Qfae, paper_of_two: Qfae
) -> None:
    images = torch.empty(2, 1, 224, 224, device="meta")
    first_hidden, second_hidden, *targets = paper_of_two.prepare(Batch(images, images, ("a", "b")))
    assert first_hidden.shape == (2, 2 * 16 * 16, 1024)
    assert second_hidden.shape == (2, 2 * 28 * 28, 768)
    assert [encoder.indices for encoder in paper_of_two.teacher.encoders] == [(20, 22), (8, 10)]
    assert paper_of_two.reconstruct(first_hidden, second_hidden).shape == (2, 1, 224, 224)
    assert paper_of_two.loss(first_hidden, second_hidden, *targets).shape == ()
    learnt, alone = (
        sum(p.numel() for p in model.parameters() if p.requires_grad)
        for model in (paper_of_two, paper)
    )
    assert learnt - alone == 768 * 768 + 768


def test_second_encoder_changes_the_reconstruction_and_the_frozen_weights_hash(
    unseen: Batch,
) -> None:
    own = TeacherParams(name="efficientnet_lite0", weights="bundled")
    models = []
    for second in ("none", "vit_base_patch8_224.dino"):
        torch.manual_seed(0)
        params = SMALL.model_copy(update={"second_encoder": second})
        models.append(Qfae.build(params, own, "pet", SIDE).eval())
    alone, both = models
    assert alone.teacher.sha256 != both.teacher.sha256
    seen = [model.reconstruct(*model.teacher.hidden(unseen.pet)) for model in models]
    assert torch.equal(alone.projection.weight, both.projection.weight)
    assert not torch.equal(*seen)
    loss = both.loss(*both.prepare(unseen))
    loss.backward()  # type: ignore[no-untyped-call]
    assert both.second_projection is not None
    assert both.second_projection.weight.grad is not None
    maps, scores = both.detect(unseen)
    assert maps.isfinite().all()
    assert scores.isfinite().all()


def test_copies_for_patch_sizes_share_their_blocks(paper: Qfae) -> None:
    networks: Any = paper.teacher.perceptual.networks
    assert networks["16"].blocks[3] is networks["56"].blocks[3]
    assert networks["56"].patch_embed.proj.weight.shape[-2:] == (56, 56)


def test_loss_is_the_product_over_patch_sizes_and_the_mean_over_layers(
    teacher: CnnTeacher, normals: Batch
) -> None:
    model = build(teacher)
    hidden, *targets = model.prepare(normals)
    found = model._features(model.reconstruct(hidden), (16, 32), (4, 8))
    a, b, c, d = (1 - F.cosine_similarity(x, y) for x, y in zip(found, targets, strict=True))
    by_layer = [(x * resize(y[:, None], x.shape[-1])[:, 0]).mean() for x, y in ((a, c), (b, d))]
    expected = torch.stack(by_layer).mean()
    torch.testing.assert_close(model.loss(hidden, *targets), expected)


def test_consensus_is_zero_where_any_patch_size_sees_no_difference() -> None:
    coarse, fine = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]), torch.ones(1, 8, 8)
    product = consensus([coarse, fine])
    assert product.shape == (1, 8, 8)
    assert product[..., 0].max() < 0.01
    assert product[..., -1].min() > 0.99


def test_identical_images_have_no_distance(teacher: CnnTeacher, unseen: Batch) -> None:
    model = build(teacher)
    features = model._features(unseen.pet, (16, 32), (4, 8))
    maps = model._distances(unseen.pet, features, (16, 32), (4, 8))
    assert max(float(x.abs().max()) for x in maps) < 1e-5


def test_gradients_pass_the_perceptual_network_and_change_it_not(
    teacher: CnnTeacher, normals: Batch
) -> None:
    model = build(teacher)
    model.loss(*model.prepare(normals)).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    gradient = model.decoder.pixels.weight.grad
    assert gradient is not None
    assert float(gradient.abs().max()) > 0


@pytest.mark.parametrize(
    ("keys", "used"),
    [
        ({}, slice(None)),
        ({"aggregation": "max"}, slice(None)),
        ({"map_sigma_px": 0.0}, slice(None)),
        ({"evaluation_patches": (32,)}, slice(2, None)),
        ({"evaluation_layers": (8,)}, slice(1, None, 2)),
        ({"training_patches": (16,)}, slice(None)),
        ({"augment": True}, slice(None)),
    ],
    ids=str,
)
def test_a_map_is_the_mean_or_maximum_of_the_distances_that_a_switch_leaves(
    trained: Qfae, teacher: CnnTeacher, abnormal: Batch, keys: dict[str, Any], used: slice
) -> None:
    """All four are of patch sizes 16 and 32, at strides 4 and 8 each."""
    model = build(teacher, **keys)
    default = build(teacher)
    for one in (default, model):
        one.load_student_state(trained.student_state())
    distances = default.distance_maps(abnormal)[used]
    resized = torch.stack([smooth_maps(x, SIDE, sigma_px=0) for x in distances])
    pooled = resized.max(0).values if "aggregation" in keys else resized.sum(0) / len(resized)
    expected = smooth_maps(pooled, SIDE, model.params.map_sigma_px)
    maps, scores = model.detect(abnormal)
    torch.testing.assert_close(maps, expected)
    torch.testing.assert_close(model.anomaly_map(abnormal), expected)
    of_max = torch.stack([x.flatten(1).max(1).values for x in distances])
    torch.testing.assert_close(scores, of_max.sum(0) / len(of_max))


def test_released_evaluation_multiplies_each_layers_maps_over_patch_sizes(
    teacher: CnnTeacher, abnormal: Batch
) -> None:
    each = build(teacher).distance_maps(abnormal)  # patch 16 at strides 4 and 8, then patch 32
    resized = [smooth_maps(x, SIDE, sigma_px=0) for x in each]
    products = torch.stack([resized[0] * resized[2], resized[1] * resized[3]])
    model = build(teacher, evaluation="released", map_sigma_px=0.0)
    maps, scores = model.detect(abnormal)
    torch.testing.assert_close(maps, products.mean(0))
    torch.testing.assert_close(scores, products.amax((2, 3)).mean(0))


def test_mean_of_max_and_max_of_mean_are_what_they_say(teacher: CnnTeacher, unseen: Batch) -> None:
    maps = build(teacher).distance_maps(unseen)
    of_max = torch.stack([x.amax((1, 2)) for x in maps]).mean(0)
    of_mean = torch.stack([x.mean((1, 2)) for x in maps]).amax(0)
    torch.testing.assert_close(build(teacher).detect(unseen)[1], of_max)
    torch.testing.assert_close(build(teacher, score="max_of_mean").detect(unseen)[1], of_mean)


def test_augmentation_moves_the_training_loss_and_never_the_validation_loss(
    teacher: CnnTeacher, normals: Batch
) -> None:
    model = build(teacher, augment=True)
    prepared = model.prepare(normals)
    plain = build(teacher)
    expected = plain.loss(*plain.prepare(normals))
    assert model.loss(*prepared).item() == model.loss(*prepared).item() == expected.item()
    model.train()
    torch.manual_seed(3)
    losses = [model.loss(*prepared).item() for _ in range(2)]
    torch.manual_seed(3)
    assert losses[0] != losses[1]
    assert losses[0] == model.loss(*prepared).item()


def test_augmentation_treats_each_slice_on_its_own(normals: Batch) -> None:
    torch.manual_seed(0)
    same = normals.pet[:1].expand(6, -1, -1, -1)
    changed = augment(same)
    assert changed.shape == same.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert not any(torch.equal(changed[0], other) for other in changed[1:])


@pytest.mark.parametrize("patch", [8, 16, 32, 56])
def test_smaller_patches_see_more_of_the_image(
    teacher: CnnTeacher, unseen: Batch, patch: int
) -> None:
    (features,) = PerceptualCnn(teacher, [8]).features(unseen.pet, patch, [8])
    assert abs(features.shape[-1] - 8 * 16 / patch) <= 1
    torch.testing.assert_close(features.norm(dim=1), torch.ones_like(features[:, 0]))


def test_folded_network_gives_the_teachers_features(teacher: CnnTeacher, unseen: Batch) -> None:
    expected: dict[int, Tensor] = teacher.features(unseen.pet)
    folded = PerceptualCnn(teacher, [4, 8, 16])
    found = dict(zip((4, 8, 16), folded.features(unseen.pet, 16, [4, 8, 16]), strict=True))
    for stride, features in found.items():
        torch.testing.assert_close(
            features, F.normalize(expected[stride], dim=1), atol=1e-5, rtol=0
        )


def test_folding_works_for_a_resnet_too(unseen: Batch) -> None:
    resnet = CnnTeacher.load(TeacherParams(name="resnet18", weights="random"))
    (found,) = PerceptualCnn(resnet, [8]).features(unseen.pet, 16, [8])
    expected = F.normalize(resnet.features(unseen.pet)[8], dim=1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_resize_is_the_identity_at_the_same_size_and_keeps_a_constant() -> None:
    images = torch.rand(1, 1, 20, 20)
    assert resize(images, 20) is images
    for side in (7, 33):
        torch.testing.assert_close(
            resize(torch.ones_like(images), side), torch.ones(1, 1, side, side)
        )


@pytest.mark.parametrize("modality", ["pet", "ct"])
def test_one_modality_never_reads_the_other(
    teacher: CnnTeacher, unseen: Batch, modality: Modality
) -> None:
    model = build(teacher, modality)
    for one, two in zip(model.prepare(unseen), model.prepare(only(unseen, modality)), strict=True):
        assert torch.equal(one, two)


def test_state_round_trip_gives_the_same_maps(teacher: CnnTeacher, unseen: Batch) -> None:
    model, other = build(teacher), build(teacher, seed=1)
    other.load_student_state(model.student_state())
    assert torch.equal(model.detect(unseen)[0], other.detect(unseen)[0])
    learnt = {name for name, p in model.named_parameters() if p.requires_grad}
    assert model.student_state().keys() == learnt


def test_a_stride_that_the_teacher_lacks_is_refused(teacher: CnnTeacher) -> None:
    with pytest.raises(ParamsError, match="stride 15"):
        build(teacher, evaluation_layers=(15,))


def test_a_block_that_the_encoder_lacks_is_refused(teacher: CnnTeacher) -> None:
    with pytest.raises(ParamsError, match="9 blocks"):
        build(teacher, hidden_states=(10,))


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"heads": 5}, "heads must divide"), ({"evaluation_patches": (32, 16)}, "ascending")],
)
def test_params_that_cannot_work_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QfaeParams.model_validate(SMALL.model_dump() | {"schedule": SMALL.schedule} | keys)
