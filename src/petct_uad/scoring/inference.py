"""Maps and scores of a whole split, a few slices at a time, and what they cost."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import BinaryIO, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from petct_uad.core.console import track
from petct_uad.models.common.batch import Batch
from petct_uad.models.common.fusion import FusedMaps, MapFusion
from petct_uad.models.common.interface import AnomalyModel
from petct_uad.models.common.params import Fusion
from petct_uad.slices.store import SliceStore

_BATCH = 16
Planes = NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """Some slices of a split, one after the other.

    Attributes:
        scores: (k,) higher is more abnormal.
        planes: (1 or 2, k, S, S) the maps, higher is more abnormal; then, where a map is joined
            from one of each modality, what the PET gives to it, the rest being the CT's.
    """

    scores: NDArray[np.float64]
    planes: Planes

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, places: slice) -> Part:
        return Part(self.scores[places], self.planes[:, places])

    @property
    def maps(self) -> NDArray[np.float32]:
        """(k, S, S)."""
        return np.asarray(self.planes[0])

    @property
    def pet_parts(self) -> NDArray[np.float32] | None:
        """(k, S, S), or None where a map is not joined."""
        return self.planes[1] if len(self.planes) > 1 else None

    @classmethod
    def joined(cls, parts: Sequence[Part]) -> Self:
        """One after the other."""
        scores, planes = zip(*((x.scores, x.planes) for x in parts), strict=True)
        return cls(np.concatenate(scores), np.concatenate(planes, axis=1))


def regrouped(parts: Iterable[Part], sizes: Iterable[int]) -> Iterator[Part]:
    """The same slices in groups of these sizes, whose sum is their number."""
    source = iter(parts)
    left = Part(np.empty(0), np.empty((1, 0, 0, 0), np.float32))
    for size in sizes:
        taken: list[Part] = []
        missing = size
        while missing:
            left = left if len(left) else next(source)
            taken.append(left[:missing])
            left, missing = left[missing:], missing - len(taken[-1])
        yield Part.joined(taken)


@dataclass(frozen=True)
class Scored:
    """One split through a model; its maps wait in a file, which is open as long as they are read.

    Attributes:
        scores: (n,) higher is more abnormal.
        shape: (1 or 2, S, S) of the planes of one slice.
        seconds_per_pair: of map and score, data already in memory; nothing warms the model up.
    """

    scores: NDArray[np.float64]
    shape: tuple[int, ...]
    seconds_per_pair: float
    file: BinaryIO

    def parts(self) -> Iterator[Part]:
        """From the first slice to the last, as many at a time as the model saw."""
        count, *square = self.shape
        slice_bytes = math.prod(self.shape) * np.dtype(np.float32).itemsize
        for start in range(0, len(self.scores), _BATCH):
            scores = self.scores[start : start + _BATCH]
            read = os.pread(self.file.fileno(), len(scores) * slice_bytes, start * slice_bytes)
            planes = np.frombuffer(bytearray(read), np.float32).reshape(count, -1, *square)
            yield Part(scores, planes)


@dataclass(frozen=True)
class Cost:
    """What a run costs on this machine: ``metrics/cost/<run>.json``, which no stage reads."""

    run: str
    device: str
    threads: int
    scan: str
    parameters: int
    gflops_per_pair: float  # matrix products and convolutions, two per multiply-accumulate
    pairs: int
    seconds_per_pair: float  # of the test split; the validation normals came before it
    process_peak_memory_mib: float  # so far, so of the rows before it too


def score_slices(
    model: AnomalyModel,
    store: SliceStore,
    indices: list[int],
    *,
    device: torch.device,
    what: str,
    side_px: int,
    file: BinaryIO,
) -> Scored:
    """Map and score the slices at ``indices``, in their order.

    Args:
        model: on ``device``.
        store: images of the size that the model takes.
        indices: which of them.
        device: that the model runs on.
        what: for the progress bar.
        side_px: of the grid that maps are brought to, bilinear; scores stay those of the model's
            own.
        file: takes the maps, 4 bytes a pixel and plane; unbuffered.
    """
    scores: list[NDArray[np.float64]] = [np.empty(0)]
    seconds, shape = 0.0, (1, side_px, side_px)
    with torch.inference_mode():
        for chunk in track(_chunks(indices), what):
            batch = Batch.of(store, chunk).to(device)
            began = perf_counter()
            planes, score = _detect(model, batch)
            score = score.cpu()
            seconds += perf_counter() - began
            scores.append(score.double().numpy())
            shape = (len(planes), side_px, side_px)
            _append(file, _at_side(planes.float().cpu(), side_px).numpy())
    return Scored(np.concatenate(scores), shape, seconds / max(len(indices), 1), file)


def _detect(model: AnomalyModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Planes (1 or 2, B, S, S) as :class:`Part` has them, and scores (B,)."""
    if not (isinstance(model, FusedMaps) and model.modality == "petct"):
        maps, score = model.detect(batch)
        return maps[None], score
    planes = _joined(model.map_parts(batch))
    return planes, model.score(planes[0])


