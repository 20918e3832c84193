"""The student of reverse distillation: one-class bottleneck and mirrored decoder.

Deng & Li, "Anomaly detection via reverse distillation from one-class embedding" (CVPR 2022), for
residual blocks of any width. ``width`` = 64 on a ResNet is RD4AD itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn

from petct_uad.core.errors import ParamsError
from petct_uad.teachers.cnn import CnnTeacher

Convolution = nn.Conv2d | nn.ConvTranspose2d
Resize = Literal["keep", "halve", "double"]

_FIRST_STRIDE = 4
_BASE_WIDTH = 64  # of a ResNet's first stage
_BLOCKS_OF_OTHER_TEACHERS = 2  # of ResNet-18


@dataclass(frozen=True)
class Layout:
    """What the student copies from its teacher.

    Attributes:
        channels: of the teacher's map of each stride, finest first.
        stages: residual blocks of the teacher's stages, from stride 4 to 32. The decoder takes as
            many as it has stages, deepest first, since RD4AD does not reverse them; the last is
            the bottleneck's.
        bottleneck: blocks of three convolutions (ResNet-50 and wider), or of two.
        spread: width of the middle convolution, in planes of a block of three.
        groups: of the middle convolution.
        width: planes of the stage at stride 4; they double with each stride.
    """

    channels: Mapping[int, int]
    stages: tuple[int, int, int, int]
    bottleneck: bool
    spread: int
    groups: int
    width: int

    @classmethod
    def of(cls, teacher: CnnTeacher, channels: Mapping[int, int], width: int) -> Layout:
        """Of a teacher; one that is no ResNet gets the blocks of ResNet-18.

        Raises:
            ParamsError: the teacher's groups do not divide the width.
        """
        first = teacher.blocks[0]
        if not (hasattr(first, "conv2") and hasattr(first, "downsample")):
            stages = (_BLOCKS_OF_OTHER_TEACHERS,) * 4
            return cls(channels, stages, bottleneck=False, spread=1, groups=1, width=width)
        middle = cast("nn.Conv2d", first.conv2)
        if width % middle.groups:
            raise ParamsError(
                f"models.scrd4ad.width = {width}: must be a multiple of the "
                f"teacher's {middle.groups} groups"
            )
        counts = Counter(teacher.strides)
        return cls(
            channels,
            (counts[4], counts[8], counts[16], counts[32]),
            bottleneck=hasattr(first, "conv3"),
            spread=middle.out_channels // _BASE_WIDTH,
            groups=middle.groups,
            width=width,
        )

    @property
    def finest(self) -> int:
        """The stride of the largest map."""
        return min(self.channels)

    @property
    def deepest(self) -> int:
        """The stride of the smallest map, at which the bottleneck joins all; it embeds at twice."""
        return max(self.channels)

    @property
    def decoded(self) -> tuple[int, ...]:
        """Strides of the decoder's stages, deepest first, those between two maps included."""
        return _halves(self.deepest, self.finest)

    @property
    def expansion(self) -> int:
        """Output channels of a block per plane."""
        return 4 if self.bottleneck else 1

    @property
    def embedding(self) -> int:
        """Channels of phi."""
        return self.outputs(2 * self.deepest)

    def outputs(self, stride: int) -> int:
        """Channels of the student's stage at a stride."""
        return self.width * self.expansion * stride // _FIRST_STRIDE


class ResidualBlock(nn.Module):
    """A ResNet block that keeps, halves or doubles the size of the map."""

    def __init__(self, layout: Layout, inputs: int, planes: int, resize: Resize = "keep") -> None:
        super().__init__()
        outputs = planes * layout.expansion
        if layout.bottleneck:
            middle = planes * layout.spread
            self.body = nn.Sequential(
                *_unit(nn.Conv2d(inputs, middle, 1, bias=False)),
                *_unit(_conv3(middle, middle, resize, layout.groups)),
                *_unit(nn.Conv2d(middle, outputs, 1, bias=False))[:-1],
            )
        else:
            self.body = nn.Sequential(
                *_unit(_conv3(inputs, planes, resize)),
                *_unit(_conv3(planes, planes, "keep"))[:-1],
            )
        self.skip = _skip(inputs, outputs, resize)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        y: Tensor = self.body(x)
        return torch.relu_(y.add_(self.skip(x)))


