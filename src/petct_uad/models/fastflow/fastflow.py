"""FastFlow (Yu et al. 2021, arXiv:2111.07677) on our teachers.

At each scale a two-dimensional normalising flow turns the teacher's map of a normal slice into
Gaussian noise; where the noise is large, a slice is abnormal. Flows and loss are anomalib's.
Deviations from the paper are listed in this folder's README.
"""

from __future__ import annotations

import torch
from anomalib.models.image.fastflow.anomaly_map import AnomalyMapGenerator
from anomalib.models.image.fastflow.loss import FastflowLoss
from anomalib.models.image.fastflow.torch_model import create_fast_flow_block
from torch import Tensor, nn

from petct_uad.core.params.base import Modality
from petct_uad.models.common.interface import Batch, GradientModel
from petct_uad.models.fastflow.params import FastflowParams
from petct_uad.models.with_teacher import FeatureModel
from petct_uad.teachers.cnn import CnnTeacher


class Fastflow(FeatureModel[FastflowParams], GradientModel):
    """A flow for each scale of the teacher, one modality."""

    def __init__(
        self, params: FastflowParams, teacher: CnnTeacher, modality: Modality, image_size_px: int
    ) -> None:
        super().__init__(params, teacher, modality, image_size_px)
        shapes = [(c, *[-(-image_size_px // stride)] * 2) for stride, c in self.channels.items()]
        self.norms = nn.ModuleList(nn.LayerNorm(shape) for shape in shapes)
        self.flows = nn.ModuleList(
            create_fast_flow_block(
                list(shape), params.conv3x3_only, params.hidden_ratio, params.flow_steps
            )
            for shape in shapes
        )
        self.values = sum(channels * height * width for channels, height, width in shapes)
        self.generator = AnomalyMapGenerator((image_size_px, image_size_px))

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """The teacher's maps, finest first."""
        return self._features(self._images(batch))

    def loss(self, *prepared: Tensor) -> Tensor:
        """Negative log-likelihood (Eq. 3), up to a constant, per value of the maps."""
        hidden, determinants = self._flow(prepared)
        loss: Tensor = FastflowLoss()(hidden, determinants)
        return loss / self.values

    @torch.no_grad()
    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S): minus the likelihood of the noise, mean over scales, smoothed."""
        hidden, _ = self._flow(self.prepare(batch))
        maps: Tensor = self.generator(hidden)
        return self._smoothed(maps[:, 0])

    def _flow(self, features: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
        """Noise (B, C, h, w) and log-determinant (B,) of each scale."""
        pairs = [
            flow(norm(x)) for flow, norm, x in zip(self.flows, self.norms, features, strict=True)
        ]
        return [noise for noise, _ in pairs], [determinant for _, determinant in pairs]
