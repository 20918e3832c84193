"""The nearest normal slice: nothing is learnt but which slices are normal.

A slice is as abnormal as it is far from the training normal that looks most like it, both shrunk to
a few pixels; where it differs from that one is the map. See this folder's README.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from petct_uad.core.errors import TrainingError
from petct_uad.core.params.base import Modality
from petct_uad.models.common.interface import Batch, FitPoint, FittedModel, images_of
from petct_uad.models.nearest_slice.params import NearestSliceParams
from petct_uad.models.with_teacher import CnnModel
from petct_uad.teachers.cnn import CnnTeacher

_LEAST_SPREAD = 1e-6


class NearestSlice(CnnModel[NearestSliceParams], FittedModel):
    """All training normals (n, K, S, S), K 2 where PET and CT are both seen."""

    def __init__(
        self,
        params: NearestSliceParams,
        teacher: CnnTeacher,
        modality: Modality,
        image_size_px: int,
    ) -> None:
        super().__init__(params, teacher, modality, image_size_px)
        self.planes = 2 if modality == "petct" else 1
        self.normals: Tensor
        self.spread: Tensor
        self.register_buffer("normals", self._no_slices(0))
        self.register_buffer("spread", torch.ones(self.planes, 1, 1))
        # Follows from the normals, so it is no part of the state.
        self.shrunk: Tensor
        self.register_buffer("shrunk", torch.empty(0, 0), persistent=False)

    def fit(self, normals: Iterable[Batch], held_out: Iterable[Batch]) -> list[FitPoint]:
        """Remember every training normal.

        Returns:
            One point: the number of slices, the mean distance of each to its nearest other, and of
            the validation normals to their nearest.

        Raises:
            TrainingError: there are fewer than two training slices.
        """
        every = [self._images_of(batch) for batch in normals]
        if (count := sum(map(len, every))) < 2:
            raise TrainingError(f"NearestSlice: {count} normal slices to fit, expected at least 2")
        images = torch.cat(every)
        spread = images.double().std((0, 2, 3))[:, None, None].clamp_min(_LEAST_SPREAD)
        self.spread.copy_(spread.float())
        self._remember(images.half())
        apart = torch.cdist(self.shrunk, self.shrunk).fill_diagonal_(torch.inf)
        held = torch.cat([self._nearest(self._images_of(batch))[0] for batch in held_out])
        return [FitPoint(count, float(apart.amin(1).mean()), float(held.mean()))]

    @torch.no_grad()
    def detect(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Maps, and the distance to the nearest normal, which is no function of the map."""
        images = self._images_of(batch)
        distances, index = self._nearest(images)
        return self._map(images, index), distances

    @torch.no_grad()
    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S): absolute difference to the nearest normal, summed over modalities, smoothed.

        Each modality counts in units of its spread over the training normals' pixels.
        """
        images = self._images_of(batch)
        return self._map(images, self._nearest(images)[1])

    def load_student_state(self, state: dict[str, Tensor]) -> None:
        """Take any number of normals."""
        self.normals = self._no_slices(len(state.get("normals", ())))
        super().load_student_state(state)
        self._remember(self.normals)

    def _no_slices(self, count: int) -> Tensor:
        size = (count, self.planes, self.image_size_px, self.image_size_px)
        return torch.empty(size, dtype=torch.float16)

    def _images_of(self, batch: Batch) -> Tensor:
        """(B, K, S, S): PET before CT."""
        return torch.cat(images_of(batch, self.modality), 1)

    def _remember(self, normals: Tensor) -> None:
        """Take the normals, whose float16 is what the shards hold."""
        self.normals = normals
        self.shrunk = self._shrink(normals.float())

    def _shrink(self, images: Tensor) -> Tensor:
        """(B, K, S, S) to (B, K s s), in units of spread; root mean squares are distances there."""
        side = min(self.params.side_px, self.image_size_px)
        small = F.adaptive_avg_pool2d(images / self.spread, side).flatten(1)
        return small / math.sqrt(small.shape[1])

    def _nearest(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Distance (B,) to the nearest normal, and which one that is."""
        nearest = torch.cdist(self._shrink(images), self.shrunk).min(1)
        return nearest.values, nearest.indices

    def _map(self, images: Tensor, index: Tensor) -> Tensor:
        difference = (images - self.normals[index].float()).abs() / self.spread
        return self._smoothed(difference.sum(1))
