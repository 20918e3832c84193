"""``phantom`` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from petct_uad.core.params.base import Section, Seed

THORAX_MM = 300.0  # the longest stack that is a thorax and no whole body


class PhantomParams(Section):
    """The digital thorax cohort."""

    patients: int = Field(ge=4, le=2000, description="number of digital patients")
    seed: Seed
    extent_mm: float = Field(
        ge=80,
        le=900,
        description="axial field of view; above 300 a whole body, head to thighs, with arms up or "
        "down, contrast, two PETs, labels on the PET and a second study by turns",
    )
    ct_matrix: int = Field(ge=64, le=512, description="CT rows and columns over 500 mm")
    max_shift_mm: float = Field(ge=0, le=30, description="largest PET shift along each axis")
    max_rotation_deg: float = Field(ge=0, le=10, description="largest PET rotation per axis")
    crop_mm: float = Field(
        0.0,
        ge=0,
        le=500,
        description="width in mm of a square field of view around a lesion, or around a place "
        "under the skin where there is none; 0: the whole body is seen",
    )

    @property
    def whole_body(self) -> bool:
        """Is it more than the thorax?"""
        return self.extent_mm > THORAX_MM
