"""``models.ganomaly`` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from petct_uad.models.common.params import GradientParams


class GanomalyParams(GradientParams):
    """GANomaly (Akcay et al. 2018): a generator of images and codes, and a discriminator."""

    needs_cnn_teacher = True

    width: int = Field(ge=4, le=256, description="channels at stride 2; they double down to 4 x 4")
    latent: int = Field(ge=1, le=4096, description="length of the code; paper: 100")
    adversarial_weight: float = Field(ge=0, description="of the discriminator's features (Eq. 1)")
    content_weight: float = Field(ge=0, description="of the image (Eq. 2)")
    encoding_weight: float = Field(ge=0, description="of the code (Eq. 3)")
