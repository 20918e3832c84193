"""Frozen sources of levels of tokens: a ViT, or a CNN made to look like one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from petct_uad.teachers.cnn import TOKENS_CACHED_IMAGES, CnnTeacher, split_images
from petct_uad.teachers.params import NineBlocks, TeacherParams
from petct_uad.teachers.vit import VitTeacher

LEVELS = 9
_PROJECTION_SEED = 0


class TokenTeacher(nn.Module, ABC):
    """Nine levels of tokens from a frozen network, and what the shallowest of them is made from.

    Attributes:
        width: d, the length of a token.
        grid: side of the square token grid, so N = grid².
    """

    width: int
    grid: int

    @property
    @abstractmethod
    def sha256(self) -> str:
        """Of the network's weights, for configuration and lineage."""

    @abstractmethod
    def tokens(self, images: Tensor, count: int = LEVELS) -> Tensor:
        """(B, count, N, d) for (B, 1 or 3, S, S) in [0, 1], shallow to deep.

        Args:
            images: of one modality.
            count: how many levels, from the deepest up: 1 to 10. The tenth is what the first of
                the nine blocks reads: the block before it, or a ViT's patch embedding (CMAD's f1).
        """

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)


class CnnTokens(TokenTeacher):
    """Outputs of nine successive CNN blocks, as tokens on the S/16 grid.

    Each is resampled, layer-normalised over its channels and projected to ``width`` by a fixed,
    seeded matrix with orthonormal rows (or columns), which keeps angles where width allows.
    S is ``image_size_px``, to which images of another side are resized.
    """

    def __init__(
        self, teacher: CnnTeacher, width: int, image_size_px: int, nine: NineBlocks = "first"
    ) -> None:
        super().__init__()
        self.teacher = teacher
        self.width = width
        self.side_px = image_size_px
        self.grid = image_size_px // 16
        from_stride_8 = teacher.strides.index(8) + LEVELS
        self.end = from_stride_8 if nine == "first" else len(teacher.strides)
        below, *channels = teacher.channels[self.end - LEVELS - 1 : self.end]
        self.below = _orthogonal(below, width)  # of the block that the first of the nine reads
        self.projections = nn.ParameterList(_orthogonal(count, width) for count in channels)
        self.requires_grad_(False)

    @property
    def sha256(self) -> str:  # noqa: D102
        return self.teacher.sha256

    @torch.no_grad()
    def tokens(self, images: Tensor, count: int = LEVELS) -> Tensor:  # noqa: D102
        parts = split_images(images, TOKENS_CACHED_IMAGES)
        return torch.cat([self._tokens(few, count) for few in parts])

    def _tokens(self, images: Tensor, count: int) -> Tensor:
        size = (self.side_px,) * 2
        if images.shape[-2:] != size:
            images = F.interpolate(images, size=size, mode="bilinear", antialias=True)
        outputs = self.teacher.block_outputs(images, self.end)[-count:]
        projections = [self.below, *self.projections][-count:]
        return torch.stack(
            [self._project(x, p) for x, p in zip(outputs, projections, strict=True)], dim=1
        )

    def _project(self, x: Tensor, projection: Tensor) -> Tensor:
        if x.shape[-1] > self.grid:
            x = F.adaptive_avg_pool2d(x, self.grid)
        elif x.shape[-1] < self.grid:
            x = F.interpolate(x, size=(self.grid, self.grid), mode="bilinear")
        x = x.flatten(2).transpose(1, 2)  # (B, N, C)
        return F.layer_norm(x, x.shape[-1:]) @ projection


class VitTokens(TokenTeacher):
    """Outputs of nine blocks of a ViT, prefix tokens dropped (CMAD, section 4.2)."""

    def __init__(
        self, params: TeacherParams, image_size_px: int, nine: NineBlocks = "first"
    ) -> None:
        super().__init__()
        teacher = VitTeacher(params, image_size_px)
        self.end = LEVELS if nine == "first" else teacher.depth
        self.teacher = teacher.cut(self.end)
        self.width, self.grid = self.teacher.width, self.teacher.grid

    @property
    def sha256(self) -> str:  # noqa: D102
        return self.teacher.sha256

    @torch.no_grad()
    def tokens(self, images: Tensor, count: int = LEVELS) -> Tensor:  # noqa: D102
        size = (self.teacher.side_px,) * 2
        if images.shape[-2:] != size:
            images = F.interpolate(images, size=size, mode="bilinear", antialias=True)
        read = [self.teacher.embedding(images)] if count > self.end else []
        blocks = range(max(self.end - count, 0), self.end)
        return torch.stack([*read, *self.teacher.block_outputs(images, blocks)], dim=1)


def load_tokens(
    params: TeacherParams, width: int, image_size_px: int, nine: NineBlocks = "first"
) -> TokenTeacher:
    """The token teacher that params name; ``width`` is used for a CNN only.

    Raises:
        TeacherError: the weights are missing or do not fit.
    """
    if params.name.startswith("vit_"):
        return VitTokens(params, image_size_px, nine)
    return CnnTokens(CnnTeacher.load(params), width, image_size_px, nine)


def _orthogonal(rows: int, columns: int) -> nn.Parameter:
    generator = torch.Generator().manual_seed(_PROJECTION_SEED)
    return nn.Parameter(nn.init.orthogonal_(torch.empty(rows, columns), generator=generator))
