"""``models.super_simple_net`` of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from petct_uad.models.common.params import FeatureParams, GradientParams


class SuperSimpleNetParams(FeatureParams, GradientParams):
    """SuperSimpleNet (Rolih et al. 2024): tells features with noise from those without."""

    enlarge: int = Field(ge=1, le=4, description="times the finest map; paper: 2")
    noise: float = Field(gt=0, le=10, description="standard deviation of the noise; paper: 0.015")
    perlin_threshold: float = Field(gt=-1, lt=1, description="noise lies where Perlin's is higher")
    score: Literal["head", "max"] = Field(description="classification head (paper), or the map's")
