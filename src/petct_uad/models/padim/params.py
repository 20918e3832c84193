"""``models.padim`` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from petct_uad.models.common.params import FeatureParams, FittedParams


class PadimParams(FeatureParams, FittedParams):
    """PaDiM (Defard et al. 2021): a Gaussian of features at every place."""

    features: int = Field(ge=1, le=4096, description="channels drawn at random; ResNet-18: 100")
