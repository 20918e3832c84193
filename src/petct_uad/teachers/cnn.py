"""A frozen CNN as a source of feature maps."""

from __future__ import annotations

import itertools
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from petct_uad.core.errors import TeacherError
from petct_uad.teachers.params import TeacherParams
from petct_uad.teachers.weights import load_network, normalisation, state_sha256

# The maps of so few images stay in a CPU's cache: two thirds of the time per image of 64.
CACHED_IMAGES = 4
# Likewise where tokens are made of the maps: more take a third longer each. Fewer do, too.
TOKENS_CACHED_IMAGES = 16
# Fewer leave a GPU idle; of more, the maps of a large CNN at 512 px would not fit into 16 GiB.
DEVICE_IMAGES = 64


class CnnTeacher(nn.Module):
    """Stem and blocks of an ImageNet CNN, without its classifier; never trained.

    Batch normalisation is folded into the convolutions, which are channels-last: on a CPU that is
    2.7 times as fast as timm's network, and the same to 4e-6 of the largest value.

    Attributes:
        channels: of the output of each block, in order.
        strides: of the same.
        channels_at: of the deepest block of each stride.
        sha256: of the weights as they were given, for configuration and lineage.
    """

    def __init__(self, network: nn.Module, *, fold: bool = True) -> None:
        super().__init__()
        self.stem, self.blocks = _stem_and_blocks(network)
        self.sha256 = state_sha256(self)
        if fold:
            _fold_batch_norms(self)
            self.to(memory_format=torch.channels_last)
        self.normalise = normalisation(network)
        self.requires_grad_(False).eval()
        probe = self.block_outputs(torch.zeros(1, 1, 64, 64))
        self.channels = tuple(output.shape[1] for output in probe)
        self.strides = tuple(64 // output.shape[-1] for output in probe)
        self.channels_at = dict(zip(self.strides, self.channels, strict=True))

    @classmethod
    def load(cls, params: TeacherParams, *, fold: bool = True) -> Self:
        """The teacher that params name.

        Args:
            params: network and weights.
            fold: False keeps the network as timm has it, for a model that trains it further.

        Raises:
            TeacherError: the weights are missing or do not fit, or the network is no CNN.
        """
        return cls(load_network(params), fold=fold)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: batch statistics of the teacher are frozen."""
        return super().train(False)

    @torch.no_grad()
    def block_outputs(self, images: Tensor, count: int | None = None) -> list[Tensor]:
        """What :meth:`forward` gives, without gradients."""
        return self.forward(images, count)

    def forward(self, images: Tensor, count: int | None = None) -> list[Tensor]:
        """Outputs (B, C_i, H_i, W_i) of the first ``count`` blocks, by default of all.

        Args:
            images: (B, 1 or 3, S, S) in [0, 1].
            count: later blocks are not run.
        """
        x = self.stem(self.normalise(images))
        outputs = []
        for block in self.blocks[:count]:
            x = block(x)
            outputs.append(x)
        return outputs

    def features(
        self,
        images: Tensor,
        deepest: int = 32,
        at_once: int | None = None,
        enlarge: int = 1,
    ) -> dict[int, Tensor]:
        """The deepest feature map (B, C, E S/stride, E S/stride) of each stride from 4 on.

        Args:
            images: (B, 1 or 3, S, S) in [0, 1].
            deepest: the last stride that is wanted.
            at_once: how many images of S px the network sees on a CPU, by default all;
                :data:`CACHED_IMAGES` are faster there, and the same to the last bits only. See
                :func:`split_images`.
            enlarge: E, how many times larger the network sees the images.
        """
        if at_once is not None:
            few = max(at_once // enlarge**2, 1)
            split = split_images(images, few)
            parts = [self.features(part, deepest, enlarge=enlarge) for part in split]
            return {stride: torch.cat([part[stride] for part in parts]) for stride in parts[0]}
        if enlarge > 1:
            images = F.interpolate(images, scale_factor=enlarge, mode="bilinear")
        count = sum(stride <= deepest for stride in self.strides)
        outputs = zip(self.strides, self.block_outputs(images, count), strict=False)
        # Gradients of a student's kernels come in the usual order and would else be copied.
        return {stride: output.contiguous() for stride, output in outputs if stride >= 4}


def split_images(images: Tensor, on_cpu: int) -> tuple[Tensor, ...]:
    """Images (B, ...) in batches of ``on_cpu``, or of :data:`DEVICE_IMAGES` where that is a GPU."""
    return torch.split(images, on_cpu if images.device.type == "cpu" else DEVICE_IMAGES)


def _stem_and_blocks(network: nn.Module) -> tuple[nn.Sequential, nn.ModuleList]:
    parts = dict(network.named_children())
    if "conv_stem" in parts:  # EfficientNet
        stem = nn.Sequential(parts["conv_stem"], parts["bn1"])
        stages = list(cast("nn.Sequential", parts["blocks"]))
    elif "layer1" in parts:  # ResNet
        stem = nn.Sequential(*(parts[name] for name in ("conv1", "bn1", "act1", "maxpool")))
        stages = [parts[f"layer{number}"] for number in (1, 2, 3, 4)]
    else:
        raise TeacherError(
            f"{type(network).__name__}: gives no feature maps by stride. Set teacher.name to "
            "efficientnet_lite0 or wide_resnet50_2 for this model."
        )
    blocks = [block for stage in stages for block in cast("nn.Sequential", stage)]
    return stem, nn.ModuleList(blocks)


def _fold_batch_norms(module: nn.Module) -> None:
    """Let each convolution take in the batch normalisation that follows it.

    timm and torchvision register the two one after the other, as they run.
    """
    for parent in list(module.modules()):
        for first, second in itertools.pairwise(list(parent._modules)):
            conv, norm = parent._modules[first], parent._modules[second]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                parent._modules[first] = fuse_conv_bn_eval(conv, norm)
                parent._modules[second] = _after_norm(norm)


def _after_norm(norm: nn.BatchNorm2d) -> nn.Module:
    """What timm's BatchNormAct2d does besides normalising."""
    after = [getattr(norm, name, None) for name in ("drop", "act")]
    return nn.Sequential(*(module for module in after if isinstance(module, nn.Module)))
