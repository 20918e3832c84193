"""The student's two decoding branches and the Multi-Feature Model (section III-C).

Shapes: B batch, S image side, W ``params.width`` (the paper's 256), C channels of the teacher.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from petct_uad.models.hdhkd.params import HdhkdParams
from petct_uad.ops.selective_scan.ss2d import SS2D

_HEAD_WIDTH = 32
_MLP_RATIO = 4


def conv_block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution, normalisation and activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Decoder(nn.Module):
    """Branches of ``params``, then their fusion: (B, W, S/16, S/16) to (B, C, S/4, S/4)."""

    def __init__(self, params: HdhkdParams, channels: int, grid: int) -> None:
        super().__init__()
        narrow = params.width // 2
        self.conv = ConvUpsample(params.width) if params.conv_branch else None
        self.mamba = MambaUpNet(params, grid) if params.mamba_branch else None
        widths = [params.width] * params.conv_branch + [narrow] * params.mamba_branch
        self.fuse = MultiFeature(widths, narrow) if params.multi_feature else None
        fused = narrow * len(widths) if params.multi_feature else sum(widths)
        self.out = nn.Conv2d(fused, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """f_se to f_sd."""
        features = [branch(x) for branch in (self.conv, self.mamba) if branch is not None]
        fused = torch.cat(features, 1) if self.fuse is None else self.fuse(features)
        out: Tensor = self.out(fused)
        return out


class ConvUpsample(nn.Module):
    """Eq. 3: upsample and convolve, twice: (B, W, S/16, S/16) to (B, W, S/4, S/4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv_block(width, width)
        self.second = conv_block(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """f_se to f_local."""
        halfway = self.first(F.interpolate(x, scale_factor=2, mode="bilinear"))
        out: Tensor = self.second(F.interpolate(halfway, scale_factor=2, mode="bilinear"))
        return out


class MambaUpNet(nn.Module):
    """Algorithm 1: upsample, PatchExpand, then a stack of blocks.

    (B, W, S/16, S/16) to (B, W/2, S/4, S/4).
    """

    def __init__(self, params: HdhkdParams, grid: int) -> None:
        super().__init__()
        width = params.width // 2
        self.expand = nn.Linear(params.width, 4 * width)
        count = 1 if params.decoder == "fcn" else params.blocks
        self.blocks = nn.Sequential(*(MixerBlock(params, width, grid) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        """f_se to f_global."""
        x = F.interpolate(x, scale_factor=2, mode="bilinear")
        x = self.expand(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # twice as many channels
        out: Tensor = self.blocks(F.pixel_shuffle(x, 2))
        return out


class MixerBlock(nn.Module):
    """LayerNorm, a mixer of tokens, skip, convolution, dropout: (B, w, H, H) to the same."""

    def __init__(self, params: HdhkdParams, width: int, grid: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mixer = _mixer(params, width, grid)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Algorithm 1, lines 13 to 15."""
        mixed = self.mixer(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        out: Tensor = self.dropout(self.conv(mixed + x))
        return out


class MultiFeature(nn.Module):
    """Eq. 4 without its last convolution: branches (B, w_i, H, H) to (B, n w, H, H)."""

    def __init__(self, inputs: list[int], width: int) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv2d(count, width, 1) for count in inputs)
        joint = width * len(inputs)
        self.separable = nn.Sequential(
            nn.Conv2d(joint, joint, 3, padding=1, groups=joint), nn.Conv2d(joint, joint, 1)
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """f_local and f_global to f_m times f_m'."""
        pairs = zip(self.reduce, features, strict=True)
        joint = torch.cat([reduce(x) for reduce, x in pairs], 1)
        context = self.separable(F.max_pool2d(joint, 2))
        return joint * F.interpolate(context, size=joint.shape[-2:], mode="bilinear")


class Scan(nn.Module):
    """SS2D with expansion 1: (B, H, H, w) to the same."""

    def __init__(self, params: HdhkdParams, width: int) -> None:
        super().__init__()
        self.ss2d = SS2D(width, state=params.ssm_state, expand=1, branches=1, backend=params.scan)

    def forward(self, tokens: Tensor) -> Tensor:  # noqa: D102
        mixed: Tensor = self.ss2d(tokens.contiguous()[None])
        return mixed[0]


class Dense(nn.Module):
    """One fully connected layer over all positions (Table VII, FCN): (B, H, H, w) to the same."""

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.linear = nn.Linear(grid * grid, grid * grid)

    def forward(self, tokens: Tensor) -> Tensor:  # noqa: D102
        mixed: Tensor = self.linear(tokens.flatten(1, 2).transpose(1, 2))
        return mixed.transpose(1, 2).view(tokens.shape)


class Transformer(nn.Module):
    """Softmax attention and an MLP (Table VII, Transformer): (B, H, H, w) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(
            width,
            nhead=max(width // _HEAD_WIDTH, 1),
            dim_feedforward=_MLP_RATIO * width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )

    def forward(self, tokens: Tensor) -> Tensor:  # noqa: D102
        mixed: Tensor = self.layer(tokens.flatten(1, 2))
        return mixed.view(tokens.shape)


class Convolution(nn.Module):
    """A 3x3 convolution (Table VII, Conv): (B, H, H, w) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block = conv_block(width, width)

    def forward(self, tokens: Tensor) -> Tensor:  # noqa: D102
        mixed: Tensor = self.block(tokens.permute(0, 3, 1, 2))
        return mixed.permute(0, 2, 3, 1)


def _mixer(params: HdhkdParams, width: int, grid: int) -> nn.Module:
    if params.decoder == "fcn":
        return Dense(grid)
    if params.decoder == "transformer":
        return Transformer(width)
    if params.decoder == "conv":
        return Convolution(width)
    return Scan(params, width) if params.ss2d else nn.Identity()
