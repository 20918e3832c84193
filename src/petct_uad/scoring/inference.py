"""Maps and scores of a whole split, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

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
Maps = NDArray[np.float32]


@dataclass(frozen=True)
class Scored:
    """One split through a model.

    Attributes:
        scores: (n,) higher is more abnormal.
        maps: (n, S, S) higher is more abnormal.
        seconds_per_pair: of map and score, data already in memory; nothing warms the model up.
        pet_parts: (n, S, S) what the PET gives to each map, the rest being the CT's; None where a
            map is not joined from one of each.
    """

    scores: NDArray[np.float64]
    maps: Maps
    seconds_per_pair: float
    pet_parts: Maps | None = None

    def reshaped(self, change: Callable[[Maps], Maps]) -> Scored:
        """With a linear change of every map, and so of the PET's part in it."""
        parts = None if self.pet_parts is None else change(self.pet_parts)
        return replace(self, maps=change(self.maps), pet_parts=parts)

    def at_side(self, side_px: int) -> Scored:
        """With the maps on a grid of this side, bilinear; scores stay those of the model's own."""
        if self.maps.shape[-1] == side_px:
            return self
        return self.reshaped(partial(_at_side, side_px=side_px))


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
    model: AnomalyModel, store: SliceStore, indices: list[int], device: torch.device, what: str
) -> Scored:
    """Map and score the slices at ``indices``, in their order."""
    found: list[Scored] = []
    with torch.inference_mode():
        for chunk in track(_chunks(indices), what):
            batch = Batch.of(store, chunk).to(device)
            began = perf_counter()
            anomaly, score, pet_part = _detect(model, batch)
            score = score.cpu()
            seconds = (perf_counter() - began) / len(chunk)
            part = None if pet_part is None else pet_part.float().cpu().numpy()
            maps = anomaly.float().cpu().numpy()
            found.append(Scored(score.double().numpy(), maps, seconds, part))
    return together(found)


def together(found: Sequence[Scored]) -> Scored:
    """Several lots of slices of one model as one, in their order."""
    parts = [x.pet_parts for x in found if x.pet_parts is not None]
    seconds = sum(x.seconds_per_pair * len(x.scores) for x in found)
    scores = np.concatenate([x.scores for x in found])
    return Scored(
        scores,
        np.concatenate([x.maps for x in found]),
        seconds / max(len(scores), 1),
        np.concatenate(parts) if parts else None,
    )


def _detect(model: AnomalyModel, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
    """Map and score, and what the PET gives to a map that is joined from one of each modality."""
    if not (isinstance(model, FusedMaps) and model.modality == "petct"):
        return (*model.detect(batch), None)
    parts = model.map_parts(batch)
    maps = parts.sum(0)
    return maps, model.score(maps), parts[0]


def _at_side(maps: Maps, side_px: int) -> Maps:
    size = (side_px, side_px)
    images = torch.from_numpy(maps)[:, None]
    larger = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
    return larger[:, 0].numpy()


def fused(model: AnomalyModel, fusion: MapFusion, members: Sequence[Scored]) -> Scored:
    """What a PET and a CT model say of the same slices; ``model`` scores the fused maps."""
    of_each = (torch.split(torch.from_numpy(x.maps), _BATCH) for x in members)
    parts = [fusion.parts(torch.stack(chunk)) for chunk in zip(*of_each, strict=True)]
    maps, pet = torch.cat([x.sum(0) for x in parts]), torch.cat([x[0] for x in parts])
    seconds = sum(member.seconds_per_pair for member in members)
    return scored_anew(model, Scored(np.empty(0), maps.numpy(), seconds, pet.numpy()))


def fusion_of_normals(how: Fusion, members: Sequence[Scored]) -> MapFusion:
    """Late fusion, on the scale of the members' maps of the validation normals."""
    fusion = MapFusion(how, len(members))
    maps = (torch.split(torch.from_numpy(x.maps), _BATCH) for x in members)
    fusion.fit(torch.stack(part) for part in zip(*maps, strict=True))
    return fusion


def scores_its_maps(model: type[AnomalyModel]) -> bool:
    """Is an image score what ``score`` makes of its map, and nothing else of the slice?"""
    return model.detect is AnomalyModel.detect


def scored_anew(model: AnomalyModel, scored: Scored) -> Scored:
    """The same maps with the scores that ``model`` gives to maps."""
    chunks = torch.split(torch.from_numpy(scored.maps), _BATCH)
    scores = torch.cat([model.score(chunk) for chunk in chunks])
    return replace(scored, scores=scores.double().numpy())


def gflops_of_one_pair(model: AnomalyModel, store: SliceStore, device: torch.device) -> float:
    """Billions of floating-point operations for the map of one pair, as torch counts them.

    Custom kernels and element-wise steps are not counted, so a selective scan is not either.
    """
    with _frozen(model), FlopCounterMode(display=False) as counter, torch.inference_mode():
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


def _chunks(indices: list[int]) -> list[list[int]]:
    return [indices[start : start + _BATCH] for start in range(0, len(indices), _BATCH)]
