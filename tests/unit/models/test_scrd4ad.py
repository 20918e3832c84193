import math
from typing import Any

import pytest
import torch
from anomalib.models.image.reverse_distillation.torch_model import ReverseDistillationModel
from torch import Tensor

from petct_uad.core.errors import ParamsError, TrainingError
from petct_uad.core.params.base import Modality
from petct_uad.models.common.batch import Batch
from petct_uad.models.scrd4ad.noise import add_noise, simplex_field
from petct_uad.models.scrd4ad.params import Scrd4adParams
from petct_uad.models.scrd4ad.scrd4ad import Scrd4ad, distance_map, distillation_loss
from petct_uad.teachers.cnn import CnnTeacher
from petct_uad.teachers.params import TeacherParams
from tests.samples import schedule
from tests.unit.models.batches import descend, first, hottest_in_the_square, learnt, only

SIDE = 64
PARAMS = Scrd4adParams(
    strides=(4, 8, 16),
    contrastive=True,
    scale_aware=True,
    variant="equation",
    noise="simplex",
    noise_intensity=0.2,
    reconstruction_weight=0.0,
    width=8,
    score="mean",
    score_top_fraction=0.01,
    map_sigma_px=4.0,
    schedule=schedule(iterations=4, beta1=0.5),
)
BETAS = (0.5, 0.999)  # the paper's
RD4AD = {"contrastive": False, "scale_aware": False}


def build(
    teacher: CnnTeacher,
    modality: Modality = "pet",
    side: int = SIDE,
    seed: int = 0,
    **keys: Any,
) -> Scrd4ad:
    torch.manual_seed(seed)
    return Scrd4ad(PARAMS.model_copy(update=keys), teacher, modality, side)


def on_meta(name: str, **keys: Any) -> Scrd4ad:
    with torch.device("meta"):
        params = PARAMS.model_copy(update=keys)
        return Scrd4ad.build(params, TeacherParams(name=name, weights="random"), "pet", 256)  # type: ignore[arg-type]


# The three sums below restate shared/models.md and the paper with loops over slices and scales.


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / (a.square().sum().sqrt() * b.square().sum().sqrt())


def released_loss(u: list[Tensor], z: list[Tensor], v: list[Tensor], alpha: Tensor) -> Tensor:
    """Ratio of sums; alpha multiplies both arguments inside the cosine."""
    near = far = torch.zeros(())
    for i in range(len(alpha)):
        for k in range(3):
            weight = alpha[i, k]
            near = near + 1 - cosine(weight * u[k][i], weight * v[k][i])
            far = far + 1 - cosine(weight * z[k][i], weight * v[k][i])
    return near / far


def released_map(u: list[Tensor], v: list[Tensor], alpha: Tensor, side: int) -> Tensor:
    """Sum over scales of 1 - cos of each place's vectors, alpha inside; then resized."""
    maps = torch.zeros(len(alpha), side, side)
    for i in range(len(alpha)):
        for k in range(3):
            size = u[k].shape[-1]
            own = torch.zeros(1, 1, size, size)
            for y in range(size):
                for x in range(size):
                    pair = (alpha[i, k] * t[k][i, :, y, x] for t in (u, v))
                    own[0, 0, y, x] = 1 - cosine(*pair)
            maps[i] += torch.nn.functional.interpolate(own, size=(side, side), mode="bilinear")[
                0, 0
            ]
    return maps


def equation_4(u: list[Tensor], z: list[Tensor], v: list[Tensor], alpha: Tensor) -> Tensor:
    total = torch.zeros(())
    for i in range(len(alpha)):
        for k in range(3):
            ratio = (1 - cosine(u[k][i], v[k][i])) / (1 - cosine(z[k][i], v[k][i]) + 1e-6)
            total = total + alpha[i, k] * ratio
    return total / len(alpha)


