"""``models.mkd`` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from petct_uad.models.common.params import FeatureParams, GradientParams


class MkdParams(FeatureParams, GradientParams):
    """Multi-resolution knowledge distillation (Salehi et al. 2021)."""

    width: int = Field(ge=4, le=512, description="channels of the cloner at stride 2")
    cosine_weight: float = Field(ge=0, description="lambda: of the direction beside the value")
