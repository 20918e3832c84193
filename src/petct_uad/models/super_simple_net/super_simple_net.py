"""SuperSimpleNet (Rolih et al. 2024, arXiv:2408.03143) on our teachers.

Noise is added to the teacher's features of normal slices in places of random shape. A head of
1 x 1 convolutions learns to find the places, a second one whether there are any: a discriminative
model taught on normal slices only, after SimpleNet (Liu et al. 2023, arXiv:2303.15140). Adapter,
heads, loss and noise are anomalib's. Deviations from the paper are listed in this folder's README.
"""

from __future__ import annotations

import torch
from anomalib.data.utils.generators import generate_perlin_noise
from anomalib.models.image.supersimplenet.anomaly_generator import AnomalyGenerator
from anomalib.models.image.supersimplenet.loss import SSNLoss
from anomalib.models.image.supersimplenet.torch_model import (
    FeatureAdapter,
    SegmentationDetectionModule,
)
from torch import Tensor, nn
from torch.nn import functional as F

from petct_uad.core.params.base import Modality
from petct_uad.models.common.interface import Batch, GradientModel
from petct_uad.models.common.maps import join_maps
from petct_uad.models.super_simple_net.params import SuperSimpleNetParams
from petct_uad.models.with_teacher import FeatureModel
from petct_uad.teachers.cnn import CnnTeacher

_FINEST_PERLIN = 32  # cells along a side of anomalib's finest noise, which needs as many pixels
_EMPTY = 0.5  # probability that a slice keeps its features, as published
_FIXED_SEED = 0


class SuperSimpleNet(FeatureModel[SuperSimpleNetParams], GradientModel):
    """Feature adapter, segmentation head and classification head, one modality."""

    def __init__(
        self,
        params: SuperSimpleNetParams,
        teacher: CnnTeacher,
        modality: Modality,
        image_size_px: int,
    ) -> None:
        super().__init__(params, teacher, modality, image_size_px)
        channels = sum(self.channels.values())
        self.standardise = nn.BatchNorm2d(channels, affine=False)
        self.adapter = FeatureAdapter(channels)
        self.heads = SegmentationDetectionModule(channels, stop_grad=True)
        self.anomalies = FeatureNoise(0.0, params.noise, params.perlin_threshold)
        self.objective = SSNLoss()

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """The teacher's maps, finest first."""
        return self._features(self._images(batch))

    def loss(self, *prepared: Tensor) -> Tensor:
        """Focal and truncated L1 loss of the noise's places, focal loss of its presence.

        Outside of training the noise comes from a fixed seed.
        """
        adapted = self._adapt(prepared)
        if self.training:
            return self._loss(adapted)
        with torch.random.fork_rng():
            torch.manual_seed(_FIXED_SEED)
            return self._loss(adapted)

    def detect(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Maps (B, S, S), and scores (B,) of the classification head or the map; all are logits."""
        with torch.no_grad():
            adapted = self._adapt(self.prepare(batch))
            grids, scores = self.heads(adapted, adapted)
        maps = self._smoothed(grids[:, 0])
        return maps, scores if self.params.score == "head" else self.score(maps)

    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S): the segmentation head's logits, smoothed."""
        return self.detect(batch)[0]

    def _adapt(self, features: tuple[Tensor, ...]) -> Tensor:
        """(B, C, h, w): maps resized alike and joined, neighbourhoods averaged, adapted."""
        side = self.params.enlarge * features[0].shape[-1]
        resized = join_maps((x.float() for x in features), (side, side), "bilinear")
        joined = F.avg_pool2d(resized, 3, 1, 1)
        adapted: Tensor = self.adapter(self.standardise(joined))
        return adapted

    def _loss(self, adapted: Tensor) -> Tensor:
        places = adapted.new_zeros(len(adapted), 1, *adapted.shape[2:])
        _, noisy, places, labels = self.anomalies(None, adapted, places, places[:, 0, 0, 0])
        grids, scores = self.heads(noisy, noisy)
        loss: Tensor = self.objective(grids, scores, places, labels)
        return loss


class FeatureNoise(AnomalyGenerator):  # type: ignore[misc]
    """anomalib's noise, for maps of any size, always drawn on the CPU."""

    def generate_perlin(self, batches: int, height: int, width: int) -> Tensor:
        """Masks (batches, 1, h, w) of 0 and 1 where Perlin noise is high; half are empty."""
        masks = [self._mask(height, width) for _ in range(batches)]
        kept = torch.rand(batches, 1, 1, 1) > _EMPTY
        return torch.stack(masks) * kept

    def _mask(self, height: int, width: int) -> Tensor:
        side = max(height, width, _FINEST_PERLIN)
        noise = generate_perlin_noise(side, side, device=torch.device("cpu"))
        if not (noise > self.threshold).any():
            noise = 2 * (noise - noise.min()) / (noise.max() - noise.min()) - 1
        resized = F.interpolate(noise[None, None], size=(height, width), mode="bilinear")
        mask: Tensor = resized[0] > self.threshold
        return mask.float()
