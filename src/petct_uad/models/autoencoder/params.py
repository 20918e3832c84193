"""``models.autoencoder`` and ``models.vae`` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from petct_uad.models.common.params import GradientParams


class AutoencoderParams(GradientParams):
    """A convolutional autoencoder of the image, plain or variational (Kingma & Welling 2014)."""

    sections = ("models.autoencoder", "models.vae")
    needs_cnn_teacher = True

    variational: bool
    kl_weight: float = Field(ge=0, description="of the KL divergence, per latent value")
    width: int = Field(ge=4, le=512, description="channels at stride 2; they double to stride 16")
    latent: int = Field(ge=1, le=4096, description="length of the code")
