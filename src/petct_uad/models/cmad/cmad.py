"""CMAD, the Cross-Modality Anomaly Detection network (Xu et al. 2026), from top to bottom.

A frozen teacher gives levels of tokens of a PET and a CT slice. Two branches, one per modality,
turn the deepest level back into the nine below it, and see each other while they do. They learn
this on normal slices only; where they fail, the slice is abnormal.

Shapes: K branches (PET then CT, or one of them), B batch, N tokens, d width, L levels, h heads.
Deviations from the paper are listed in this folder's README.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from petct_uad.core.errors import ParamsError
from petct_uad.core.params.base import Modality
from petct_uad.models.cmad.params import CmadParams
from petct_uad.models.cmad.stacked import StackedLayerNorm, StackedLinear
from petct_uad.models.common.fusion import FusedMaps, MapFusion
from petct_uad.models.common.interface import Batch, GradientModel
from petct_uad.models.common.maps import score_maps
from petct_uad.models.with_teacher import TokenModel
from petct_uad.ops.selective_scan.ss2d import SS2D
from petct_uad.teachers.params import TeacherParams
from petct_uad.teachers.tokens import TokenTeacher, load_tokens

_MLP_RATIO = 4


class Cmad(FusedMaps, TokenModel[CmadParams], GradientModel):
    """Reverse distillation with two branches that exchange what they see."""

    bfloat16_pays_on_cpu = True

    def __init__(
        self, params: CmadParams, teacher: TokenTeacher, modality: Modality, image_size_px: int
    ) -> None:
        if teacher.width % params.heads:
            raise ParamsError(
                f"model.heads = {params.heads}: must divide the teacher's width {teacher.width}"
            )
        super().__init__(params, teacher, modality, image_size_px)
        self.decoder = Decoder(params, teacher.width, branches=2 if modality == "petct" else 1)
        self.fusion = MapFusion(params.fusion, self.decoder.branches)
        # The decoder's input is the deepest level; as Eq. 10 has it, no target equals it.
        self.first_target = 1 if params.targets == "below_input" else 0

    @classmethod
    def build(
        cls, params: CmadParams, teacher: TeacherParams, modality: Modality, image_size_px: int
    ) -> Self:
        """With the teacher that is named, which sees slices ``enlarge`` times as large."""
        side_px = params.enlarge * image_size_px
        tokens = load_tokens(teacher, params.width, side_px, params.nine)
        return cls(params, tokens, modality, image_size_px)

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """Teacher tokens (B, K, T, N, d) of the T levels that are read, shallow to deep."""
        images = self._inputs(batch)
        seen = images[:1] if _is_one_picture(images) else images
        read = self.first_target + self.params.levels
        tokens = self.teacher.tokens(torch.cat(seen), read)  # (K B, T, N, d), or of one plane
        tokens = tokens.view(len(seen), -1, *tokens.shape[1:]).transpose(0, 1)
        return (tokens.expand(-1, len(images), -1, -1, -1),)

    def loss(self, *prepared: Tensor) -> Tensor:
        """Eq. 10: 1 - cos, mean over slices and tokens, summed over levels and modalities."""
        return self._distances(*prepared).mean(dim=(2, 3)).sum()

    def modality_maps(self, batch: Batch) -> Tensor:
        """(K, B, S, S): each modality's mean over levels of 1 - cos, resized and smoothed."""
        with torch.no_grad():
            distances = self._distances(*self.prepare(batch)).mean(0)  # (K, B, N)
        grids = distances.view(*distances.shape[:2], self.teacher.grid, self.teacher.grid)
        return self._smoothed(grids)

    def score(self, maps: Tensor) -> Tensor:
        """(B,): the paper does not say how; ``score`` chooses."""
        return score_maps(maps, self.params.score, self.params.score_top_fraction)

    def _distances(self, prepared: Tensor) -> Tensor:
        """1 - cos between teacher and student tokens: (L, K, B, N), deepest level first."""
        levels = prepared.permute(2, 1, 0, 3, 4).flip(0)  # (T, K, B, N, d)
        return 1 - F.cosine_similarity(self.decoder(levels[0]), levels[self.first_target :], dim=-1)


class Decoder(nn.Module):
    """CMH, then one GFR stage per level, each for the next shallower target (Eq. 10)."""

    def __init__(self, params: CmadParams, width: int, branches: int) -> None:
        super().__init__()
        self.branches = branches
        self.hybrid = CrossModalityHybrid(params, width, branches)
        self.stages = nn.ModuleList(
            GlobalFusionRefinement(params, width, branches) for _ in range(params.levels)
        )

    def forward(self, deepest: Tensor) -> Tensor:
        """(K, B, N, d) of the deepest level to (L, K, B, N, d), deepest target first."""
        x = self.hybrid(deepest)
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return torch.stack(outputs)


