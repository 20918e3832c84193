"""Maps and scores of a whole split, study by study: joined, scored anew, and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from petct_uad.models.common.batch import Batch
from petct_uad.models.common.fusion import MapFusion
from petct_uad.models.common.interface import AnomalyModel
from petct_uad.models.common.params import Fusion
from petct_uad.scoring.forward import ScoredSlices, joined, read_planes
from petct_uad.slices.store import SliceStore

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


@dataclass(frozen=True)
class Scored:
    """One split through a model; its maps wait in files until they are read.

    Attributes:
        groups: the slices that it saw together, of one study or of some pictures.
        files: the maps of each group.
        sizes: how many slices each study of each group has.
    """

    groups: tuple[ScoredSlices, ...]
    files: tuple[Path, ...]
    sizes: tuple[tuple[int, ...], ...]

    def parts(self) -> Iterator[Part]:
        """Study by study; the maps of one group are in memory at a time."""
        for group, file, sizes in zip(self.groups, self.files, self.sizes, strict=True):
            whole = Part(np.array(group.scores, np.float64), read_planes(file))
            for end, size in zip(accumulate(sizes), sizes, strict=True):
                yield whole[end - size : end]

    @property
    def seconds_per_pair(self) -> float:
        """Of map and score, data already in memory."""
        pairs = sum(map(sum, self.sizes))
        return sum(group.seconds for group in self.groups) / max(pairs, 1)

    @property
    def peak_memory_mib(self) -> float:
        """The most that any group was scored in."""
        return max((group.peak_memory_mib for group in self.groups), default=0.0)


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


def fused(
    model: AnomalyModel, fusion: MapFusion, members: Sequence[Iterable[Part]]
) -> Iterator[Part]:
    """What a PET and a CT model say of the same slices; ``model`` scores the fused maps."""
    for maps in _side_by_side(members):
        yield _scored(model, joined(fusion.parts(maps)))


def fusion_of_normals(how: Fusion, members: Sequence[Iterable[Part]]) -> MapFusion:
    """Late fusion, on the scale of the members' maps of the validation normals."""
    fusion = MapFusion(how, len(members))
    fusion.fit(_side_by_side(members))
    return fusion


def scores_its_maps(model: type[AnomalyModel]) -> bool:
    """Is an image score what ``score`` makes of its map, and nothing else of the slice?"""
    return model.detect is AnomalyModel.detect


def scored_anew(model: AnomalyModel, part: Part) -> Part:
    """The same maps with the scores that ``model`` gives to maps."""
    return _scored(model, torch.from_numpy(part.planes))


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
    """(K, k, S, S) of K members, study after study."""
    for parts in zip(*members, strict=True):
        yield torch.stack([torch.from_numpy(part.maps) for part in parts])


def _scored(model: AnomalyModel, planes: Tensor) -> Part:
    return Part(model.score(planes[0]).double().numpy(), planes.numpy())
