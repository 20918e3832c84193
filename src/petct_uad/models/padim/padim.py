"""PaDiM (Defard et al. 2021, arXiv:2011.08785) on our teachers.

At every place of the image, the teacher's features of normal slices make a Gaussian; a slice is as
abnormal there as its features are far from the mean, in Mahalanobis' distance. Gaussian and
distance are anomalib's. Deviations from the paper are listed in this folder's README.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from anomalib.models.components import MultiVariateGaussian
from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator
from torch import Tensor

from petct_uad.core.errors import ParamsError, TrainingError
from petct_uad.core.params.base import Modality
from petct_uad.models.common.interface import Batch, FitPoint, FittedModel
from petct_uad.models.common.maps import join_maps
from petct_uad.models.padim.params import PadimParams
from petct_uad.models.with_teacher import FeatureModel
from petct_uad.teachers.cnn import CnnTeacher


class Padim(FeatureModel[PadimParams], FittedModel):
    """A Gaussian of C random channels of the teacher at each of h x h places, one modality."""

    def __init__(
        self, params: PadimParams, teacher: CnnTeacher, modality: Modality, image_size_px: int
    ) -> None:
        super().__init__(params, teacher, modality, image_size_px)
        channels = sum(self.channels.values())
        if params.features > channels:
            raise ParamsError(
                f"models.padim.features = {params.features}: the teacher has {channels} channels "
                f"at strides {list(params.strides)}"
            )
        kept, places = params.features, (-(-image_size_px // min(params.strides))) ** 2
        self.chosen: Tensor
        self.mean: Tensor
        self.inv_covariance: Tensor
        self.register_buffer("chosen", torch.randperm(channels)[:kept])
        self.register_buffer("mean", torch.zeros(kept, places))
        self.register_buffer("inv_covariance", torch.zeros(places, kept, kept))

    def fit(self, normals: Iterable[Batch], held_out: Iterable[Batch]) -> list[FitPoint]:
        """Mean and inverse covariance at every place.

        Returns:
            One point: the number of slices, and the mean distance of both splits.

        Raises:
            TrainingError: there is no training slice.
        """
        embedded = [self._embed(batch) for batch in normals]
        if not embedded:
            raise TrainingError("PaDiM: no normal slice to fit. Is the split empty?")
        every = torch.cat(embedded)
        self.mean, self.inv_covariance = MultiVariateGaussian().fit(every)
        # anomalib's covariances end in their places; contiguous, products with them are faster.
        self.inv_covariance = self.inv_covariance.contiguous()
        held = [self._distances(self._embed(batch)) for batch in held_out]
        train = torch.cat(
            [self._distances(chunk) for chunk in torch.split(every, self.params.batch_size)]
        )
        return [FitPoint(len(every), float(train.mean()), float(torch.cat(held).mean()))]

    @torch.no_grad()
    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S): Mahalanobis' distance at every place (section III-C), smoothed."""
        return self._smoothed(self._distances(self._embed(batch)))

    def _embed(self, batch: Batch) -> Tensor:
        """(B, C, h, h): the chosen channels of all strides on the finest grid."""
        maps = self._features(self._images(batch))
        return join_maps(maps, maps[0].shape[-2:], "nearest")[:, self.chosen]

    def _distances(self, embedded: Tensor) -> Tensor:
        """(B, h, h)."""
        stats = [self.mean, self.inv_covariance]
        distances: Tensor = AnomalyMapGenerator.compute_distance(embedded, stats)
        return distances[:, 0]
