"""One Gaussian of pooled deep features (after Rippel et al. 2020, arXiv:2005.14140).

A slice is as abnormal as its pooled features are far from the mean of normal slices, in
Mahalanobis' distance. There are more features than slices allow for a sample covariance, so that
it is shrunk (Ledoit & Wolf 2004), by scikit-learn. Deviations are listed in this folder's README.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from sklearn.covariance import LedoitWolf
from torch import Tensor
from torch.nn import functional as F

from petct_uad.core.errors import TrainingError
from petct_uad.core.params.base import Modality
from petct_uad.models.common.interface import Batch, FitPoint, FittedModel
from petct_uad.models.common.maps import join_maps
from petct_uad.models.mahalanobis.params import MahalanobisParams
from petct_uad.models.with_teacher import FeatureModel
from petct_uad.teachers.cnn import CACHED_IMAGES, CnnTeacher

_FEWEST = 2  # slices that have a covariance


class Mahalanobis(FeatureModel[MahalanobisParams], FittedModel):
    """A Gaussian of C features, those of all strides and of each modality side by side."""

    def __init__(
        self,
        params: MahalanobisParams,
        teacher: CnnTeacher,
        modality: Modality,
        image_size_px: int,
    ) -> None:
        super().__init__(params, teacher, modality, image_size_px)
        seen = 2 if modality == "petct" else 1
        length = seen * sum(self.channels.values())
        self.mean: Tensor
        self.whitening: Tensor
        self.register_buffer("mean", torch.zeros(length))
        # Its product with a difference has the length of Mahalanobis' distance.
        self.register_buffer("whitening", torch.zeros(length, length))

    def fit(self, normals: Iterable[Batch], held_out: Iterable[Batch]) -> list[FitPoint]:
        """Mean and shrunk covariance of the training normals.

        Returns:
            One point: the number of slices, and the mean distance of both splits.

        Raises:
            TrainingError: there are fewer than two training slices.
        """
        every = [self._pooled(self._embed(batch)) for batch in normals]
        if (count := sum(map(len, every))) < _FEWEST:
            raise TrainingError(f"Mahalanobis: {count} normal slices to fit, expected at least 2")
        train = torch.cat(every)
        fitted = LedoitWolf().fit(train.double().cpu().numpy())
        self.mean.copy_(torch.from_numpy(fitted.location_))
        self.whitening.copy_(torch.from_numpy(_whitening(fitted.covariance_)))
        held = torch.cat([self._pooled(self._embed(batch)) for batch in held_out])
        means = [float(self._distances(x).mean()) for x in (train, held)]
        return [FitPoint(count, *means)]

    @torch.no_grad()
    def detect(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Maps, and the distance of the pooled features, which is no function of the map."""
        embedded = self._embed(batch)
        return self._map(embedded), self._distances(self._pooled(embedded))

    @torch.no_grad()
    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S): distance of the features at each place under the same Gaussian, smoothed."""
        return self._map(self._embed(batch))

    def _map(self, embedded: Tensor) -> Tensor:
        return self._smoothed(self._distances(embedded.permute(0, 2, 3, 1)))

    def _embed(self, batch: Batch) -> Tensor:
        """(B, C, h, h): of all strides on the finest grid, PET before CT."""
        images = self._inputs(batch)
        maps = [x for seen in images for x in self._features(seen, CACHED_IMAGES)]
        return join_maps(maps, maps[0].shape[-2:], "nearest")

    def _pooled(self, embedded: Tensor) -> Tensor:
        """(B, C, h, h) to (B, C)."""
        return embedded.mean((2, 3))

    def _distances(self, features: Tensor) -> Tensor:
        """(..., C) to (...)."""
        away: Tensor = torch.linalg.vector_norm(
            F.linear(features - self.mean, self.whitening), dim=-1
        )
        return away


def _whitening(covariance: np.ndarray) -> np.ndarray:
    """W (C, C) for which W'W is the inverse of a covariance."""
    return np.asarray(np.linalg.inv(np.linalg.cholesky(covariance)))