@pytest.fixture
def maps() -> tuple[list[Tensor], list[Tensor], list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = [(2, 5, 8, 8), (2, 7, 4, 4), (2, 9, 2, 2)]
    u, z, v = ([torch.randn(s, generator=generator) for s in shapes] for _ in range(3))
    return u, z, v, torch.randn(2, 3, generator=generator).softmax(1)


def test_released_loss_and_map_are_those_of_the_published_code(maps) -> None:  # type: ignore[no-untyped-def]
    u, z, v, alpha = maps
    found = distillation_loss(tuple(u), tuple(z), tuple(v), alpha, "released")
    torch.testing.assert_close(found, released_loss(u, z, v, alpha), rtol=1e-5, atol=0)
    heat = distance_map(tuple(u), tuple(v), alpha, "released", 16)
    torch.testing.assert_close(heat, released_map(u, v, alpha, 16), rtol=1e-5, atol=1e-5)


def test_equation_4_has_alpha_outside_the_ratio_and_differs(maps) -> None:  # type: ignore[no-untyped-def]
    u, z, v, alpha = maps
    found = distillation_loss(tuple(u), tuple(z), tuple(v), alpha, "equation")
    torch.testing.assert_close(found, equation_4(u, z, v, alpha), rtol=1e-5, atol=0)
    assert (found - released_loss(u, z, v, alpha)).abs() > 1e-3
    heat = distance_map(tuple(u), tuple(v), alpha, "equation", 16)
    assert not torch.allclose(heat, released_map(u, v, alpha, 16), atol=1e-2)


def algorithm_2(u: list[Tensor], z: list[Tensor], v: list[Tensor], alpha: Tensor) -> Tensor:
    """One ratio of sums, alpha outside of the cosine."""
    near = far = torch.zeros(())
    for i in range(len(alpha)):
        for k in range(3):
            near = near + alpha[i, k] * (1 - cosine(u[k][i], v[k][i]))
            far = far + alpha[i, k] * (1 - cosine(z[k][i], v[k][i]))
    return near / far


def test_algorithm_2_is_one_ratio_in_which_alpha_counts_and_a_third_loss(maps) -> None:  # type: ignore[no-untyped-def]
    u, z, v, alpha = maps
    found = distillation_loss(tuple(u), tuple(z), tuple(v), alpha, "algorithm")
    torch.testing.assert_close(found, algorithm_2(u, z, v, alpha), rtol=1e-5, atol=0)
    others = (released_loss(u, z, v, alpha), equation_4(u, z, v, alpha))
    assert all((found - other).abs() > 1e-3 for other in others)
    heat = distance_map(tuple(u), tuple(v), alpha, "algorithm", 16)
    assert torch.equal(heat, distance_map(tuple(u), tuple(v), alpha, "equation", 16))


@pytest.mark.parametrize("weights", [0, 1])
def test_whole_released_model_ignores_its_alpha_and_the_equations_does_not(
    teacher: CnnTeacher, unseen: Batch, weights: int
) -> None:
    losses = {}
    for variant in ("equation", "released"):
        model = build(teacher, variant=variant, seed=weights).eval()
        prepared = model.prepare(unseen)
        with torch.no_grad():
            before = model.loss(*prepared), model.anomaly_map(unseen)
            torch.nn.init.normal_(model.scales.linear.weight, std=0.002)  # type: ignore[union-attr]
            after = model.loss(*prepared), model.anomaly_map(unseen)
        losses[variant] = [
            torch.allclose(x, y, rtol=1e-4, atol=1e-5) for x, y in zip(before, after, strict=True)
        ]
    assert losses == {"equation": [False, False], "released": [True, True]}


@pytest.mark.parametrize("variant", ["equation", "released"])
def test_alpha_of_each_scale_is_logged(teacher: CnnTeacher, unseen: Batch, variant: str) -> None:
    model = build(teacher, variant=variant).eval()
    torch.nn.init.normal_(model.scales.linear.weight, std=0.002)  # type: ignore[union-attr]
    prepared = model.prepare(unseen)
    model.loss(*prepared)
    phi = model.bottleneck(prepared[1:])
    pooled = phi.flatten(2).max(2).values
    logits = pooled @ model.scales.linear.weight.T  # type: ignore[union-attr]
    expected = (logits.exp() / logits.exp().sum(1, keepdim=True)).mean(0)
    assert list(model.logged()) == ["alpha_stride_4", "alpha_stride_8", "alpha_stride_16"]
    torch.testing.assert_close(torch.tensor(list(model.logged().values())), expected)


# The released ratio of equally weighted scales falls slowly with faint noise: z_4 is close to u_4.
@pytest.mark.slow
@pytest.mark.parametrize("keys", [{}, {"variant": "released", "noise_intensity": 2.0}, RD4AD])
def test_loss_falls_by_90_percent_on_one_slice(
    teacher: CnnTeacher, normals: Batch, keys: dict[str, Any]
) -> None:
    losses = descend(
        build(teacher, width=16, **keys), first(normals, 1), steps=100, rate=1e-2, betas=BETAS
    )
    assert sum(losses[-5:]) / 5 < 0.1 * losses[0]


@pytest.mark.parametrize("strides", [(16, 32), (8, 32), (16,), (4, 8, 16, 32)])
@pytest.mark.parametrize("side", [64, 112])
def test_student_gives_the_maps_of_any_strides(
    teacher: CnnTeacher, strides: tuple[int, ...], side: int
) -> None:
    images = torch.rand(2, 1, side, side)
    model = build(teacher, side=side, strides=strides).train()
    prepared = model.prepare(Batch(images, images, ("a", "b")))
    decoded = model.decoder(model.bottleneck(prepared[1:]), prepared[1].shape[-1])
    assert [x.shape for x in decoded] == [x.shape for x in prepared[1:]]
    assert [x.shape[1] for x in decoded] == [teacher.channels_at[stride] for stride in strides]
    model.loss(*prepared).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert list(model.logged()) == [f"alpha_stride_{stride}" for stride in strides]


@pytest.mark.parametrize(("side", "count"), [(96, 2), (112, 1), (160, 1)])
def test_maps_of_any_size_are_finite(teacher: CnnTeacher, side: int, count: int) -> None:
    images = torch.rand(count, 1, side, side)
    batch = Batch(images, images, tuple("ab"[:count]))
    model = build(teacher, side=side).train()
    assert math.isfinite(float(model.loss(*model.prepare(batch)).detach()))
    heat, scores = model.eval().detect(batch)
    assert heat.shape == (count, side, side)
    assert scores.shape == (count,)
    assert heat.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("keys", [{}, {"variant": "released"}, RD4AD])
def test_hottest_pixel_lies_in_the_planted_square(
    teacher: CnnTeacher, normals: Batch, unseen: Batch, abnormal: Batch, keys: dict[str, Any]
) -> None:
    model = build(teacher, width=16, **keys)
    descend(model, first(normals, 8), steps=80, betas=BETAS)
    heat, scores = model.detect(abnormal)
    assert hottest_in_the_square(heat)
    assert (scores > model.detect(unseen)[1]).all()


def test_state_round_trip_gives_the_same_maps(
    teacher: CnnTeacher, normals: Batch, unseen: Batch
) -> None:
    model, other = build(teacher), build(teacher, seed=1).eval()
    descend(model, normals, steps=2, betas=BETAS)
    other.load_student_state(model.student_state())
    assert torch.equal(model.anomaly_map(unseen), other.anomaly_map(unseen))
    assert not any("teacher" in name for name in model.student_state())


def test_weights_of_another_width_are_refused(teacher: CnnTeacher) -> None:
    with pytest.raises(TrainingError, match="shape"):
        build(teacher).load_student_state(build(teacher, width=16).student_state())


def test_training_repeats_from_a_seed_and_differs_from_another(
    teacher: CnnTeacher, normals: Batch
) -> None:
    runs = []
    for noise_seed in (0, 0, 1):
        model = build(teacher)
        torch.manual_seed(noise_seed)
        runs.append(descend(model, normals, steps=3, betas=BETAS))
    assert runs[0] == runs[1] != runs[2]


def test_training_goes_on_from_a_saved_generator_as_if_never_stopped(
    teacher: CnnTeacher, normals: Batch
) -> None:
    model = build(teacher).train()
    prepared = model.prepare(normals)
    model.loss(*prepared)
    state = torch.get_rng_state()
    following = model.loss(*prepared)
    torch.rand(7)
    torch.set_rng_state(state)
    assert torch.equal(model.loss(*prepared), following)


@pytest.mark.parametrize("noise", ["simplex", "gaussian"])
def test_validation_loss_is_the_same_each_time(
    teacher: CnnTeacher, unseen: Batch, noise: str
) -> None:
    model = build(teacher, noise=noise).eval()
    prepared = model.prepare(unseen)
    before = torch.get_rng_state()
    first = model.loss(*prepared)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert torch.equal(model.loss(*prepared), first)


def test_noise_never_reaches_the_student(teacher: CnnTeacher, normals: Batch) -> None:
    states = []
    for intensity in (0.1, 5.0):
        model = build(teacher, noise_intensity=intensity).train()
        model.loss(*model.prepare(normals))
        states.append({n: x for n, x in model.student_state().items() if "running" in n})
    assert all(torch.equal(x, states[1][name]) for name, x in states[0].items())


def test_prepared_rows_hold_the_clean_maps_of_the_teacher(
    teacher: CnnTeacher, unseen: Batch
) -> None:
    images, *clean = build(teacher).prepare(unseen)
    assert torch.equal(images, unseen.pet)
    for stride, found in zip((4, 8, 16), clean, strict=True):
        torch.testing.assert_close(found, teacher.features(unseen.pet)[stride])


@pytest.mark.parametrize("modality", ["pet", "ct"])
def test_the_other_modality_is_never_read(
    teacher: CnnTeacher, unseen: Batch, modality: Modality
) -> None:
    model = build(teacher, modality).eval()
    assert torch.equal(model.anomaly_map(unseen), model.anomaly_map(only(unseen, modality)))


def test_contrastive_switch_adds_the_denominator_and_no_weight(
    teacher: CnnTeacher, unseen: Batch
) -> None:
    full, plain = build(teacher), build(teacher, contrastive=False)
    assert full.student_state().keys() == plain.student_state().keys()
    prepared = plain.eval().prepare(unseen)
    _, *clean = prepared
    decoded = plain.decoder(plain.bottleneck(clean), 16)
    expected = sum(
        (1 - torch.stack([cosine(a, b) for a, b in zip(u, v, strict=True)])).mean()
        for u, v in zip(clean, decoded, strict=True)
    )
    torch.testing.assert_close(plain.loss(*prepared), expected / 3)  # alpha starts equal
    assert not torch.allclose(full.eval().loss(*prepared), plain.loss(*prepared), rtol=0.01)
    assert torch.equal(full.anomaly_map(unseen), plain.anomaly_map(unseen))


def test_reconstruction_weight_adds_equation_1_to_the_papers_loss(
    teacher: CnnTeacher, normals: Batch
) -> None:
    def loss(**keys: Any) -> float:
        model = build(teacher, scale_aware=False, **keys).eval()
        return model.loss(*model.prepare(normals)).item()

    plain = loss(contrastive=False)
    assert loss(reconstruction_weight=2.0) == pytest.approx(loss() + 2 * plain, rel=1e-6)
    assert loss(contrastive=False, reconstruction_weight=2.0) == plain  # there is no other term


def test_scale_switch_removes_alpha_and_nothing_else(teacher: CnnTeacher) -> None:
    full, equal = build(teacher), build(teacher, scale_aware=False)
    assert full.student_state().keys() - equal.student_state().keys() == {"scales.linear.weight"}
    assert equal.logged() == {}


def test_score_is_the_mean_of_the_map_unless_told_otherwise(
    teacher: CnnTeacher, unseen: Batch
) -> None:
    model, peak = build(teacher).eval(), build(teacher, score="max").eval()
    heat, scores = model.detect(unseen)
    torch.testing.assert_close(scores, heat.mean((1, 2)))
    assert torch.equal(peak.detect(unseen)[0], heat)
    assert torch.equal(peak.score(heat), heat.amax((1, 2)))


@pytest.mark.parametrize(("side", "smallest", "largest"), [(256, 10, 32), (64, 10, 10)])
@pytest.mark.parametrize("kind", ["simplex", "gaussian"])
def test_noise_fills_one_rectangle_of_the_sides_asked_for(
    kind: str, side: int, smallest: int, largest: int
) -> None:
    torch.manual_seed(0)
    change = add_noise(torch.zeros(200, 1, side, side), kind, 0.2)[:, 0] != 0  # type: ignore[arg-type]
    for axis in (1, 2):
        lengths = change.any(axis).sum(1)
        assert (int(lengths.min()), int(lengths.max())) == (smallest, largest)
    full = change.any(1).sum(1) * change.any(2).sum(1)
    assert (change.flatten(1).sum(1) > 0.99 * full).all()
    assert change.any(0).any(0).sum() > 0.95 * side  # they lie anywhere
    assert change.any(0).any(1).sum() > 0.95 * side


@pytest.mark.parametrize("kind", ["simplex", "gaussian"])
def test_noise_grows_with_its_intensity(kind: str) -> None:
    images = torch.rand(8, 1, 128, 128)
    changes = []
    for intensity in (0.1, 0.5):
        generator = torch.Generator().manual_seed(1)
        changes.append(add_noise(images, kind, intensity, generator) - images)  # type: ignore[arg-type]
    torch.testing.assert_close(changes[1], 5 * changes[0], rtol=1e-3, atol=1e-5)


def test_simplex_noise_is_smooth_and_without_a_mean() -> None:
    field = simplex_field()
    neighbours = torch.corrcoef(torch.stack([field[:, 1:].flatten(), field[:, :-1].flatten()]))
    assert neighbours[0, 1] > 0.8
    assert field.mean().abs() < 0.05 * field.std()


def test_simplex_noise_leaves_the_thread_count_alone() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        simplex_field.cache_clear()
        simplex_field()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_student_of_resnet18_has_the_weights_of_anomalibs() -> None:
    other = ReverseDistillationModel("resnet18", (64, 64), ["layer1"], "add", pre_trained=False)
    unused = learnt(other.bottleneck.conv4) + learnt(other.bottleneck.bn4)
    expected = learnt(other.bottleneck) - unused + learnt(other.decoder)
    assert learnt(on_meta("resnet18", width=64, **RD4AD)) == expected


@pytest.mark.parametrize(
    ("name", "millions"), [("resnet34", 22.17), ("resnet50", 46.65), ("wide_resnet50_2", 83.80)]
)
def test_trainable_parameters_at_the_papers_size(name: str, millions: float) -> None:
    model = on_meta(name, width=64, **RD4AD)
    assert round(learnt(model) / 1e6, 2) == millions


@pytest.mark.parametrize("name", ["resnet34", "resnet50", "resnext50_32x4d"])
def test_any_convolutional_backbone_teaches(name: str, unseen: Batch) -> None:
    teacher = CnnTeacher.load(TeacherParams(name=name, weights="random"))  # type: ignore[arg-type]
    model = build(teacher, width=32).train()
    model.loss(*model.prepare(unseen)).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert model.eval().anomaly_map(unseen).isfinite().all()


def test_width_must_divide_into_the_teachers_groups() -> None:
    with pytest.raises(ParamsError, match="32"):
        on_meta("resnext50_32x4d", width=20)
