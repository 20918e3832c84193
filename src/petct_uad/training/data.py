"""The normal slices of a split, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from petct_uad.errors import TrainingError
from petct_uad.models.interface import GradientModel
from petct_uad.slices.batch import Batch
from petct_uad.slices.store import SliceStore

_CACHE_BYTES = 2 * 2**30


class Normals:
    """The normal slices of a store; each iteration gives them again, in order, in batches."""

    def __init__(self, store: SliceStore, batch_size: int, device: torch.device) -> None:
        self._store = store
        self._batch_size = batch_size
        self._device = device
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
        return self._store.batch([self._indices[i] for i in indices]).to(self._device)


class PreparedNormals:
    """What a model's loss needs of each normal slice, computed once where memory allows.

    Frozen features do not change during training. They are kept in half precision up to 2 GiB
    (0.4 MB per pair at 128 px), and computed anew for each batch above that.
    """

    def __init__(self, model: GradientModel, normals: Normals) -> None:
        self._model = model
        self._normals = normals
        row_bytes = 2 * model.prepare(normals.batch([0]))[0].numel()
        self._rows = self._prepare_all() if row_bytes * len(normals) <= _CACHE_BYTES else None

    def __len__(self) -> int:
        return len(self._normals)

    @torch.no_grad()
    def rows(self, indices: Sequence[int]) -> Tensor:
        """float32, one row per index, on the model's device."""
        if self._rows is None:
            return self._model.prepare(self._normals.batch(indices))
        return self._rows[list(indices)].float()

    @torch.no_grad()
    def _prepare_all(self) -> Tensor:
        return torch.cat([self._model.prepare(batch).half() for batch in self._normals])


def batch_order(count: int, batch_size: int, iterations: int, seed: int) -> Iterator[list[int]]:
    """``iterations`` batches of indices below ``count``: one seeded shuffle after the other."""
    generator = torch.Generator().manual_seed(seed)
    pool: list[int] = []
    for _ in range(iterations):
        while len(pool) < batch_size:
            pool += torch.randperm(count, generator=generator).tolist()
        yield pool[:batch_size]
        pool = pool[batch_size:]
