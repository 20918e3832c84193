"""Late fusion: one model per modality, their standardised maps averaged.

The papers give their single-modality baselines one modality only; a fair table also gives them
both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from petct_uad.models.interface import AnomalyModel, Batch, FitPoint, FittedModel
from petct_uad.models.maps import mean_and_spread


class LateFusion(FittedModel):
    """Fitted models of single modalities as one model.

    Each member's map is standardised by its mean and spread over the pixels of the validation
    normals, so that no modality outweighs the other by its units.
    """

    def __init__(self, members: dict[str, FittedModel]) -> None:
        super().__init__()
        self.members = nn.ModuleDict(members)
        self.map_mean: Tensor
        self.map_spread: Tensor
        self.register_buffer("map_mean", torch.zeros(len(members)))
        self.register_buffer("map_spread", torch.ones(len(members)))

    def fit(self, normals: Iterable[Batch], held_out: Iterable[Batch]) -> list[FitPoint]:
        """Fit each member; the curve is the mean of theirs, at the first member's sizes."""
        curves = [member.fit(normals, held_out) for member in self._members()]
        return [
            FitPoint(
                points[0].size,
                sum(point.train for point in points) / len(points),
                sum(point.held_out for point in points) / len(points),
            )
            for points in zip(*curves, strict=True)
        ]

    def member_maps(self, batch: Batch) -> Tensor:
        """(K, B, S, S): each member's own map."""
        return torch.stack([member.anomaly_map(batch) for member in self._members()])

    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S): mean of the members' maps in units of their spread on normals."""
        mean, spread = self.map_mean[:, None, None, None], self.map_spread[:, None, None, None]
        return ((self.member_maps(batch) - mean) / spread).mean(0)

    def score(self, maps: Tensor) -> Tensor:
        """(B,): as the members score their own maps."""
        return self._members()[0].score(maps)

    def calibrate(self, normals: Iterable[Batch]) -> None:
        """Learn mean and spread of each member's maps on validation normals."""
        mean, spread = mean_and_spread(self.member_maps(batch) for batch in normals)
        self.map_mean.copy_(mean)
        self.map_spread.copy_(spread)

    def load_student_state(self, state: dict[str, Tensor]) -> None:
        """Give each member its own part first, since a member may change its shapes."""
        for name, member in self.members.items():
            prefix = f"members.{name}."
            own = {
                key.removeprefix(prefix): x for key, x in state.items() if key.startswith(prefix)
            }
            cast("AnomalyModel", member).load_student_state(own)
        super().load_student_state(state)

    def _members(self) -> list[FittedModel]:
        return [cast("FittedModel", member) for member in self.members.values()]
