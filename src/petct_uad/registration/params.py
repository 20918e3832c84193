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
