"""A hub's network works where a user has its file: shown with files of random weights."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from petct_uad.core.errors import TeacherError
from petct_uad.teachers.cnn import CnnTeacher
from petct_uad.teachers.params import TeacherParams
from petct_uad.teachers.tokens import load_tokens

pytestmark = pytest.mark.slow

CNN, VIT = "wide_resnet50_2", "vit_base_patch14_reg4_dinov2.lvd142m"


def written(network: nn.Module, name: str, folder: Path) -> TeacherParams:
    """What names the file with the weights of a network of timm's."""
    file = folder / f"{name}.safetensors"
    save_file(network.state_dict(), file)
    return TeacherParams.model_validate({"name": name, "weights": str(file)})


def random_network(name: str, **options: object) -> nn.Module:
    torch.manual_seed(1)
    network: nn.Module = timm.create_model(name, pretrained=False, **options)
    return network.eval().requires_grad_(False)


def test_a_wide_resnet_gives_the_maps_of_the_weights_in_its_file(tmp_path: Path) -> None:
    network = random_network(CNN)
    teacher = CnnTeacher.load(written(network, CNN, tmp_path))
    images = torch.rand(1, 1, 64, 64)
    stages: list[Tensor] = []
    x = network.maxpool(network.act1(network.bn1(network.conv1(teacher.normalise(images)))))  # type: ignore[operator]
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        x = stage(x)  # type: ignore[operator]
        stages.append(x)
    found = teacher.features(images)
    assert list(found) == [4, 8, 16, 32]
    for own, expected in zip(found.values(), stages, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-3, atol=1e-3 * expected.max().item())


def test_a_vit_gives_the_tokens_of_the_weights_in_its_file_at_any_size(tmp_path: Path) -> None:
    # As the hub has it: for images of 518 px, to which its positions belong.
    network = random_network(VIT)
    tokens = load_tokens(written(network, VIT, tmp_path), 32, 56)
    assert (tokens.width, tokens.grid) == (768, 4)
    found = tokens.tokens(torch.rand(2, 1, 56, 56))
    assert found.shape == (2, 9, 16, 768)
    assert found.isfinite().all()
    first = network.blocks[0].mlp.fc1.weight  # type: ignore[index, union-attr]
    assert torch.equal(tokens.teacher.network.blocks[0].mlp.fc1.weight, first)  # type: ignore[union-attr, index]


def test_a_file_of_another_network_is_refused_by_name(tmp_path: Path) -> None:
    params = written(random_network("resnet18"), CNN, tmp_path)
    with pytest.raises(TeacherError, match=r"wide_resnet50_2\.safetensors.*does not hold"):
        CnnTeacher.load(params)
