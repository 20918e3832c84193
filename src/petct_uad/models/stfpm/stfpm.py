"""STFPM (Wang et al. 2021, arXiv:2103.04257) on our teachers.

A student of the teacher's own architecture, with random weights, learns the directions of the
teacher's features of normal slices at several scales; where it fails, a slice is abnormal. The map
is anomalib's. Deviations from the paper are listed in this folder's README.
"""

from __future__ import annotations

from copy import deepcopy
from typing import cast

import torch
from anomalib.models.image.stfpm.anomaly_map import AnomalyMapGenerator
from torch import Tensor, nn
from torch.nn import functional as F

from petct_uad.core.params.base import Modality
from petct_uad.models.common.interface import Batch, GradientModel
from petct_uad.models.stfpm.params import StfpmParams
from petct_uad.models.with_teacher import FeatureModel
from petct_uad.teachers.cnn import CnnTeacher


class Stfpm(FeatureModel[StfpmParams], GradientModel):
    """Student and teacher of one architecture, one modality."""

    def __init__(
        self, params: StfpmParams, teacher: CnnTeacher, modality: Modality, image_size_px: int
    ) -> None:
        super().__init__(params, teacher, modality, image_size_px)
        self.student = Student(teacher, max(params.strides))
        self.generator = AnomalyMapGenerator()

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """Images (B, 1, S, S), then the teacher's maps of them, finest first."""
        images = self._images(batch)
        return (images, *self._features(images))

    def loss(self, *prepared: Tensor) -> Tensor:
        """Eqs. 1 to 3: half the squared distance of unit vectors; mean over places, then sum."""
        images, *wanted = prepared
        pairs = zip(wanted, self._student_maps(images), strict=True)
        return torch.stack([1 - F.cosine_similarity(*pair).mean() for pair in pairs]).sum()

    @torch.no_grad()
    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S): product over scales of the distances at every place (section 3.2)."""
        images, *wanted = self.prepare(batch)
        maps: Tensor = self.generator.compute_anomaly_map(
            _named(wanted), _named(self._student_maps(images)), images.shape[-2:]
        )
        return self._smoothed(maps[:, 0])

    def _student_maps(self, images: Tensor) -> list[Tensor]:
        maps = self.student(self.teacher.normalise(images))
        return [maps[stride] for stride in self.channels]


class Student(nn.Module):
    """The teacher's stem and blocks up to a stride, with new random weights."""

    def __init__(self, teacher: CnnTeacher, deepest: int) -> None:
        super().__init__()
        self.strides = tuple(stride for stride in teacher.strides if stride <= deepest)
        self.stem = deepcopy(teacher.stem)
        self.blocks = nn.ModuleList(
            deepcopy(block) for block in teacher.blocks[: len(self.strides)]
        )
        for module in self.modules():
            if hasattr(module, "reset_parameters"):
                cast("nn.Conv2d", module).reset_parameters()
        self.requires_grad_(True)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Normalised images (B, 3, S, S) to the deepest map of each stride."""
        x = self.stem(images)
        maps = {}
        for stride, block in zip(self.strides, self.blocks, strict=True):
            x = block(x)
            maps[stride] = x
        return maps


def _named(maps: list[Tensor]) -> dict[str, Tensor]:
    """As anomalib's extractor names them."""
    return {str(number): x for number, x in enumerate(maps)}
