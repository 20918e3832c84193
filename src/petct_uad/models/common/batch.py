"""A batch of paired slices, as training and evaluation see it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Paired slices on one grid, scaled to [0, 1].

    Attributes:
        pet: (B, 1, S, S) SUVbw / suv_high.
        ct: (B, 1, S, S) windowed HU.
        slice_ids: B identifiers.
    """

    pet: Tensor
    ct: Tensor
    slice_ids: tuple[str, ...]

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(self.pet.to(device), self.ct.to(device), self.slice_ids)
