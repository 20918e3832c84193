"""What a stage of an encoder or a decoder is made of, by name.

Every block keeps its shape (B, C, n, n). Convolutions carry batch normalisation, as in ResNet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from timm.models._efficientnet_blocks import InvertedResidual
from timm.models.pvt_v2 import Block as PvtBlock
from timm.models.resnet import BasicBlock
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn
from torch.nn import functional as F

from petct_uad.core.errors import ParamsError

_MLP_RATIO = 4
_POSITION_STD = 0.02
_DEEPEST_STRIDE = 32
_DEPTH = 2  # blocks per stage of Table II's other decoders; the paper does not say


@dataclass(frozen=True)
class StageSize:
    """Where a stage stands.

    Attributes:
        channels: C of its features.
        stride: image pixels per feature, 4 to 32.
        side: n, features along an edge.
    """

    channels: int
    stride: int
    side: int

    @classmethod
    def of(cls, channels: int, stride: int, image_size_px: int) -> StageSize:
        """Strided convolutions round up."""
        return cls(channels, stride, -(-image_size_px // stride))

    @property
    def heads(self) -> int:
        """8, 4, 2 from stride 32 on (section IV-B)."""
        return max(self.stride // 4, 2)

    @property
    def patches(self) -> tuple[int, int]:
        """p1, p2 = 2 p1: (1, 2), (2, 4), (4, 8) from stride 32 on (section IV-B)."""
        return self.reduction, 2 * self.reduction

    @property
    def reduction(self) -> int:
        """How far keys and values shrink so that their grid is that of stride 32."""
        return _DEEPEST_STRIDE // self.stride


def stage(kind: str, entering: int, size: StageSize) -> nn.Module:
    """(B, entering, n, n) to (B, C, n, n).

    Args:
        kind: two branches (``hybrid``, ``cnn``, ``transformer``) or a stack of a known network's
            blocks (``resnet``, ``efficientnet``, ``swin``, ``pvt``, ``cmt``).
        entering: channels of what comes in.
        size: of the stage.

    Raises:
        ParamsError: an attention's heads do not divide the channels.
    """
    if kind not in ("cnn", "resnet", "efficientnet") and size.channels % size.heads:
        raise ParamsError(
            f"models.hetero_ae.decoder = {kind!r}: {size.heads} heads at stride {size.stride} do "
            f"not divide the teacher's {size.channels} channels; take cnn, or another teacher"
        )
    if kind in _BRANCHES:
        return DualStage(entering, size, _BRANCHES[kind])
    return nn.Sequential(nn.Conv2d(entering, size.channels, 1), *_STACKS[kind](size))


class DualStage(nn.Module):
    """The hybrid CNN-Transformer module (Fig. 2c) without its upsampling."""

    def __init__(
        self, entering: int, size: StageSize, branches: tuple[Callable[[StageSize], nn.Module], ...]
    ) -> None:
        super().__init__()
        self.adjust = nn.ModuleList(nn.Conv2d(entering, size.channels, 1) for _ in branches)
        self.branches = nn.ModuleList(branch(size) for branch in branches)
        self.join = _conv(len(branches) * size.channels, size.channels, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, entering, n, n) to (B, C, n, n)."""
        pairs = zip(self.adjust, self.branches, strict=True)
        joined: Tensor = self.join(torch.cat([branch(adjust(x)) for adjust, branch in pairs], 1))
        return joined


def conv_branch(size: StageSize) -> nn.Sequential:
    """Two 3x3 convolutions, C to 2C to C."""
    return nn.Sequential(
        _conv(size.channels, 2 * size.channels, kernel=3),
        _conv(2 * size.channels, size.channels, kernel=3),
    )


