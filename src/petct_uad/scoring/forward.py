"""One seed's model over the slices of one study: all of ``score`` that runs a network.

What becomes of its maps, how they are joined and smoothed, is for others to say: under another
``fusion`` a study that is in the store is not seen again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from petct_uad.core.store.study_store import Storable
from petct_uad.models.common.batch import Batch, at_side
from petct_uad.models.common.device import deterministic, peak_memory_mib
from petct_uad.models.common.fusion import FusedMaps
from petct_uad.models.common.interface import AnomalyModel
from petct_uad.slices.store import SliceStore

BATCH = 16  # slices of one study, so that no bit of its maps depends on what else is scored
_SEED = 0  # of torch's generator; no model draws anything once it is trained
_PLANES = "planes"


@dataclass(frozen=True)
class ScoringTask(Storable):
    """Slices that one model is to see: of one study, or some pictures that stand alone.

    Attributes:
        trained: the model's files.
        shards: one per study.
        shard_rows: which slices of each.
        places: (n,) where all of them are in the store of slices.
        side_px: of the grid that maps are brought to.
        seen: which images of a slice there are, such as its colour.
        arithmetic: of the device, as ``name_arithmetic`` has it.
        planes: the file that receives the maps.
    """

    trained: tuple[Path, ...]
    shards: tuple[Path, ...]
    shard_rows: tuple[tuple[int, ...], ...]
    places: tuple[int, ...]
    side_px: int
    seen: tuple[str, ...]
    arithmetic: str
    planes: Path

    @property
    def sources(self) -> tuple[Path, ...]:
        """The model's files, then the shards."""
        return (*self.trained, *self.shards)

    @property
    def said(self) -> str:
        """Which slices, what is seen of them, the side of the maps, and what computes them."""
        return json.dumps([self.shard_rows, self.seen, self.side_px, self.arithmetic])

    @property
    def outputs(self) -> Mapping[str, Path]:
        """The maps."""
        return {"planes.safetensors": self.planes}


@dataclass(frozen=True)
class ScoredSlices:
    """What a model says of the slices of a task, but for its maps.

    Attributes:
        scores: (n,) higher is more abnormal.
        seconds: that maps and scores took, images already in memory; nothing warms the model up.
        peak_memory_mib: of the process so far, or of the GPU.
    """

    scores: tuple[float, ...]
    seconds: float
    peak_memory_mib: float


@dataclass(frozen=True)
class Scorer:
    """A model, on its device, and the slices that it is asked about.

    Attributes:
        model: on ``device``.
        slices: of any size.
        side_px: of the images that the model takes; None: as they are.
        device: that it runs on.
    """

    model: AnomalyModel
    slices: SliceStore
    side_px: int | None
    device: torch.device

    def score(self, task: ScoringTask) -> ScoredSlices:
        """Write the maps of a task, bilinear on the grid of ``side_px``; scores are of its own."""
        planes: list[NDArray[np.float32]] = []
        scores: list[float] = []
        seconds = 0.0
        slices = at_side(self.slices, self.side_px)
        # In float32, whatever train.tf32 says.
        with deterministic(_SEED, tf32=False), torch.inference_mode():
            for places in _chunks(task.places):
                batch = Batch.of(slices, places).to(self.device)
                began = perf_counter()
                found, score = _detect(self.model, batch)
                scores += score.double().tolist()  # which waits for a GPU
                seconds += perf_counter() - began
                planes.append(_at_side(found.float().cpu(), task.side_px).numpy())
        save_file({_PLANES: np.concatenate(planes, axis=1)}, task.planes)
        return ScoredSlices(tuple(scores), seconds, peak_memory_mib(self.device))


def read_planes(path: Path) -> NDArray[np.float32]:
    """(1 or 2, n, S, S) the maps of a task; then, where a map is joined from one of each
    modality, what the PET gives to it, the rest being the CT's."""
    planes: NDArray[np.float32] = load_file(path)[_PLANES]
    return planes


def joined(parts: Tensor) -> Tensor:
    """(2, B, S, S) what the PET and the CT give, to the maps and what the PET gives to them."""
    return torch.stack([parts.sum(0), parts[0]])


def _detect(model: AnomalyModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Planes (1 or 2, B, S, S) as :func:`read_planes` has them, and scores (B,)."""
    if not (isinstance(model, FusedMaps) and model.modality == "petct"):
        maps, score = model.detect(batch)
        return maps[None], score
    planes = joined(model.map_parts(batch))
    return planes, model.score(planes[0])


def _at_side(planes: Tensor, side_px: int) -> Tensor:
    if planes.shape[-1] == side_px:
        return planes
    size, images = (side_px, side_px), planes.flatten(0, 1)[:, None]
    larger = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
    return larger.reshape(*planes.shape[:2], *size)


def _chunks(places: Sequence[int]) -> Iterable[Sequence[int]]:
    return (places[start : start + BATCH] for start in range(0, len(places), BATCH))