class Bottleneck(nn.Module):
    """OCBE: all maps fused at the deepest one's stride, then embedded in one at twice that."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        *finer, deepest = layout.channels
        self.shrink = nn.ModuleList(_shrink(layout, stride) for stride in finer)
        fused = len(finer) * layout.outputs(deepest) + layout.channels[deepest]
        planes = layout.embedding // layout.expansion
        self.embed = nn.Sequential(
            ResidualBlock(layout, fused, planes, "halve"),
            *(ResidualBlock(layout, layout.embedding, planes) for _ in range(1, layout.stages[3])),
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """phi (B, C', h, h) of the maps, finest first; h is half the last one's, rounded up."""
        *finer, deepest = features
        shrunk = [shrink(x) for shrink, x in zip(self.shrink, finer, strict=True)]
        phi: Tensor = self.embed(torch.cat([*shrunk, deepest], 1))
        return phi


class Decoder(nn.Module):
    """From the embedding back to the teacher's maps, deepest first."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.strides = layout.decoded
        widths = [layout.embedding, *(layout.outputs(stride) for stride in self.strides)]
        self.stages = nn.ModuleList(
            nn.Sequential(
                ResidualBlock(layout, inputs, outputs // layout.expansion, "double"),
                *(
                    ResidualBlock(layout, outputs, outputs // layout.expansion)
                    for _ in range(1, count)
                ),
            )
            for inputs, outputs, count in zip(widths, widths[1:], layout.stages, strict=False)
        )
        # A ResNet's maps end in a ReLU, as those of a mirrored stage do. Others need not, and
        # a stage of another width has other channels: then a linear layer makes the map.
        given = layout.channels
        mirrored = all(layout.outputs(stride) == count for stride, count in given.items())
        self.heads = nn.ModuleDict(
            {
                str(stride): nn.Identity()
                if mirrored
                else nn.Conv2d(layout.outputs(stride), given[stride], 1)
                for stride in self.strides
                if stride in given
            }
        )

    def forward(self, phi: Tensor, side: int) -> tuple[Tensor, ...]:
        """The teacher's maps, finest first, the first of this side.

        phi's side is rounded up, as are the teacher's, so that what is doubled may need cropping.
        """
        decoded = []
        for stride, stage in zip(self.strides, self.stages, strict=True):
            own = -(-side * self.strides[-1] // stride)
            phi = stage(phi)[..., :own, :own]
            if str(stride) in self.heads:
                decoded.append(self.heads[str(stride)](phi))
        return tuple(reversed(decoded))


def initialise(student: nn.Module) -> None:
    """He's initialisation of convolutions, as in RD4AD; transposed ones keep torch's own."""
    for module in student.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _shrink(layout: Layout, stride: int) -> nn.Sequential:
    """From the teacher's map at a stride to the student's width at the deepest one."""
    coarser = _halves(layout.deepest, 2 * stride)[::-1]
    widths = [layout.channels[stride], *(layout.outputs(own) for own in coarser)]
    units = (_unit(_conv3(*pair, "halve")) for pair in pairwise(widths))
    return nn.Sequential(*chain.from_iterable(units))


def _halves(deepest: int, finest: int) -> tuple[int, ...]:
    """Strides from the deepest to the finest, each half the one before."""
    return tuple(deepest >> step for step in range((deepest // finest).bit_length()))


def _unit(convolution: Convolution) -> tuple[nn.Module, nn.Module, nn.Module]:
    return convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True)


def _conv3(inputs: int, outputs: int, resize: Resize, groups: int = 1) -> Convolution:
    if resize == "double":
        return nn.ConvTranspose2d(inputs, outputs, 2, stride=2, groups=groups, bias=False)
    stride = 2 if resize == "halve" else 1
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, groups=groups, bias=False)


def _skip(inputs: int, outputs: int, resize: Resize) -> nn.Module:
    if resize == "keep" and inputs == outputs:
        return nn.Identity()
    if resize == "double":
        resample: nn.Module = nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False)
    else:
        resample = nn.Conv2d(inputs, outputs, 1, 2 if resize == "halve" else 1, bias=False)
    return nn.Sequential(resample, nn.BatchNorm2d(outputs))
