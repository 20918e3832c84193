"""Late fusion: the maps of one model per modality, standardised, averaged.

The papers give their single-modality baselines one modality only; a fair table also gives them
both. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from petct_uad.models.common.maps import mean_and_spread

_CHUNK = 16  # slices whose maps are in double precision at a time


@dataclass(frozen=True)
class LateFusion:
    """What one unit of each member's map is worth.

    Each map is standardised by its mean and spread over the pixels of the validation normals, so
    that no modality outweighs the other by its units.
    """

    mean: Tensor  # (K,)
    spread: Tensor  # (K,)

    @classmethod
    def of_normals(cls, maps: Sequence[Tensor]) -> LateFusion:
        """Calibrate on the K members' maps of the validation normals, each (n, S, S)."""
        chunks = zip(*(torch.split(member, _CHUNK) for member in maps), strict=True)
        return cls(*mean_and_spread(torch.stack(chunk) for chunk in chunks))

    def fuse(self, maps: Sequence[Tensor]) -> Tensor:
        """(n, S, S): mean of the K members' maps, each in units of its spread on normals."""
        mean, spread = self.mean[:, None, None, None], self.spread[:, None, None, None]
        return ((torch.stack(tuple(maps)) - mean) / spread).mean(0)
