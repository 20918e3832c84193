"""``score`` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from petct_uad.core.params.base import Section
from petct_uad.models.common.params import Fusion


class ScoreParams(Section):
    """What becomes of the maps of trained models; nothing is trained for it."""

    fusion: Fusion = Field(description="of the PET's and the CT's map, where a model sees one")
    z_sigma_mm: float = Field(
        ge=0, le=50, description="Gaussian over the slices of a study, in mm; 0: each on its own"
    )
