"""The student of reverse distillation: one-class bottleneck and mirrored decoder.

Deng & Li, "Anomaly detection via reverse distillation from one-class embedding" (CVPR 2022), for
residual blocks of any width. ``width`` = 64 on a ResNet is RD4AD itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from petct_uad.core.errors import ParamsError
from petct_uad.teachers.cnn import CnnTeacher

Convolution = nn.Conv2d | nn.ConvTranspose2d
Resize = Literal["keep", "halve", "double"]

STRIDES = (4, 8, 16)
_BASE_WIDTH = 64  # of a ResNet's first stage
_BLOCKS_OF_OTHER_TEACHERS = 2  # of ResNet-18


@dataclass(frozen=True)
class Layout:
    """What the student copies from its teacher.

    Attributes:
        channels: of the teacher's maps at strides 4, 8 and 16.
        blocks: residual blocks of the decoder's stages, deepest first, then of the bottleneck.
        bottleneck: blocks of three convolutions (ResNet-50 and wider), or of two.
        spread: width of the middle convolution, in planes of a block of three.
        groups: of the middle convolution.
        width: planes of the stage at stride 4; they double with each stride.
    """

    channels: tuple[int, int, int]
    blocks: tuple[int, int, int, int]
    bottleneck: bool
    spread: int
    groups: int
    width: int

    @classmethod
    def of(cls, teacher: CnnTeacher, width: int) -> Layout:
        """Of a teacher; one that is no ResNet gets the blocks of ResNet-18.

        Raises:
            ParamsError: the teacher has no maps at strides 4, 8 and 16, or its groups do not
                divide the width.
        """
        deepest = dict(zip(teacher.strides, teacher.channels, strict=True))
        if any(stride not in deepest for stride in STRIDES):
            raise ParamsError(f"SCRD4AD needs strides 4, 8, 16; the teacher has {sorted(deepest)}")
        channels = (deepest[4], deepest[8], deepest[16])
        first = teacher.blocks[0]
        if not (hasattr(first, "conv2") and hasattr(first, "downsample")):
            blocks = (_BLOCKS_OF_OTHER_TEACHERS,) * 4
            return cls(channels, blocks, bottleneck=False, spread=1, groups=1, width=width)
        middle = cast("nn.Conv2d", first.conv2)
        if width % middle.groups:
            raise ParamsError(
                f"models.scrd4ad.width = {width}: must be a multiple of the "
                f"teacher's {middle.groups} groups"
            )
        counts = Counter(teacher.strides)
        return cls(
            channels,
            (counts[4], counts[8], counts[16], counts[32]),  # RD4AD does not reverse them
            bottleneck=hasattr(first, "conv3"),
            spread=middle.out_channels // _BASE_WIDTH,
            groups=middle.groups,
            width=width,
        )

    @property
    def expansion(self) -> int:
        """Output channels of a block per plane."""
        return 4 if self.bottleneck else 1

    def outputs(self, stage: int) -> int:
        """Channels of the stage at stride 4 * 2^stage."""
        return (self.width * self.expansion) << stage


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
    """OCBE: three maps fused at stride 16, then embedded in one at stride 32."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        shallow, middle, deep = layout.channels
        eighth, sixteenth = layout.outputs(1), layout.outputs(2)
        self.from_4 = nn.Sequential(
            *_unit(_conv3(shallow, eighth, "halve")), *_unit(_conv3(eighth, sixteenth, "halve"))
        )
        self.from_8 = nn.Sequential(*_unit(_conv3(middle, sixteenth, "halve")))
        planes = 8 * layout.width
        self.embed = nn.Sequential(
            ResidualBlock(layout, 2 * sixteenth + deep, planes, "halve"),
            *(
                ResidualBlock(layout, planes * layout.expansion, planes)
                for _ in range(1, layout.blocks[3])
            ),
        )

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        """phi (B, C', S/32, S/32), rounded up, of maps at strides 4, 8 and 16."""
        fused = torch.cat([self.from_4(features[0]), self.from_8(features[1]), features[2]], 1)
        phi: Tensor = self.embed(fused)
        return phi


class Decoder(nn.Module):
    """From the embedding back to the teacher's maps, deepest first."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        widths = [layout.outputs(stage) for stage in (3, 2, 1, 0)]
        self.stages = nn.ModuleList(
            nn.Sequential(
                ResidualBlock(layout, inputs, outputs // layout.expansion, "double"),
                *(
                    ResidualBlock(layout, outputs, outputs // layout.expansion)
                    for _ in range(1, count)
                ),
            )
            for inputs, outputs, count in zip(widths, widths[1:], layout.blocks, strict=False)
        )
        # A ResNet's maps end in a ReLU, as those of a mirrored stage do. Others need not, and
        # a stage of another width has other channels: then a linear layer makes the map.
        mirrored = tuple(reversed(widths[1:])) == layout.channels
        self.heads = nn.ModuleList(
            nn.Identity() if mirrored else nn.Conv2d(outputs, channels, 1)
            for outputs, channels in zip(widths[1:], reversed(layout.channels), strict=True)
        )

    def forward(self, phi: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Maps at strides 4, 8 and 16, of these heights; phi's is rounded up, so that some crop."""
        decoded = []
        for stage, head, size in zip(self.stages, self.heads, reversed(sizes), strict=True):
            phi = stage(phi)[..., :size, :size]
            decoded.append(head(phi))
        return tuple(reversed(decoded))


def initialise(student: nn.Module) -> None:
    """He's initialisation of convolutions, as in RD4AD; transposed ones keep torch's own."""
    for module in student.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


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
