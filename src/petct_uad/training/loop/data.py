"""The normal slices of a split, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from petct_uad.core.errors import TrainingError
from petct_uad.models.common.batch import Batch
from petct_uad.models.common.device import autocast
from petct_uad.models.common.interface import GradientModel
from petct_uad.slices.store import SliceStore

_CACHE_BYTES = 2 * 2**30


class Normals:
    """The normal slices of a store; each iteration gives them again, in order, in batches."""

    def __init__(self, store: SliceStore, batch_size: int, device: torch.device) -> None:
        self.device = device
        self._store = store
        self._batch_size = batch_size
        self._indices = [i for i, row in enumerate(store.rows) if row.label == 0]
        if not self._indices:
            raise TrainingError("no normal slice to learn from. Look at slices.csv of the split.")

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self), self._batch_size):
            yield self.batch(range(start, min(start + self._batch_size, len(self))))

    def batch(self, indices: Sequence[int]) -> Batch:
        """The slices at these positions among the normals, on the device."""
        return Batch.of(self._store, [self._indices[i] for i in indices]).to(self.device)


class PreparedNormals:
    """What a model's loss needs of each normal slice, computed once where memory allows.

    Outputs of frozen networks do not change during training. They are kept up to 2 GiB, numbers in
    half precision (0.4 MB per pair at 128 px for CMAD), anything else as it is, and computed anew
    for each batch above that: in float32 and rounded alike, so that no loss tells one from the
    other.

    Args:
        model: says what it needs (:meth:`GradientModel.prepare`).
        normals: the slices.
        cache_bytes: the bound.
    """

    def __init__(
        self, model: GradientModel, normals: Normals, cache_bytes: int = _CACHE_BYTES
    ) -> None:
        self._model = model
        self._normals = normals
        self._cache = self._prepare_all(cache_bytes)

    def __len__(self) -> int:
        return len(self._normals)

    @torch.no_grad()
    def rows(self, indices: Sequence[int]) -> tuple[Tensor, ...]:
        """What :meth:`GradientModel.loss` takes, one row per index; numbers are float32."""
        if self._cache is None:
            prepared = self._prepare(self._normals.batch(indices))
        else:
            prepared = tuple(kept[list(indices)] for kept in self._cache)
        return tuple(x.float() if x.is_floating_point() else x for x in prepared)

    @torch.no_grad()
    def _prepare_all(self, cache_bytes: int) -> tuple[Tensor, ...] | None:
        one = self._prepare(self._normals.batch([0]))
        row_bytes = sum(x.nbytes for x in one)
        if row_bytes * len(self) > cache_bytes:
            return None
        cache = tuple(x.new_empty((len(self), *x.shape[1:])) for x in one)
        start = 0
        for batch in self._normals:
            end = start + len(batch.slice_ids)
            for kept, x in zip(cache, self._prepare(batch), strict=True):
                kept[start:end] = x
            start = end
        return cache

    def _prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """As the cache keeps it, whatever precision the loss is computed in."""
        with autocast(torch.float32, self._normals.device):
            return tuple(map(_rounded, self._model.prepare(batch)))


def batch_order(count: int, batch_size: int, iterations: int, seed: int) -> Iterator[list[int]]:
    """``iterations`` batches of indices below ``count``: one seeded shuffle after the other."""
    generator = torch.Generator().manual_seed(seed)
    pool: list[int] = []
    for _ in range(iterations):
        while len(pool) < batch_size:
            pool += torch.randperm(count, generator=generator).tolist()
        yield pool[:batch_size]
        pool = pool[batch_size:]


def _rounded(x: Tensor) -> Tensor:
    return x.half() if x.is_floating_point() else x
