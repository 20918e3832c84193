"""The normal slices of a split, batch by batch."""

from __future__ import annotations

import math
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from petct_uad.core.errors import ParamsError, TrainingError
from petct_uad.models.common.batch import Batch
from petct_uad.models.common.device import autocast, pinned, sent
from petct_uad.models.common.interface import GradientModel
from petct_uad.slices.store import SliceStore
from petct_uad.teachers.cnn import DEVICE_IMAGES

FEATURES_GIB = "PETCT_FEATURES_GIB"
FEATURES_FOLDER = "PETCT_FEATURES_FOLDER"
_GIB = 2**30
_AHEAD = 2  # batches that are read before they are needed
Rows = Callable[[], tuple[Tensor, ...]]  # computes or awaits what a loss takes of one batch


@dataclass(frozen=True)
class FeatureCache:
    """Where outputs of frozen networks are kept while a model trains.

    The machine says it and no param, since no loss depends on it.

    Attributes:
        memory_bytes: for those of one split, on the device that trains.
        folder: of a local disk, for those that are larger; None computes them for each batch anew.
    """

    memory_bytes: int = 2 * _GIB
    folder: Path | None = None

    @classmethod
    def of_machine(cls) -> Self:
        """What ``PETCT_FEATURES_GIB`` and ``PETCT_FEATURES_FOLDER`` say.

        Raises:
            ParamsError: no number, or no folder.
        """
        text, folder = os.environ.get(FEATURES_GIB), os.environ.get(FEATURES_FOLDER)
        try:
            bound = cls.memory_bytes if text is None else int(float(text) * _GIB)
        except (ValueError, OverflowError):
            raise ParamsError(f"{FEATURES_GIB}: found {text!r}, expected a number.") from None
        if folder and not Path(folder).is_dir():
            raise ParamsError(
                f"{FEATURES_FOLDER}: found {folder!r}, expected a folder that exists."
            )
        return cls(bound, Path(folder) if folder else None)

    def room(self, count: int, one: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
        """Empty tensors for ``count`` rows (count, ...) like those of ``one``; None: no room.

        A file has no name, so that it goes with the process however that ends.
        """
        if count * sum(x.nbytes for x in one) <= self.memory_bytes:
            return tuple(x.new_empty((count, *x.shape[1:])) for x in one)
        return tuple(_on_disk(self.folder, count, x) for x in one) if self.folder else None


def _on_disk(folder: Path, count: int, one: Tensor) -> Tensor:
    shape = (count, *one.shape[1:])
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):  # where a full disk is an error now and no signal later
            os.posix_fallocate(file.fileno(), 0, math.prod(shape) * one.element_size())
        return torch.from_numpy(np.memmap(file, one.cpu().numpy().dtype, "r+", shape=shape))


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
        return self.in_batches(self._batch_size)

    def for_teachers(self) -> Iterator[Batch]:
        """The same for a frozen network, in batches that fill the device.

        A schedule of one slice a batch would have a GPU wait for its own kernels to start. A CPU
        gains nothing, and sums in another order.
        """
        few = self.device.type == "cpu"
        return self.in_batches(self._batch_size if few else max(self._batch_size, DEVICE_IMAGES))

    def in_batches(self, size: int) -> Iterator[Batch]:
        """The same, so many at a time."""
        for start in range(0, len(self), size):
            yield self.batch(range(start, min(start + size, len(self))))

    def batch(self, indices: Sequence[int]) -> Batch:
        """The slices at these positions among the normals, on the device."""
        return self.read(indices).to(self.device)

    def read(self, indices: Sequence[int]) -> Batch:
        """The same in memory, from where a device takes it without waiting."""
        batch = Batch.of(self._store, [self._indices[i] for i in indices])
        return batch.pinned() if self.device.type == "cuda" else batch


class PreparedNormals:
    """What a model's loss needs of each normal slice, computed once where memory allows.

    Outputs of frozen networks do not change during training. They are kept as ``cache`` says,
    numbers in half precision (0.4 MB per pair at 128 px for CMAD), anything else as it is, and
    computed anew for each batch where it has no room: in float32 and rounded alike, so that no loss
    tells one from the other.

    Args:
        model: says what it needs (:meth:`GradientModel.prepare`).
        normals: the slices.
        cache: how much, and where; by default as the machine says.
    """

    def __init__(
        self, model: GradientModel, normals: Normals, cache: FeatureCache | None = None
    ) -> None:
        self._model = model
        self._normals = normals
        place = cache or FeatureCache.of_machine()
        self._cache = kept = self._prepare_all(place)
        size = sum(x.nbytes for x in kept or ())
        self._in_memory = kept is not None and size <= place.memory_bytes

    def __len__(self) -> int:
        return len(self._normals)

    def rows(self, indices: Sequence[int]) -> tuple[Tensor, ...]:
        """What :meth:`GradientModel.loss` takes, one row per index; numbers are float32."""
        return self._finished(self._read(indices))

    def ahead(self, order: Iterable[Sequence[int]]) -> Iterator[Rows]:
        """:meth:`rows` of each, of which a thread reads the next while the caller computes.

        Only the disk is read ahead. Frozen networks run when a batch's rows are asked for, in the
        caller's thread and order, so that the caller gets the same bytes. What is in memory needs
        no thread.
        """
        if self._in_memory:
            yield from (partial(self.rows, indices) for indices in order)
            return
        with ThreadPoolExecutor(1, "reads-ahead") as reader:
            waiting: deque[Future[Batch | tuple[Tensor, ...]]] = deque()
            for indices in order:
                waiting.append(reader.submit(self._read, indices))
                if len(waiting) > _AHEAD:
                    yield partial(self._awaited, waiting.popleft())
            yield from (partial(self._awaited, read) for read in waiting)

    def _awaited(self, read: Future[Batch | tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        return self._finished(read.result())

    def _read(self, indices: Sequence[int]) -> Batch | tuple[Tensor, ...]:
        """From the cache, or the slices to prepare."""
        if self._cache is None:
            return self._normals.read(indices)
        device = self._normals.device
        if self._in_memory:
            places = sent(torch.tensor(list(indices)), device)
            return tuple(x[places] for x in self._cache)
        return tuple(pinned(x[list(indices)], device) for x in self._cache)

    @torch.no_grad()
    def _finished(self, read: Batch | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        device = self._normals.device
        if isinstance(read, Batch):
            prepared = self._prepare(read.to(device))
        else:
            prepared = tuple(sent(x, device) for x in read)
        return tuple(x.float() if x.is_floating_point() else x for x in prepared)

    @torch.no_grad()
    def _prepare_all(self, place: FeatureCache) -> tuple[Tensor, ...] | None:
        cache = place.room(len(self), self._prepare(self._normals.batch([0])))
        if cache is None:
            return None
        start = 0
        for batch in self._normals.for_teachers():
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
