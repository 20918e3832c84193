"""The encoder (frozen, trained on, or from scratch) and the decoder that mirrors it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise

from torch import Tensor, nn

from petct_uad.core.errors import ParamsError
from petct_uad.models.hetero_ae.blocks import StageSize, stage
from petct_uad.teachers.cnn import CnnTeacher


class Encoder(nn.Module, ABC):
    """Feature maps of an image, F_E^1 to F_E^4 in the paper (section III-B)."""

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 1, S, S) in [0, 1] to (B, C_k, S/s, S/s) for each stride s, finest first."""


class FrozenEncoder(Encoder):
    """An ImageNet CNN as it is."""

    def __init__(self, teacher: CnnTeacher, strides: Sequence[int]) -> None:
        super().__init__()
        self.teacher = teacher
        self.strides = strides

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        features = self.teacher.features(images, self.strides[-1])
        return tuple(features[stride] for stride in self.strides)


class TrainedEncoder(Encoder):
    """An ImageNet CNN from which training starts; its batch statistics stay.

    Attributes:
        sha256: of the weights that it starts from.
    """

    def __init__(self, teacher: CnnTeacher, strides: Sequence[int]) -> None:
        super().__init__()
        self.sha256 = teacher.sha256
        self.strides = strides
        self.network = deepcopy(teacher).requires_grad_(True)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        deepest = dict(zip(self.network.strides, self.network(images), strict=True))
        return tuple(deepest[stride] for stride in self.strides)


class ScratchEncoder(Encoder):
    """Stages of the decoder's own blocks, for the homogeneous rows of Tables II and IV.

    Attributes:
        sha256: of the teacher's weights, whose channels it has and whose values it does not use.
    """

    def __init__(self, kind: str, teacher: CnnTeacher, sizes: Sequence[StageSize]) -> None:
        super().__init__()
        self.sha256 = teacher.sha256
        finest = sizes[0]
        self.stem = nn.Conv2d(1, finest.channels, finest.stride, stride=finest.stride)
        self.stages = nn.ModuleList(stage(kind, size.channels, size) for size in sizes)
        self.shrink = nn.ModuleList(
            nn.Conv2d(fine.channels, coarse.channels, 3, stride=2, padding=1)
            for fine, coarse in pairwise(sizes)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        outputs = [self.stages[0](self.stem(images))]
        for shrink, block in zip(self.shrink, self.stages[1:], strict=True):
            outputs.append(block(shrink(outputs[-1])))
        return tuple(outputs)


class Decoder(nn.Module):
    """Modules that double the scale; module k gives F_D^(4 - k) in the paper (Fig. 2a)."""

    def __init__(self, kind: str, sizes: Sequence[StageSize]) -> None:
        super().__init__()
        modules = []
        entering = sizes[-1].channels
        for target, source in reversed(list(pairwise(sizes))):
            own = StageSize(target.channels, source.stride, source.side)
            modules.append(DecoderModule(kind, entering, own, target.side))
            entering = target.channels
        self.stages = nn.ModuleList(modules)

    def forward(self, deepest: Tensor) -> tuple[Tensor, ...]:
        """The deepest map to all others, shallow to deep: F_E^4 to F_D^1, F_D^2, F_D^3."""
        outputs = []
        x = deepest
        for module in self.stages:
            x = module(x)
            outputs.append(x)
        return tuple(outputs[::-1])


class DecoderModule(nn.Module):
    """A stage at its input's scale, then a 2x2 transposed convolution."""

    def __init__(self, kind: str, entering: int, size: StageSize, side: int) -> None:
        super().__init__()
        self.side = side
        self.body = stage(kind, entering, size)
        self.up = nn.ConvTranspose2d(size.channels, size.channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, entering, n, n) to (B, C, side, side), where side is 2n or 2n - 1."""
        doubled: Tensor = self.up(self.body(x))
        return doubled[..., : self.side, : self.side]


class PixelHead(nn.Module):
    """F_D^1 to an image in [0, 1], for the comparison of pixels (Table IV)."""

    def __init__(self, finest: StageSize) -> None:
        super().__init__()
        channels = finest.channels
        doublings = finest.stride.bit_length() - 1
        self.layers = nn.Sequential(
            *(layer for _ in range(doublings) for layer in _doubled(channels)),
            nn.Conv2d(channels, 1, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_1, S/s, S/s) of the finest stride s to (B, 1, S, S)."""
        image: Tensor = self.layers(x)
        return image


def build_encoder(
    kind: str, teacher: CnnTeacher, train_encoder: bool, sizes: Sequence[StageSize]
) -> Encoder:
    """``teacher`` frozen or trained on, or another ``kind`` of stage from scratch."""
    if kind != "teacher":
        return ScratchEncoder(kind, teacher, sizes)
    strides = [size.stride for size in sizes]
    return TrainedEncoder(teacher, strides) if train_encoder else FrozenEncoder(teacher, strides)


def stage_sizes(
    teacher: CnnTeacher, strides: Sequence[int], image_size_px: int
) -> tuple[StageSize, ...]:
    """Sizes of the feature maps of strides, finest first: F_E^1 to F_E^4.

    Raises:
        ParamsError: the teacher lacks a feature map of one of the strides.
    """
    channels = dict(zip(teacher.strides, teacher.channels, strict=True))
    if missing := [stride for stride in strides if stride not in channels]:
        raise ParamsError(f"teacher.name: gives no feature map at stride {missing[0]}")
    return tuple(StageSize.of(channels[stride], stride, image_size_px) for stride in strides)


def _doubled(channels: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return (
        nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )
