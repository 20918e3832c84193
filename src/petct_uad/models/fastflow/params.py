"""``models.fastflow`` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from petct_uad.models.common.params import FeatureParams, GradientParams


class FastflowParams(FeatureParams, GradientParams):
    """FastFlow (Yu et al. 2021): two-dimensional flows of whole feature maps."""

    flow_steps: int = Field(ge=1, le=32)
    hidden_ratio: float = Field(gt=0, le=4, description="channels inside a subnet, to outside")
    conv3x3_only: bool
