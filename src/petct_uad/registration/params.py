"""``register`` of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from petct_uad.core.params.base import Section, Seed


class RegisterParams(Section):
    """PET onto the CT-anchored grid."""

    refine: Literal["none", "auto", "rigid", "affine", "bspline"]
    spacing_mm: float = Field(ge=0.5, le=10, description="in-plane spacing of the target grid")
    body_threshold_hu: float = Field(ge=-900, le=0)
    max_displacement_mm: float = Field(ge=0, le=100)
    histogram_bins: int = Field(ge=8, le=256)
    sampling_fraction: float = Field(gt=0, le=1)
    iterations: int = Field(ge=1, le=1000)
    seed: Seed
    null_fwhm_mm: float = Field(
        6.0, gt=0, le=20, description="the PET's resolution that the null test assumes, in mm FWHM"
    )
    null_factor: float = Field(
        2.0, ge=0, le=10, description="how many times the null test's bias may explain a refinement"
    )
    null_margin_mm: float = Field(
        3.5,
        ge=0,
        le=50,
        description="a refinement counts where it moves the body by so many mm (root mean square) "
        "more than the bias explains",
    )
    null_share: float = Field(
        0.25,
        ge=0,
        le=1,
        description="a refinement counts where each half of the body, and what lies under the "
        "skin, gains at least this fraction of the mutual information that the whole body gains",
    )
