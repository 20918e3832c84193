"""A convolutional autoencoder of the image: the first row of many tables, plain or variational.

It learns to draw normal slices through a short code; what it cannot draw is abnormal. The
variational one is Kingma & Welling's (arXiv:1312.6114). What was chosen is in this folder's
README.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from petct_uad.core.params.base import Modality
from petct_uad.models.autoencoder.params import AutoencoderParams
from petct_uad.models.common.interface import Batch, GradientModel, images_of
from petct_uad.models.with_teacher import CnnModel
from petct_uad.teachers.cnn import CnnTeacher

_STAGES = 4  # strides 2, 4, 8 and 16
_STRIDE = 2**_STAGES


class Autoencoder(CnnModel[AutoencoderParams], GradientModel):
    """Encoder, code and decoder of one modality's slices."""

    def __init__(
        self, params: AutoencoderParams, teacher: CnnTeacher, modality: Modality, image_size_px: int
    ) -> None:
        super().__init__(params, teacher, modality, image_size_px)
        self.side = -(-image_size_px // _STRIDE)
        widths = [params.width << stage for stage in range(_STAGES)]
        deepest, values = widths[-1], widths[-1] * self.side**2
        self.encoder = nn.Sequential(
            *(_down(*pair) for pair in zip([1, *widths], widths, strict=False)), nn.Flatten()
        )
        self.code = nn.Linear(values, params.latent * (2 if params.variational else 1))
        self.decoder = nn.Sequential(
            nn.Linear(params.latent, values),
            nn.Unflatten(1, (deepest, self.side, self.side)),
            *(_up(*pair) for pair in pairwise(reversed(widths))),
            # Pixels straight from stride 2: layers at full size would take most of the time.
            nn.Conv2d(params.width, 4, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """Images (B, 1, S, S)."""
        return images_of(batch, self.modality)

    def loss(self, *prepared: Tensor) -> Tensor:
        """Mean squared error, plus the weighted KL divergence of a variational code.

        Outside of training the code is its mean.
        """
        (images,) = prepared
        mean, spread = self._encode(images)
        code = mean + torch.randn_like(mean) * spread if self.training else mean
        error = F.mse_loss(self._decode(code), images)
        if not self.params.variational:
            return error
        divergence = (mean.square() + spread.square() - 1) / 2 - spread.log()
        return error + self.params.kl_weight * divergence.mean()

    @torch.no_grad()
    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S): squared error of the reconstruction, smoothed."""
        images = self._images(batch)
        drawn = self._decode(self._encode(images)[0])
        return self._smoothed((drawn - images).square()[:, 0])

    def _encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and spread (B, latent) of the code; a plain code has no spread."""
        code = self.code(self.encoder(images))
        if not self.params.variational:
            return code, torch.zeros_like(code)
        mean, log_variance = code.chunk(2, 1)
        return mean, (log_variance.clamp(-20, 20) / 2).exp()

    def _decode(self, code: Tensor) -> Tensor:
        """(B, 1, S, S); the deepest side is rounded up, so that some crop."""
        drawn: Tensor = self.decoder(code)
        return drawn[..., : self.image_size_px, : self.image_size_px]


def _down(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2))


def _up(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())