def _joined(parts: Tensor) -> Tensor:
    """(2, B, S, S) what the PET and the CT give, to the maps and what the PET gives to them."""
    return torch.stack([parts.sum(0), parts[0]])


def fused(
    model: AnomalyModel, fusion: MapFusion, members: Sequence[Iterable[Part]]
) -> Iterator[Part]:
    """What a PET and a CT model say of the same slices; ``model`` scores the fused maps."""
    for maps in _side_by_side(members):
        yield _scored(model, _joined(fusion.parts(maps)))


def fusion_of_normals(how: Fusion, members: Sequence[Iterable[Part]]) -> MapFusion:
    """Late fusion, on the scale of the members' maps of the validation normals."""
    fusion = MapFusion(how, len(members))
    fusion.fit(_side_by_side(members))
    return fusion


def scores_its_maps(model: type[AnomalyModel]) -> bool:
    """Is an image score what ``score`` makes of its map, and nothing else of the slice?"""
    return model.detect is AnomalyModel.detect


def scored_anew(model: AnomalyModel, parts: Iterable[Part], count: int) -> Iterator[Part]:
    """The same ``count`` maps with the scores that ``model`` gives to maps, a batch at a time."""
    sizes = (min(_BATCH, count - start) for start in range(0, count, _BATCH))
    for part in regrouped(parts, sizes):
        yield _scored(model, torch.from_numpy(part.planes))


def gflops_of_one_pair(model: AnomalyModel, store: SliceStore, device: torch.device) -> float:
    """Billions of floating-point operations for the map of one pair, as torch counts them.

    Custom kernels and element-wise steps are not counted, so a selective scan is not either.
    """
    # Not inference mode, in which branches are multiplied in a way that torch does not count.
    with _frozen(model), FlopCounterMode(display=False) as counter, torch.no_grad():
        model.anomaly_map(Batch.of(store, [0]).to(device))
    return float(counter.get_total_flops()) / 1e9


@contextmanager
def _frozen(model: AnomalyModel) -> Iterator[None]:
    """torch's counter asks every module argument that wants a gradient for its graph."""
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learnt:
            parameter.requires_grad_(True)


def _side_by_side(members: Sequence[Iterable[Part]]) -> Iterator[Tensor]:
    """(K, k, S, S) of K members, batch after batch."""
    for parts in zip(*members, strict=True):
        yield torch.stack([torch.from_numpy(part.maps) for part in parts])


def _scored(model: AnomalyModel, planes: Tensor) -> Part:
    return Part(model.score(planes[0]).double().numpy(), planes.numpy())


def _at_side(planes: Tensor, side_px: int) -> Tensor:
    if planes.shape[-1] == side_px:
        return planes
    size, images = (side_px, side_px), planes.flatten(0, 1)[:, None]
    larger = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
    return larger.reshape(*planes.shape[:2], *size)


def _append(file: BinaryIO, planes: Planes) -> None:
    """All of it: a disk that fills up is an error at the next byte."""
    left = memoryview(planes.tobytes())
    while left:
        left = left[file.write(left) :]


def _chunks(indices: list[int]) -> list[list[int]]:
    return [indices[start : start + _BATCH] for start in range(0, len(indices), _BATCH)]
