"""Paired slices as a model sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from petct_uad.slices.store import SliceStore


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

    @classmethod
    def of(cls, store: SliceStore, indices: Sequence[int]) -> Batch:
        """The slices of a store at ``indices``, as float32."""
        chosen = list(indices)
        return cls(
            pet=torch.from_numpy(store.pet[chosen].astype(np.float32))[:, None],
            ct=torch.from_numpy(store.ct[chosen].astype(np.float32))[:, None],
            slice_ids=tuple(store.rows[i].slice_id for i in chosen),
        )

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(self.pet.to(device), self.ct.to(device), self.slice_ids)


def at_side(store: SliceStore, side_px: int | None) -> SliceStore:
    """The store with its images resampled to squares of ``side_px``, once; None keeps them.

    Bilinear, widened with the reduction, so that nothing aliases.
    """
    if side_px is None or side_px == store.image_size_px:
        return store
    ct, pet = (np.stack([_resized(x, side_px) for x in images]) for images in (store.ct, store.pet))
    return replace(store, ct=ct, pet=pet)


def _resized(image: NDArray[np.float16], side_px: int) -> NDArray[np.float16]:
    opened = Image.fromarray(image.astype(np.float32))
    resized = opened.resize((side_px, side_px), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.float32).astype(np.float16)