class CrossModalityHybrid(nn.Module):
    """CMH (section 4.3): attention to prior tokens that both branches share, then an MLP."""

    def __init__(self, params: CmadParams, width: int, branches: int) -> None:
        super().__init__()
        # One branch has nothing to share tokens with (Table 4 disables CMH there).
        self.attention = (
            PriorTokenAttention(params.cmpt, width, params.heads, branches)
            if params.cmh and branches == 2
            else None
        )
        self.mlp = nn.Sequential(
            StackedLayerNorm(branches, width),
            StackedLinear(branches, width, _MLP_RATIO * width),
            nn.GELU(),
            StackedLinear(branches, _MLP_RATIO * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Eq. 3: (K, B, N, d) to the same."""
        if self.attention is not None:
            x = x + self.attention(x)
        refined: Tensor = self.mlp(x)
        return x + refined


class PriorTokenAttention(nn.Module):
    """Eq. 4: softmax attention from a branch's tokens to P learnable prior tokens (CMPT)."""

    def __init__(self, tokens: int, width: int, heads: int, branches: int) -> None:
        super().__init__()
        self.heads = heads
        self.prior = nn.Parameter(torch.randn(1, 1, tokens, width) * 0.02)
        self.norm = StackedLayerNorm(branches, width)
        self.prior_norm = StackedLayerNorm(branches, width)
        self.query = StackedLinear(branches, width, width)
        self.key_value = StackedLinear(branches, width, 2 * width)
        self.out = StackedLinear(branches, width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(K, B, N, d) to the same."""
        prior = self.prior.expand(x.shape[0], -1, -1, -1)  # (K, 1, P, d)
        q = split_heads(self.query(self.norm(x)), self.heads)  # (K, B, h, N, d/h)
        k, v = self.key_value(self.prior_norm(prior)).chunk(2, dim=-1)
        k, v = split_heads(k, self.heads), split_heads(v, self.heads)  # (K, 1, h, P, d/h)
        weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)
        read: Tensor = self.out(merge_heads(weights @ v))
        return read


class GlobalFusionRefinement(nn.Module):
    """One decoding stage (section 4.4): attention to the other branch, then SS2D.

    Without ``gfr`` the attention reads its own branch and there is no SS2D (Table 4, baseline).
    """

    def __init__(self, params: CmadParams, width: int, branches: int) -> None:
        super().__init__()
        self.crosses = params.gfr and branches == 2
        self.norm = StackedLayerNorm(branches, width)
        self.attention = ReluAttention(width, params.heads, branches)
        self.scan_norm = StackedLayerNorm(branches, width) if params.gfr else None
        self.scan = (
            SS2D(
                width,
                state=params.ssm_state,
                expand=params.ssm_expand,
                branches=branches,
                backend=params.scan,
            )
            if params.gfr
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(K, B, N, d) to the same."""
        own = self.norm(x)  # Eq. 5
        z: Tensor = self.attention(own, own.flip(0) if self.crosses else own)
        if self.scan is None or self.scan_norm is None:
            return z
        branches, batch, tokens, width = z.shape
        side = round(tokens**0.5)
        refined: Tensor = self.scan(
            self.scan_norm(z).view(branches, batch, side, side, width)
        )  # Eqs. 7-8
        return z + refined.view(z.shape)  # Eq. 9


class ReluAttention(nn.Module):
    """Eq. 6: ReLU of scaled cosines instead of a softmax, with a learnt scale per head."""

    def __init__(self, width: int, heads: int, branches: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = StackedLinear(branches, width, width)
        self.key_value = StackedLinear(branches, width, 2 * width)
        self.scale = nn.Parameter(torch.ones(branches, 1, heads, 1, 1))
        self.out = StackedLinear(branches, width, width)

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        """Queries of ``own``, keys and values of ``other``: (K, B, N, d) to the same."""
        q = F.normalize(split_heads(self.query(own), self.heads), dim=-1)
        k, v = self.key_value(other).chunk(2, dim=-1)
        k = F.normalize(split_heads(k, self.heads), dim=-1)
        weights = F.relu(q @ k.transpose(-2, -1) * self.scale)  # (K, B, h, N, N)
        read: Tensor = self.out(merge_heads(weights @ split_heads(v, self.heads)))
        return read


def _is_one_picture(images: tuple[Tensor, ...]) -> bool:
    """Are both planes the same (section 5.1), so that the teacher need not see it twice?"""
    values = not images[0].is_meta  # which the counting of operations has not
    return values and torch.equal(images[0], images[-1])


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(K, B, N, d) to (K, B, h, N, d/h)."""
    return x.reshape(*x.shape[:3], heads, -1).transpose(2, 3)


def merge_heads(x: Tensor) -> Tensor:
    """(K, B, h, N, d/h) to (K, B, N, d)."""
    return x.transpose(2, 3).flatten(3)
