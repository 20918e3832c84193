"""A frozen ViT, cut off after the deepest block that is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from petct_uad.teachers.params import TeacherParams
from petct_uad.teachers.weights import load_network, normalisation, state_sha256


class VitTeacher(nn.Module):
    """Outputs of single blocks; prefix tokens dropped, no final norm.

    Attributes:
        width: length of a token.
        depth: how many blocks the whole network has.
        grid: side of the square token grid.
        side_px: of the images that it takes: the multiple of its patch nearest to the slices'.
    """

    def __init__(self, params: TeacherParams, image_size_px: int) -> None:
        super().__init__()
        patch = int(params.name.partition("_patch")[2].partition("_")[0])
        self.grid = max(round(image_size_px / patch), 1)
        self.side_px = self.grid * patch
        self.network = load_network(params, img_size=self.side_px, num_classes=0)
        self.width = cast("int", self.network.embed_dim)
        self.depth = len(cast("nn.Sequential", self.network.blocks))
        self.normalise = normalisation(self.network)

    def cut(self, count: int) -> Self:
        """Keep the first ``count`` blocks: later ones and the final norm cost memory only."""
        self.network.blocks = cast("nn.Sequential", self.network.blocks)[:count]
        self.network.norm = nn.Identity()
        return self

    @property
    def sha256(self) -> str:
        """Of the kept weights, for configuration and lineage."""
        return state_sha256(self.network)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def embedding(self, images: Tensor) -> Tensor:
        """(B, N, width) of what the first block reads: patches with their positions."""
        network: Any = self.network
        tokens: Tensor = network._pos_embed(network.patch_embed(self.normalise(images)))
        return cast("Tensor", network.norm_pre(tokens))[:, network.num_prefix_tokens :]

    @torch.no_grad()
    def block_outputs(self, images: Tensor, indices: Sequence[int]) -> list[Tensor]:
        """(B, N, width) of each 0-based block, for (B, 1 or 3, side_px, side_px) in [0, 1]."""
        outputs: list[Tensor] = self.network.forward_intermediates(  # type: ignore[operator]
            self.normalise(images),
            indices=list(indices),
            norm=False,
            output_fmt="NLC",
            intermediates_only=True,
        )
        return outputs
