"""``models.patchcore`` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from petct_uad.models.common.params import Enlarge, FeatureParams, FittedParams


class PatchcoreParams(FeatureParams, FittedParams):
    """PatchCore (Roth et al. 2022)."""

    enlarge: Enlarge
    max_patches: int = Field(ge=100, description="patches kept before the coreset search")
    coreset_fraction: float = Field(gt=0, le=1)
    neighbours: int = Field(ge=1, le=100)
