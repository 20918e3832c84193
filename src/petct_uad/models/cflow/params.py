"""``models.cflow`` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from petct_uad.models.common.params import FeatureParams, GradientParams


class CflowParams(FeatureParams, GradientParams):
    """CFLOW-AD (Gudovskiy et al. 2022): flows conditioned on the place."""

    coupling_blocks: int = Field(ge=1, le=32)
    condition: int = Field(ge=4, le=1024, multiple_of=4, description="length of a place's code")
    fibres: int = Field(ge=1, le=65536, description="places per scale and step")
