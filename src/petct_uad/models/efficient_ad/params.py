"""``models.efficient_ad`` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from petct_uad.models.common.params import FeatureParams, GradientParams


class EfficientAdParams(FeatureParams, GradientParams):
    """EfficientAD (Batzner et al. 2024): a student and an autoencoder of one teacher."""

    channels: int = Field(ge=8, le=1024, description="of the teacher's pooled maps; paper: 384")
    width: float = Field(gt=0, le=2, description="of the student PDN; 1 is the paper's PDN-S")
