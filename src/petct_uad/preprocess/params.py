"""``preprocess`` of params.yaml."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from petct_uad.core.params.base import Region, Section


class PreprocessParams(Section):
    """From registered volumes to model input."""

    region: Region = Field(
        "all",
        description="thorax: from the base of the lungs to their apex, by the CT; slices beyond "
        "are excluded by the split",
    )
    image_size_px: int = Field(ge=32, le=1024, multiple_of=2)
    roi_margin_mm: float = Field(ge=0, le=100)
    neighbours_mm: float = Field(
        ge=0, le=100, description="how far away the slices below and above may lie; 0: none"
    )
    ct_low_hu: float = Field(ge=-1100, le=3000)
    ct_high_hu: float = Field(ge=-1000, le=3100)
    suv_high: float = Field(gt=0, le=100, description="SUVbw that maps to 1")
    bilateral_ct: bool
    bilateral_pet: bool
    bilateral_sigma_mm: float = Field(gt=0, le=20)
    bilateral_range_fraction: float = Field(gt=0, le=1, description="of the intensity window")
    pictures: Literal["stretch", "canvas"]

    @model_validator(mode="after")
    def _window_is_open(self) -> Self:
        if self.ct_low_hu >= self.ct_high_hu:
            raise ValueError("ct_low_hu must be below ct_high_hu")
        return self
