"""GANomaly (Akcay et al. 2018, arXiv:1805.06725): encoder, decoder, encoder, against a critic.

A generator learns to draw normal slices through a code, and to find the same code again in what it
drew; a discriminator learns to tell drawn slices from real ones. A slice whose two codes differ is
abnormal. The networks are anomalib's. Deviations from the paper are listed in this folder's README.
"""

from __future__ import annotations

import torch
from anomalib.data.utils.image import pad_nextpow2
from anomalib.models.image.ganomaly.torch_model import GanomalyModel
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from petct_uad.core.params.base import Modality
from petct_uad.models.common.interface import Batch, GradientModel, images_of
from petct_uad.models.ganomaly.params import GanomalyParams
from petct_uad.models.with_teacher import CnnModel
from petct_uad.teachers.cnn import CnnTeacher


class Ganomaly(CnnModel[GanomalyParams], GradientModel):
    """Generator and discriminator of one modality's slices."""

    def __init__(
        self, params: GanomalyParams, teacher: CnnTeacher, modality: Modality, image_size_px: int
    ) -> None:
        super().__init__(params, teacher, modality, image_size_px)
        self.side = 1 << (image_size_px - 1).bit_length()  # the networks halve it down to 4
        parts = GanomalyModel((self.side, self.side), 1, params.width, params.latent)
        # anomalib calls this for the outermost modules only, where it does nothing.
        parts.apply(parts.weights_init)
        self.generator = parts.generator
        self.features = parts.discriminator.features
        self.classifier = parts.discriminator.classifier[0]  # without its sigmoid

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """Images (B, 1, S, S)."""
        return images_of(batch, self.modality)

    def loss(self, *prepared: Tensor) -> Tensor:
        """Eq. 4 for the generator, plus the discriminator's cross entropy.

        Outside of training without adversaries: how well one fares says nothing but how the other
        does, so that the state to keep is chosen by the images and codes.
        """
        (images,) = prepared
        real = self._seen(images)
        fake, code, again = self.generator(real)
        content = F.l1_loss(fake, real)  # Eq. 2
        encoding = F.mse_loss(again, code)  # Eq. 3
        loss = self.params.content_weight * content + self.params.encoding_weight * encoding
        return loss + self._adversaries(real, fake) if self.training else loss

    @torch.no_grad()
    def detect(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Maps (B, S, S), and the distance (B,) of the two codes (Eq. 6), per value."""
        real = self._seen(self._images(batch))
        fake, code, again = self.generator(real)
        top = -(-(self.side - self.image_size_px) // 2)
        inside = slice(top, top + self.image_size_px)
        errors = (fake - real).abs()[:, 0, inside, inside]
        return self._smoothed(errors), (again - code).abs().flatten(1).mean(1)

    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S): what Eq. 2 sums, at every place, smoothed; the paper has no map."""
        return self.detect(batch)[0]

    def _seen(self, images: Tensor) -> Tensor:
        """(B, 1, side, side) in [-1, 1], as the decoder's tanh draws them."""
        padded: Tensor = pad_nextpow2(images)
        return padded * 2 - 1

    def _adversaries(self, real: Tensor, fake: Tensor) -> Tensor:
        """Eq. 1, which reaches the generator only, and what reaches the discriminator only."""
        of_real, of_fake = self.features(real), self.features(fake.detach())
        yes, no = self.classifier(of_real), self.classifier(of_fake)
        discriminated = F.softplus(-yes).mean() + F.softplus(no).mean()  # cross entropy of logits
        frozen = {name: x.detach() for name, x in self.features.named_parameters()}
        frozen |= {name: x.clone() for name, x in self.features.named_buffers()}
        seen_again = functional_call(self.features, frozen, fake)
        alike = F.mse_loss(seen_again, of_real.detach())
        return self.params.adversarial_weight * alike + discriminated / 2
