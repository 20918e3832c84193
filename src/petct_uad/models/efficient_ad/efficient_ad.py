"""EfficientAD (Batzner et al. 2024, arXiv:2303.14535) on our teachers.

A small student and an autoencoder learn to give a teacher's features of normal slices. The
student, which sees patches, misses local anomalies; the autoencoder, which sees the slice as a
whole, misses unusual arrangements, and the student's second half, which imitates it, does not.
Losses, autoencoder and maps are anomalib's. Deviations from the paper are listed in this folder's
README.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from anomalib.models.image.efficient_ad.torch_model import AutoEncoder, EfficientAdModel
from torch import Tensor, nn
from torch.nn import functional as F

from petct_uad.core.params.base import Modality
from petct_uad.models.common.device import sent
from petct_uad.models.common.interface import Batch, GradientModel, images_of
from petct_uad.models.common.maps import join_maps
from petct_uad.models.efficient_ad.params import EfficientAdParams
from petct_uad.models.efficient_ad.photographs import photograph_crops
from petct_uad.models.with_teacher import CnnModel
from petct_uad.teachers.cnn import CnnTeacher

_STRIDE = 4  # of all maps
_ENCODER_PX = 256  # anomalib's encoder ends in an 8 x 8 kernel at stride 32
_SMALLEST_DECODED_PX = 128  # its decoder starts at S / 64 - 1
_LOW, _HIGH = 0.9, 0.995  # quantiles that scale the maps (section 3.3)
_FIXED_SEED = 0
_PHOTOGRAPHS = 32


class EfficientAd(CnnModel[EfficientAdParams], GradientModel):
    """Teacher, student and autoencoder, one modality."""

    def __init__(
        self, params: EfficientAdParams, teacher: CnnTeacher, modality: Modality, image_size_px: int
    ) -> None:
        super().__init__(params, teacher, modality, image_size_px)
        self.model = EfficientAdModel(params.channels, padding=True)
        self.model.teacher = PooledTeacher(params, teacher, image_size_px)
        self.model.student = Pdn(params.width, 2 * params.channels)
        self.model.ae = WholeImage(params.channels, padding=True)
        # The teacher standardises its own output; calibration sets the quantiles.
        self.model.mean_std.requires_grad_(False)
        self.model.quantiles.requires_grad_(False)

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """Images (B, 1, S, S)."""
        return images_of(batch, self.modality)

    def loss(self, *prepared: Tensor) -> Tensor:
        """Hard features and penalty, autoencoder, student of the autoencoder: their sum (Alg. 1).

        Outside of training the augmentation and the photographs come from a fixed seed.
        """
        (images,) = prepared
        if self.training:
            return self._losses(images)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_FIXED_SEED)
            return self._losses(images)

    @torch.no_grad()
    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S): mean of both maps, each scaled by its quantiles on normals, smoothed."""
        one, two = self._maps(self._images(batch), normalize=True)
        return self._smoothed((one + two) / 2)

    @torch.no_grad()
    def calibrate(self, normals: Iterable[Batch]) -> None:
        """Learn the quantiles of both maps on validation normals (Eq. 4)."""
        pairs = [self._maps(self._images(x), normalize=False) for x in normals]
        for name, maps in zip(("st", "ae"), zip(*pairs, strict=True), strict=True):
            values = torch.cat([x.flatten() for x in maps]).sort().values
            for letter, fraction in (("a", _LOW), ("b", _HIGH)):
                found = values[round(fraction * (len(values) - 1))]
                self.model.quantiles[f"q{letter}_{name}"].copy_(found)

    def _losses(self, images: Tensor) -> Tensor:
        images = images.expand(-1, 3, -1, -1)
        crops = photograph_crops(len(images), self.image_size_px)
        photographs = sent(crops.to(images.dtype), images.device)
        _, distance = self.model.compute_student_teacher_distance(images)
        losses: tuple[Tensor, ...] = self.model.compute_losses(images, photographs, distance)
        return torch.stack(losses).sum()

    def _maps(self, images: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
        """(B, S, S) each: student against teacher, student against autoencoder."""
        images = images.expand(-1, 3, -1, -1)
        student, distance = self.model.compute_student_teacher_distance(images)
        self.model.pad_maps = False  # nothing was lost at the edges
        one, two = self.model.compute_maps(images, student, distance, normalize)
        return one[:, 0], two[:, 0]


class PooledTeacher(nn.Module):
    """The teacher's maps as PatchCore joins them, pooled to C channels at stride 4.

    Channels are standardised by their mean and spread on photographs.
    """

    def __init__(self, params: EfficientAdParams, teacher: CnnTeacher, image_size_px: int) -> None:
        super().__init__()
        self.strides = sorted(params.strides)
        self.channels = params.channels
        self.teacher = teacher
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_FIXED_SEED)
            pooled = self._pooled(photograph_crops(_PHOTOGRAPHS, image_size_px))
        # Not persistent: they follow from the teacher.
        self.register_buffer("mean", pooled.mean((0, 2, 3))[:, None, None], persistent=False)
        self.register_buffer("std", pooled.std((0, 2, 3))[:, None, None], persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] to (B, C, S/4, S/4)."""
        return (self._pooled(images) - self.mean) / self.std

    @torch.no_grad()
    def _pooled(self, images: Tensor) -> Tensor:
        size = (images.shape[-1] // _STRIDE,) * 2
        features = self.teacher.features(images, deepest=max(self.strides))
        maps = [F.avg_pool2d(features[stride], 3, 1, 1) for stride in self.strides]
        joined = join_maps(maps, size, "bilinear")
        pooled = F.adaptive_avg_pool1d(joined.flatten(2).mT, self.channels).mT
        return pooled.reshape(*pooled.shape[:2], *size)


class Pdn(nn.Sequential):
    """The student: a PDN-S of any width (Table 6), with padding: (B, 3, S, S) to stride 4."""

    def __init__(self, width: float, channels: int) -> None:
        first, second = max(round(128 * width), 1), max(round(256 * width), 1)
        super().__init__(
            nn.Conv2d(3, first, 4, padding=3),
            nn.ReLU(),
            nn.AvgPool2d(2, 2, padding=1),
            nn.Conv2d(first, second, 4, padding=3),
            nn.ReLU(),
            nn.AvgPool2d(2, 2, padding=1),
            nn.Conv2d(second, second, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(second, channels, 4),
        )


class WholeImage(AutoEncoder):  # type: ignore[misc]
    """anomalib's autoencoder, for images of any size."""

    def forward(self, images: Tensor, image_size: tuple[int, int]) -> Tensor:
        """(B, 3, S, S) to (B, C, S/4, S/4)."""
        side = image_size[0] // _STRIDE
        enlarged = F.interpolate(images, size=(_ENCODER_PX, _ENCODER_PX), mode="bilinear")
        decoded: Tensor = super().forward(enlarged, (max(image_size[0], _SMALLEST_DECODED_PX),) * 2)
        return F.interpolate(decoded, size=(side, side), mode="bilinear")
