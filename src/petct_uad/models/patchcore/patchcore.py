"""PatchCore (Roth et al. 2022, arXiv:2106.08265) on our teachers.

A memory bank keeps a representative few of the patch features of normal slices; a patch is as
abnormal as it is far from its nearest neighbour there.
Deviations from the paper are listed in this folder's README.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from petct_uad.core.errors import TrainingError
from petct_uad.core.params.base import Modality
from petct_uad.models.common.interface import Batch, FitPoint, FittedModel
from petct_uad.models.common.maps import join_maps
from petct_uad.models.patchcore.params import PatchcoreParams
from petct_uad.models.with_teacher import FeatureModel
from petct_uad.teachers.cnn import CACHED_IMAGES, CnnTeacher

_CHUNK_DISTANCES = 4_000_000  # between patches and bank held at once: 16 MB
_CURVE_POINTS = 10
_CURVE_PATCHES = 4000


class Patchcore(FeatureModel[PatchcoreParams], FittedModel):
    """Nearest-neighbour search in a coreset of normal patch features, one modality."""

    def __init__(
        self, params: PatchcoreParams, teacher: CnnTeacher, modality: Modality, image_size_px: int
    ) -> None:
        super().__init__(params, teacher, modality, image_size_px)
        self.enlarge = params.enlarge
        self.length = sum(self.channels.values())  # of a patch's features
        self.memory_bank: Tensor
        self.register_buffer("memory_bank", torch.empty(0, self.length))
        # Follows from the bank, so it is no part of the state.
        self.support: Tensor
        self.register_buffer("support", torch.empty(0, 1, dtype=torch.long), persistent=False)

    def fit(self, normals: Iterable[Batch], held_out: Iterable[Batch]) -> list[FitPoint]:
        """Fill the memory bank: random subsample, then greedy k-center coreset.

        Returns:
            Mean distance to the nearest bank patch, at growing sizes of the bank.

        Raises:
            TrainingError: there is no training slice.
        """
        patches = self._sample(normals, self.params.max_patches)
        size = max(round(len(patches) * self.params.coreset_fraction), 1)
        self._remember(patches[k_center_greedy(patches, size)])
        return self._coverage(patches, self._sample(held_out, _CURVE_PATCHES))

    @torch.no_grad()
    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S): distance of every patch to the bank, each weighted as in Eq. 7, smoothed."""
        patches, side = self._embed(batch)
        rows = max(_CHUNK_DISTANCES // len(self.memory_bank), 1)
        distances = [self._distances(chunk) for chunk in torch.split(patches, rows)]
        grids = torch.cat(distances).view(-1, side, side)
        return self._smoothed(grids)

    def load_student_state(self, state: dict[str, Tensor]) -> None:
        """Take a memory bank of any size."""
        size = len(state.get("memory_bank", ()))
        self.memory_bank = self.memory_bank.new_empty(size, self.length)
        super().load_student_state(state)
        self._remember(self.memory_bank)

    def _embed(self, batch: Batch) -> tuple[Tensor, int]:
        """Locally aware patch features (B h w, C) on the finest grid asked for, and its side h."""
        features = self._features(self._images(batch), CACHED_IMAGES)
        pooled = [F.avg_pool2d(x, 3, 1, 1) for x in features]
        grids = join_maps(pooled, pooled[0].shape[-2:], "bilinear").permute(0, 2, 3, 1)
        return grids.flatten(0, 2), len(grids[0])

    def _sample(self, batches: Iterable[Batch], count: int) -> Tensor:
        """At most ``count`` patches (n, C), drawn uniformly without holding many more at once."""
        kept, keys = self.memory_bank.new_empty(0, self.length), torch.empty(0)
        for batch in batches:
            patches, _ = self._embed(batch)
            kept = torch.cat([kept, patches])
            keys = torch.cat([keys, torch.rand(len(patches))])
            if len(keys) > count:
                keys, chosen = keys.topk(count, largest=False)
                kept = kept[chosen]
        if not len(kept):
            raise TrainingError("PatchCore: no normal slice to fit. Is the split empty?")
        return kept

    def _remember(self, bank: Tensor) -> None:
        """Take a bank (M, C), and find the b patches nearest to each of its own, itself first."""
        distances = torch.cdist(bank, bank).fill_diagonal_(-1)
        neighbours = min(self.params.neighbours, len(bank))
        self.memory_bank = bank
        self.support = torch.topk(distances, neighbours, largest=False).indices

    def _distances(self, patches: Tensor) -> Tensor:
        """Weighted distance (n,) of patches (n, C) to the bank."""
        squares = squared_distances(patches, self.memory_bank)
        nearest, index = squares.min(1)
        distances = nearest.sqrt()
        if self.support.shape[1] == 1:
            return distances
        away = squares.gather(1, self.support[index]).sqrt()
        weight = 1 - away.softmax(1)[:, 0]
        return weight * distances

    def _coverage(self, train: Tensor, held_out: Tensor) -> list[FitPoint]:
        sizes = torch.linspace(1, len(self.memory_bank), _CURVE_POINTS).round().int().tolist()
        banks = [self.memory_bank[:size] for size in sorted(set(sizes))]
        train = train[:_CURVE_PATCHES]
        return [
            FitPoint(len(bank), _mean_nearest(train, bank), _mean_nearest(held_out, bank))
            for bank in banks
        ]


def k_center_greedy(points: Tensor, count: int) -> Tensor:
    """Indices (count,) of points that lie far apart: each next is the farthest from those chosen.

    The first is drawn by torch's generator. A step is one product of all points with one of them,
    so that it reads them once.

    Args:
        points: (n, C).
        count: at most n.
    """
    points = points - points.mean(0)  # rounding errors grow with the length of a vector
    squares = points.square().sum(1)
    chosen = torch.empty(count, dtype=torch.long, device=points.device)
    nearest = torch.full_like(squares, torch.inf)
    index = torch.randint(len(points), (), device=points.device)
    for step in range(count):
        chosen[step] = index
        away = torch.addmv(squares, points, points[index], alpha=-2).add_(squares[index])
        torch.minimum(nearest, away, out=nearest)
        nearest[index] = -torch.inf  # never twice, whatever rounding says
        index = nearest.argmax()
    return chosen


def squared_distances(points: Tensor, bank: Tensor) -> Tensor:
    """(n, M) of points (n, C) and a bank (M, C)."""
    lengths = points.square().sum(1, keepdim=True) + bank.square().sum(1)
    return torch.addmm(lengths, points, bank.T, alpha=-2).clamp_min_(0)


def _mean_nearest(patches: Tensor, bank: Tensor) -> float:
    return float(torch.cdist(patches, bank).amin(1).mean())
