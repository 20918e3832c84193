"""The frozen encoder: hidden states of the blocks near its end, as tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self, cast

import torch
from timm.layers import build_sincos2d_pos_embed
from torch import Tensor, nn

from petct_uad.errors import ParamsError
from petct_uad.models.qfae.resize import resize
from petct_uad.params import TeacherParams
from petct_uad.teachers.cnn import CnnTeacher
from petct_uad.teachers.tokens import CnnTokens
from petct_uad.teachers.weights import load_network, state_sha256


class Encoder(nn.Module, ABC):
    """Hidden states of a frozen network.

    Attributes:
        width: length of a token.
    """

    width: int

    @property
    @abstractmethod
    def sha256(self) -> str:
        """Of the network's weights."""

    @abstractmethod
    def hidden(self, images: Tensor) -> Tensor:
        """(B, L N, width): the tokens of L hidden states after each other, for (B, 1, S, S)."""

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)


class VitEncoder(Encoder):
    """Outputs of single blocks of a ViT, counted from its end; prefix tokens dropped."""

    def __init__(
        self, params: TeacherParams, from_end: tuple[int, ...], image_size_px: int
    ) -> None:
        super().__init__()
        patch = 14 if "patch14" in params.name else 16
        self.side_px = max(round(image_size_px / patch), 1) * patch
        network = load_network(params, img_size=self.side_px, num_classes=0)
        blocks = cast("nn.Sequential", network.blocks)
        self.indices = indices_from_end(from_end, len(blocks))
        # Blocks past the last one read, and the final norm, cost memory only.
        network.blocks = blocks[: max(self.indices) + 1]
        network.norm = nn.Identity()
        self.network = network
        self.width = cast("int", network.embed_dim)
        config = cast("dict[str, tuple[float, ...]]", network.pretrained_cfg)
        self.register_buffer("mean", torch.tensor(config["mean"])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(config["std"])[:, None, None], persistent=False)
        self.mean: Tensor
        self.std: Tensor

    @property
    def sha256(self) -> str:  # noqa: D102
        return state_sha256(self.network)

    @torch.no_grad()
    def hidden(self, images: Tensor) -> Tensor:  # noqa: D102
        states: list[Tensor] = self.network.forward_intermediates(  # type: ignore[operator]
            (resize(images, self.side_px) - self.mean) / self.std,
            indices=list(self.indices),
            norm=False,
            output_fmt="NLC",
            intermediates_only=True,
        )
        return torch.cat(states, dim=1)


class CnnEncoder(Encoder):
    """Levels of the token teacher, counted from its end, with their positions added.

    A ViT's tokens know where they are, a CNN's do not: without a position the cross-attention
    could not tell one patch from another. It is the fixed sine and cosine embedding.
    """

    def __init__(self, tokens: CnnTokens, from_end: tuple[int, ...]) -> None:
        super().__init__()
        self.tokens = tokens
        self.width = tokens.width
        self.indices = indices_from_end(from_end, len(tokens.projections))
        position = sincos_grid(tokens.grid, tokens.width).repeat(len(self.indices), 1)
        self.position: Tensor
        self.register_buffer("position", position, persistent=False)

    @property
    def sha256(self) -> str:  # noqa: D102
        return self.tokens.sha256

    def hidden(self, images: Tensor) -> Tensor:  # noqa: D102
        return self.tokens.tokens(images)[:, self.indices].flatten(1, 2) + self.position


def load_encoder(
    params: TeacherParams, from_end: tuple[int, ...], width: int, image_size_px: int
) -> Encoder:
    """The encoder that params name; ``width`` is used for a CNN only.

    Raises:
        TeacherError: the weights are missing or do not fit.
        ParamsError: it has fewer blocks than are asked for.
    """
    if params.name.startswith("vit_"):
        return VitEncoder(params, from_end, image_size_px)
    return CnnEncoder(CnnTokens(CnnTeacher.load(params), width, image_size_px), from_end)


def indices_from_end(from_end: tuple[int, ...], count: int) -> tuple[int, ...]:
    """0-based, in ascending order: 1 is the last of ``count`` blocks."""
    if max(from_end) > count:
        raise ParamsError(
            f"models.qfae.hidden_states = {list(from_end)}: the teacher has {count} blocks"
        )
    return tuple(sorted(count - number for number in from_end))


def sincos_grid(side: int, width: int) -> Tensor:
    """(side², width): the sine and cosine embedding of a square grid, row by row."""
    position: Tensor = build_sincos2d_pos_embed([side, side], dim=width)
    return position
