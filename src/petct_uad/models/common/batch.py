"""Paired slices as a model sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from petct_uad.slices.store import ImageStack, SliceStore


@dataclass(frozen=True)
class Batch:
    """Paired slices on one grid, scaled to [0, 1].

    Attributes:
        pet: (B, 1, S, S) SUVbw / suv_high.
        ct: (B, 1, S, S) windowed HU.
        slice_ids: B identifiers.
        pet_beside, ct_beside: (B, 2, S, S) the slices below and above; None where slices are seen
            alone.
        colour: (B, 3, S, S) red, green and blue of pictures, whose luma pet and ct are; None of
            anything grey.
    """

    pet: Tensor
    ct: Tensor
    slice_ids: tuple[str, ...]
    pet_beside: Tensor | None = None
    ct_beside: Tensor | None = None
    colour: Tensor | None = None

    @classmethod
    def of(cls, store: SliceStore, indices: Sequence[int]) -> Batch:
        """The slices of a store at ``indices``, as float32."""
        chosen = list(indices)
        return cls(
            pet=torch.from_numpy(store.pet[chosen].astype(np.float32))[:, None],
            ct=torch.from_numpy(store.ct[chosen].astype(np.float32))[:, None],
            slice_ids=tuple(store.rows[i].slice_id for i in chosen),
            pet_beside=_taken(store.pet_beside, chosen),
            ct_beside=_taken(store.ct_beside, chosen),
            colour=_taken(store.colour, chosen),
        )

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device; from pinned memory the copy is not waited for."""
        return self._each(lambda x: x.to(device, non_blocking=x.is_pinned()))

    def pinned(self) -> Batch:
        """The same batch in memory from which a CUDA device copies by itself."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        optional = (self.pet_beside, self.ct_beside, self.colour)
        changed = (None if x is None else change(x) for x in optional)
        return Batch(change(self.pet), change(self.ct), self.slice_ids, *changed)


def _taken(images: ImageStack | None, chosen: list[int]) -> Tensor | None:
    return None if images is None else torch.from_numpy(images[chosen].astype(np.float32))


def at_side(store: SliceStore, side_px: int | None) -> SliceStore:
    """The store with its images resampled to squares of ``side_px``; None keeps them.

    Bilinear, widened with the reduction, so that nothing aliases.
    """
    if side_px is None or side_px == store.image_size_px:
        return store
    ct_beside, pet_beside, colour = (
        None if x is None else _Resized(x, side_px)
        for x in (store.ct_beside, store.pet_beside, store.colour)
    )
    return replace(
        store,
        ct=_Resized(store.ct, side_px),
        pet=_Resized(store.pet, side_px),
        ct_beside=ct_beside,
        pet_beside=pet_beside,
        colour=colour,
    )


@dataclass(frozen=True)
class _Resized:
    """Slices that become squares of ``side_px`` when they are taken."""

    images: ImageStack
    side_px: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.images.shape[:-2], self.side_px, self.side_px)

    def __getitem__(self, chosen: list[int]) -> NDArray[np.float16]:
        images = self.images[chosen]
        flat = [_resized(image, self.side_px) for image in images.reshape(-1, *images.shape[-2:])]
        shape = (len(images), *self.shape[1:])
        return np.array(flat, dtype=np.float16).reshape(shape)


def _resized(image: NDArray[np.float16], side_px: int) -> NDArray[np.float16]:
    opened = Image.fromarray(image.astype(np.float32))
    resized = opened.resize((side_px, side_px), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.float32).astype(np.float16)
