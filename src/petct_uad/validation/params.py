"""``validate`` of params.yaml, and what the checks need of other sections."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from petct_uad.core.params.base import Part, Protocol, Section


class ValidateParams(Section):
    """Bounds of the expectations."""

    max_lost_study_fraction: float = Field(ge=0, le=1)
    min_train_slices: int = Field(ge=1)
    max_suv: float = Field(gt=0)
    max_spacing_mm: float = Field(gt=0)
    max_label_imbalance: float = Field(ge=0, le=1, description="of shares, between scanners")
    near_duplicate_correlation: float = Field(ge=0.9, le=1, description="of 16 x 16 block means")
    drift_alpha: float = Field(gt=0, lt=1, description="after Holm's correction")


class SplitPart(Part):
    """Of ``split``, what its tables are held to."""

    protocol: Protocol
    duplicates: Literal["drop", "keep"]
    min_lesion_area_mm2: float
    guard_mm: float


class RegisterPart(Part):
    """Of ``register``, what its table is held to."""

    max_displacement_mm: float
