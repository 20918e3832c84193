"""``models.nearest_slice`` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from petct_uad.models.common.params import FittedParams


class NearestSliceParams(FittedParams):
    """The training normal that looks most like a slice; of PET and CT where both are seen."""

    sees_both_modalities = True

    side_px: int = Field(ge=2, le=256, description="of the images that are compared")
