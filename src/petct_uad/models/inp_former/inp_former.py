"""INP-Former (Luo et al. 2025, arXiv:2503.02424) on our teachers' tokens.

A few learnt queries read the teacher's tokens of a slice and become its intrinsic normal
prototypes (INPs). A decoder that may only mix these prototypes gives the teacher's tokens back;
where no mixture of them does, the slice is abnormal. Attention blocks, bottleneck and loss are
anomalib's. Deviations from the paper are listed in this folder's README.

Shapes: B batch, N tokens, d width, P prototypes.
"""

from __future__ import annotations

import warnings
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from petct_uad.core.errors import ParamsError
from petct_uad.core.params.base import Modality
from petct_uad.models.common.interface import Batch, GradientModel
from petct_uad.models.common.maps import score_maps
from petct_uad.models.inp_former.params import InpFormerParams
from petct_uad.models.with_teacher import TokenModel
from petct_uad.teachers.tokens import TokenTeacher

with warnings.catch_warnings():
    # anomalib's components import deprecated names, which is no concern of the user.
    warnings.simplefilter("ignore", FutureWarning)
    from anomalib.models.image.dinomaly.components import DinomalyMLP
    from anomalib.models.image.inp_former.components.layers import AggregationBlock, PrototypeBlock
    from anomalib.models.image.inp_former.components.loss import GlobalCosineHmAdaptiveLoss

_GROUPS = 2  # of levels, and of decoder blocks, that are compared by their means
_MLP_RATIO = 4
_INITIAL_SPREAD = 0.01  # of the linear layers' weights, cut off at three of it, as published


class InpFormer(TokenModel[InpFormerParams], GradientModel):
    """Extractor of prototypes, bottleneck and guided decoder, one modality."""

    bfloat16_pays_on_cpu = True

    def __init__(
        self, params: InpFormerParams, teacher: TokenTeacher, modality: Modality, image_size_px: int
    ) -> None:
        width, heads = teacher.width, params.heads
        if width % heads:
            raise ParamsError(
                f"models.inp_former.heads = {heads}: must divide the teacher's width {width}"
            )
        super().__init__(params, teacher, modality, image_size_px)
        norm = partial(nn.LayerNorm, eps=1e-8)
        self.queries = nn.Parameter(torch.randn(params.prototypes, width))
        self.extractor = AggregationBlock(width, heads, _MLP_RATIO, qkv_bias=True, norm_layer=norm)
        self.bottleneck = DinomalyMLP(width, _MLP_RATIO * width, bias=True)
        self.decoder = nn.ModuleList(
            PrototypeBlock(width, heads, _MLP_RATIO, qkv_bias=True, norm_layer=norm)
            for _ in range(params.blocks)
        )
        for module in (self.extractor, self.bottleneck, self.decoder):
            module.apply(_start_small)
        self.soft_mining = GlobalCosineHmAdaptiveLoss()

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """Means (B, 2, N, d) of the shallower and of the deeper half of the teacher's levels."""
        tokens = self.teacher.tokens(self._images(batch))[:, -self.params.levels :]
        return (_means(tokens, dim=1),)

    def loss(self, *prepared: Tensor) -> Tensor:
        """Soft mining loss of both groups, and a fifth of the INP coherence loss.

        Soft mining: 1 - cos of a slice's tokens as one vector, where the gradient of each token
        is weighted by the cube of its own distance beside the mean one.
        """
        targets, decoded, coherence = self._decode(*prepared)
        pairs = [_as_maps(x) for x in targets], [_as_maps(x.float()) for x in decoded]
        for found in pairs[1]:
            found.requires_grad_()  # the weights hang on a hook, also where no gradient is wanted
        loss: Tensor = self.soft_mining(*pairs, coherence)
        return loss

    @torch.no_grad()
    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S): 1 - cos between teacher and decoder, mean over groups, smoothed."""
        targets, decoded, _ = self._decode(*self.prepare(batch))
        distances = (1 - F.cosine_similarity(targets, decoded, dim=-1)).mean(0)  # (B, N)
        grids = distances.view(len(distances), self.teacher.grid, self.teacher.grid)
        return self._smoothed(grids)

    def score(self, maps: Tensor) -> Tensor:
        """(B,): mean of the highest ``score_top_fraction`` of pixels."""
        return score_maps(maps, "top", self.params.score_top_fraction)

    def _decode(self, prepared: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Teacher's and decoder's tokens (2, B, N, d), shallow group first; coherence loss."""
        tokens = prepared.mean(1)  # (B, N, d)
        queries = self.queries.expand(len(tokens), -1, -1)
        prototypes: Tensor = self.extractor(queries, tokens)  # (B, P, d)
        x, outputs = self.bottleneck(tokens), []
        for block in self.decoder:
            x = block(x, prototypes)
            outputs.append(x)
        # The decoder's first blocks answer for the deeper levels.
        decoded = _means(torch.stack(outputs[::-1]), dim=0)
        return prepared.transpose(0, 1), decoded, incoherence(tokens, prototypes)


def incoherence(tokens: Tensor, prototypes: Tensor) -> Tensor:
    """INP coherence loss: mean 1 - cos of each token (B, N, d) to its nearest prototype."""
    cosines = F.normalize(tokens, dim=-1) @ F.normalize(prototypes, dim=-1).mT  # (B, N, P)
    return 1 - cosines.amax(-1).mean()


def _means(levels: Tensor, dim: int) -> Tensor:
    """Of each group of levels, which lie along ``dim``."""
    return torch.stack([group.mean(dim) for group in levels.chunk(_GROUPS, dim)], dim)


def _as_maps(tokens: Tensor) -> Tensor:
    """(B, N, d) to (B, d, N, 1), as anomalib's loss has them."""
    return tokens.mT[..., None]


def _start_small(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        end = 3 * _INITIAL_SPREAD
        nn.init.trunc_normal_(module.weight, std=_INITIAL_SPREAD, a=-end, b=end)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
