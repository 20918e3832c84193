"""Late fusion: one model per modality, their standardised maps averaged.

The papers give their single-modality baselines one modality only; a fair table also gives them
both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from petct_uad.models.interface import AnomalyModel, Batch
from petct_uad.models.maps import mean_and_spread


class LateFusion(AnomalyModel):
    """Trained models of single modalities as one model; there is nothing left to train.

    Each member's map is standardised by its mean and spread over the pixels of the validation
    normals, so that no modality outweighs the other by its units.
    """

    def __init__(self, members: Sequence[AnomalyModel]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.map_mean: Tensor
        self.map_spread: Tensor
        self.register_buffer("map_mean", torch.zeros(len(members)))
        self.register_buffer("map_spread", torch.ones(len(members)))

    def member_maps(self, batch: Batch) -> Tensor:
        """(K, B, S, S): each member's own map."""
        return torch.stack([member.anomaly_map(batch) for member in self._members()])

    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S): mean of the members' maps in units of their spread on normals."""
        mean, spread = self.map_mean[:, None, None, None], self.map_spread[:, None, None, None]
        return ((self.member_maps(batch) - mean) / spread).mean(0)

    def score(self, maps: Tensor) -> Tensor:
        """(B,): as the first member scores its own maps."""
        return self._members()[0].score(maps)

    @torch.no_grad()
    def calibrate(self, normals: Iterable[Batch]) -> None:
        """Learn mean and spread of each member's maps on validation normals."""
        mean, spread = mean_and_spread(self.member_maps(batch) for batch in normals)
        self.map_mean.copy_(mean)
        self.map_spread.copy_(spread)

    def _members(self) -> list[AnomalyModel]:
        return [cast("AnomalyModel", member) for member in self.members]
