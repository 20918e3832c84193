"""Multi-resolution knowledge distillation (Salehi et al. 2021, arXiv:2011.11108) on our teachers.

A cloner, much smaller than its teacher, learns the teacher's feature maps of normal slices at
several depths, their values and their directions; where it fails, a slice is abnormal.
Deviations from the paper are listed in this folder's README.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from petct_uad.core.params.base import Modality
from petct_uad.models.common.interface import Batch, GradientModel
from petct_uad.models.mkd.params import MkdParams
from petct_uad.models.with_teacher import FeatureModel
from petct_uad.teachers.cnn import CnnTeacher


class Mkd(FeatureModel[MkdParams], GradientModel):
    """Teacher and cloner of one modality's slices."""

    sees_channels = False  # its cloner has one channel, of grey

    def __init__(
        self, params: MkdParams, teacher: CnnTeacher, modality: Modality, image_size_px: int
    ) -> None:
        super().__init__(params, teacher, modality, image_size_px)
        self.cloner = Cloner(params.width, self.channels)

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """Images (B, 1, S, S), then the teacher's maps of them, finest first."""
        images = self._images(batch)
        return (images, *self._features(images))

    def loss(self, *prepared: Tensor) -> Tensor:
        """Eq. 3: the mean squared difference of values, plus lambda times that of directions.

        Directions are those of whole maps (Eq. 2), one vector per slice and depth.
        """
        images, *wanted = prepared
        losses = []
        for given, copied in zip(wanted, self.cloner(images), strict=True):
            alike = F.cosine_similarity(given.flatten(1), copied.flatten(1))
            value = F.mse_loss(copied, given)
            losses.append(value + self.params.cosine_weight * (1 - alike).mean())
        return torch.stack(losses).sum()

    @torch.no_grad()
    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S): the same two differences at every place, summed over depths, smoothed."""
        images, *wanted = self.prepare(batch)
        pairs = zip(wanted, self.cloner(images), strict=True)
        return self._smoothed(self._enlarged(self._grid(*pair) for pair in pairs).sum(0))

    def _grid(self, given: Tensor, copied: Tensor) -> Tensor:
        """(B, h, w)."""
        value = (copied - given).square().mean(1)
        direction = 1 - F.cosine_similarity(given, copied)
        return value + self.params.cosine_weight * direction


class Cloner(nn.Module):
    """Two 3 x 3 convolutions per stride, and a 1 x 1 wherever a map is given back."""

    def __init__(self, width: int, channels: dict[int, int]) -> None:
        super().__init__()
        self.strides = tuple(channels)
        self.stages, self.heads = nn.ModuleDict(), nn.ModuleDict()
        inputs, stride, outputs = 1, 2, width
        while stride <= max(self.strides):
            self.stages[str(stride)] = nn.Sequential(
                *_unit(inputs, outputs, 2), *_unit(outputs, outputs, 1)
            )
            if stride in channels:
                self.heads[str(stride)] = nn.Conv2d(outputs, channels[stride], 1)
            inputs, stride, outputs = outputs, 2 * stride, 2 * outputs

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 1, S, S) to a map (B, C, S/stride, S/stride) of each stride, finest first."""
        maps, x = [], images
        for stride, stage in self.stages.items():
            x = stage(x)
            if stride in self.heads:
                maps.append(self.heads[stride](x))
        return maps


def _unit(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()
