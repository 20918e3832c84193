"""HDHKD, hybrid dual-heterogeneous knowledge distillation (Xu et al.), from top to bottom.

A frozen network describes each patch of a slice. A student of another kind, an encoder with two
decoding branches, learns to predict these descriptions on normal slices; where it fails, the slice
is abnormal. Deviations from the paper are listed in this folder's README.

Shapes: B batch, S image side, C channels of the teacher.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from petct_uad.core.params.base import Modality
from petct_uad.models.common.interface import Batch, GradientModel
from petct_uad.models.hdhkd.decoder import Decoder, conv_block
from petct_uad.models.hdhkd.encoder import Encoder
from petct_uad.models.hdhkd.params import HdhkdParams
from petct_uad.models.hdhkd.teacher.pdn import PDN_STRIDE
from petct_uad.models.hdhkd.teacher.teacher import PatchTeacher
from petct_uad.models.with_teacher import ModelWithTeacher
from petct_uad.teachers.params import TeacherParams

_GRID_STRIDE = 16  # of the joined laterals, from which the decoder goes back to 4


class Hdhkd(ModelWithTeacher[HdhkdParams, PatchTeacher], GradientModel):
    """A teacher of patches and a student that shares nothing with it, one modality."""

    def __init__(
        self, params: HdhkdParams, teacher: PatchTeacher, modality: Modality, image_size_px: int
    ) -> None:
        super().__init__(params, teacher, modality, image_size_px)
        self.student = Student(params, teacher.channels, image_size_px)

    @classmethod
    def build(
        cls, params: HdhkdParams, teacher: TeacherParams, modality: Modality, image_size_px: int
    ) -> Self:
        """With what the ``distil`` stage made of ``teacher``.

        Raises:
            TrainingError: there is none, or it was distilled from other params.
            TeacherError: the encoder's weights are missing or do not fit.
        """
        return cls(params, PatchTeacher.load(teacher, image_size_px), modality, image_size_px)

    @classmethod
    def build_untrained(  # noqa: D102
        cls,
        params: HdhkdParams,
        teacher: TeacherParams,
        modality: Modality,
        image_size_px: int,
        whole: Any,
    ) -> Self:
        return cls(params, PatchTeacher.build(whole.distil, teacher), modality, image_size_px)

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """Images (B, 1, S, S) and standardised teacher features (B, C, S/4, S/4)."""
        images = self._images(batch)
        return images, self.teacher.normalised(images)

    def loss(self, *prepared: Tensor) -> Tensor:
        """Eq. 5, as a mean over slices, channels and positions."""
        images, target = prepared
        return F.mse_loss(self.student(images), target)

    @torch.no_grad()
    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S): mean over channels of the squared difference, resized; or see ``error``."""
        images, target = self.prepare(batch)
        grids = (self.student(images) - target).square().mean(1)
        if self.params.error == "relative":
            grids = grids / (target.square().mean(1) + 1)
        return self._smoothed(grids)

    @torch.no_grad()
    def described(self, batch: Batch) -> Tensor:
        """(B, D): the mean over the slice of each of the teacher's channels."""
        return self.teacher.normalised(self._images(batch)).mean((2, 3))


class Student(nn.Module):
    """Encoder, laterals, Block4 and decoder: (B, 1, S, S) to (B, C, S/4, S/4)."""

    def __init__(self, params: HdhkdParams, channels: int, image_size_px: int) -> None:
        super().__init__()
        self.encoder = Encoder(params)
        self.laterals = nn.ModuleList(
            Lateral(count, params.lateral_width, stride)
            for stride, count in self.encoder.channels.items()
        )
        self.block = conv_block(len(self.laterals) * params.lateral_width, params.width)
        self.decoder = Decoder(params, channels, image_size_px // PDN_STRIDE)

    def forward(self, images: Tensor) -> Tensor:
        """Eqs. 2 to 4."""
        maps = zip(self.laterals, self.encoder(images), strict=True)
        joint = torch.cat([lateral(x) for lateral, x in maps], 1)  # (B, K w, S/16, S/16)
        out: Tensor = self.decoder(self.block(joint))
        return out


class Lateral(nn.Module):
    """One encoder stage to S/16: (B, c, S/stride, S/stride) to (B, w, S/16, S/16)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.pool = _to_grid(stride)
        self.conv = conv_block(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        out: Tensor = self.conv(self.pool(x))
        return out


def _to_grid(stride: int) -> nn.Module:
    if stride < _GRID_STRIDE:
        return nn.AvgPool2d(_GRID_STRIDE // stride)
    if stride == _GRID_STRIDE:
        return nn.Identity()
    return nn.Upsample(scale_factor=stride / _GRID_STRIDE, mode="bilinear")
