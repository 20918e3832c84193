"""The frozen encoder: hidden states of the blocks near its end, as tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import torch
from timm.layers import build_sincos2d_pos_embed
from torch import Tensor, nn

from petct_uad.core.errors import ParamsError
from petct_uad.models.qfae.images import resize
from petct_uad.teachers.cnn import CnnTeacher
from petct_uad.teachers.params import TeacherParams
from petct_uad.teachers.tokens import CnnTokens
from petct_uad.teachers.vit import VitTeacher


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
        self.network = VitTeacher(params, image_size_px)
        self.width = self.network.width
        self.indices = indices_from_end(from_end, self.network.depth)
        self.network.cut(max(self.indices) + 1)

    @property
    def sha256(self) -> str:  # noqa: D102
        return self.network.sha256

    def hidden(self, images: Tensor) -> Tensor:  # noqa: D102
        resized = resize(images, self.network.side_px)
        return torch.cat(self.network.block_outputs(resized, self.indices), dim=1)


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
