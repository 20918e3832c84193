"""``models.twin`` of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from petct_uad.core.params.base import Positive
from petct_uad.models.common.params import Fusion, GradientParams


class TwinParams(GradientParams):
    """The PET that this anatomy would normally have, and the CT that its surroundings would."""

    modalities = ("petct",)
    sees_both_modalities = True
    needs_cnn_teacher = True

    pet_shown: Literal["nothing", "blurred"] = Field(
        description="of the PET, beside the CT, while the PET is predicted"
    )
    blur_px: Positive = Field(le=64, description="Gaussian of a blurred PET, at 256 px")
    explain_ct: bool = Field(description="predict the CT of hidden blocks too")
    block_px: int = Field(ge=4, le=128, description="side of a hidden block of CT, at 256 px")
    width: int = Field(ge=4, le=256, description="channels at stride 4; twice and four times below")
    least_spread: Positive = Field(le=1, description="of a prediction; images go from 0 to 1")
    deviations: Literal["more", "both"] = Field(
        description="which count: more uptake and density than predicted, or less of them too"
    )
    fusion: Fusion = Field(description="of the deviations of PET and CT")
    score: Literal["top", "max"]
    score_top_fraction: float = Field(gt=0, le=1)