class Mstb(nn.Module):
    """Multi-scale sparse transformer block (section III-C): every position asks two coarser grids.

    Half the heads read patches of p1, half patches of p2.
    """

    def __init__(self, size: StageSize) -> None:
        super().__init__()
        channels = size.channels
        self.heads = size.heads
        self.position = _position(size.side, channels)
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.regions = nn.ModuleList(Region(size, patch) for patch in size.patches)
        self.out = nn.Linear(channels, channels)
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, _MLP_RATIO * channels),
            nn.GELU(),
            nn.Linear(_MLP_RATIO * channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Eqs. 1-3: (B, C, n, n) to the same."""
        local = _tokens(x) + self.position  # (B, N, C)
        query = _split_heads(self.query(self.norm(local)), self.heads)  # (B, h, N, C/h)
        halves = zip(query.chunk(2, dim=1), self.regions, strict=True)
        read = [F.scaled_dot_product_attention(half, *region(x)) for half, region in halves]
        local = local + self.out(_merge_heads(torch.cat(read, dim=1)))
        return _grid(local + self.mlp(local), x.shape[-1])


class Region(nn.Module):
    """Regional information: patches of p x p positions as keys and values of half the heads."""

    def __init__(self, size: StageSize, patch: int) -> None:
        super().__init__()
        self.heads = size.heads // 2
        self.pad = -size.side % patch
        self.project = nn.Conv2d(size.channels, size.channels, patch, stride=patch)
        self.position = _position((size.side + self.pad) // patch, size.channels)
        self.norm = nn.LayerNorm(size.channels)
        self.key_value = nn.Linear(size.channels, size.channels)  # half the width for each

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, n, n) to keys and values (B, h/2, N_p, C/h); an odd grid is padded with zeros."""
        patches = self.project(F.pad(x, (0, self.pad, 0, self.pad)))
        regional = self.norm(_tokens(patches) + self.position)
        key, value = self.key_value(regional).chunk(2, dim=-1)
        return _split_heads(key, self.heads), _split_heads(value, self.heads)


class _Swin(nn.Module):
    """timm's Swin block, which has its channels last."""

    def __init__(self, size: StageSize, shift: bool) -> None:
        super().__init__()
        window = min(7, size.side)
        self.block = SwinTransformerBlock(
            size.channels,
            (size.side, size.side),
            num_heads=size.heads,
            window_size=window,
            shift_size=window // 2 if shift else 0,
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x.permute(0, 2, 3, 1))
        return out.permute(0, 3, 1, 2)


class _Pvt(nn.Module):
    """timm's PVT v2 block, which sees tokens."""

    def __init__(self, size: StageSize) -> None:
        super().__init__()
        self.block = PvtBlock(
            size.channels, size.heads, _MLP_RATIO, sr_ratio=size.reduction, qkv_bias=True
        )

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.block(_tokens(x), list(x.shape[-2:]))
        return _grid(tokens, x.shape[-1])


class _Cmt(nn.Module):
    """Guo et al. 2022 (CMT): local perception, light attention, inverted-residual feed-forward."""

    def __init__(self, size: StageSize) -> None:
        super().__init__()
        channels, reduction = size.channels, size.reduction
        self.heads = size.heads
        self.local = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.reduce = nn.Conv2d(channels, channels, reduction, stride=reduction, groups=channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        reduced = (size.side // reduction) ** 2
        self.bias = nn.Parameter(torch.zeros(1, size.heads, size.side**2, reduced))
        self.out = nn.Linear(channels, channels)
        wide = _MLP_RATIO * channels
        self.widen = nn.Sequential(nn.Conv2d(channels, wide, 1), nn.GELU(), nn.BatchNorm2d(wide))
        self.depthwise = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.narrow = nn.Sequential(
            nn.GELU(), nn.BatchNorm2d(wide), nn.Conv2d(wide, channels, 1), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.local(x)
        x = x + self._attend(_grid(self.norm(_tokens(x)), x.shape[-1]))
        wide = self.widen(x)
        refined: Tensor = x + self.narrow(wide + self.depthwise(wide))
        return refined

    def _attend(self, x: Tensor) -> Tensor:
        query = _split_heads(self.query(_tokens(x)), self.heads)
        key, value = self.key_value(_tokens(self.reduce(x))).chunk(2, dim=-1)
        key, value = _split_heads(key, self.heads), _split_heads(value, self.heads)
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=self.bias)
        return _grid(self.out(_merge_heads(read)), x.shape[-1])


def _conv(entering: int, leaving: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(entering, leaving, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(leaving),
        nn.ReLU(inplace=True),
    )


def _position(side: int, channels: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, side**2, channels), std=_POSITION_STD))


def _tokens(x: Tensor) -> Tensor:
    """(B, C, n, n) to (B, N, C)."""
    return x.flatten(2).transpose(1, 2)


def _grid(tokens: Tensor, side: int) -> Tensor:
    """(B, N, C) to (B, C, n, n)."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, C) to (B, h, N, C/h)."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def _merge_heads(x: Tensor) -> Tensor:
    """(B, h, N, C/h) to (B, N, C)."""
    return x.transpose(1, 2).flatten(2)


def _stack(block: Callable[[StageSize], nn.Module], size: StageSize) -> Iterator[nn.Module]:
    return (block(size) for _ in range(_DEPTH))


_BRANCHES: dict[str, tuple[Callable[[StageSize], nn.Module], ...]] = {
    "hybrid": (conv_branch, Mstb),
    "cnn": (conv_branch, conv_branch),
    "transformer": (Mstb, Mstb),
}
_STACKS: dict[str, Callable[[StageSize], Iterator[nn.Module]]] = {
    "resnet": partial(_stack, lambda size: BasicBlock(size.channels, size.channels)),
    "efficientnet": partial(
        _stack, lambda size: InvertedResidual(size.channels, size.channels, exp_ratio=6.0)
    ),
    "swin": lambda size: (_Swin(size, shift) for shift in (False, True)),
    "pvt": partial(_stack, _Pvt),
    "cmt": partial(_stack, _Cmt),
}
