"""``models.inp_former`` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from petct_uad.models.common.params import TokenParams


class InpFormerParams(TokenParams):
    """INP-Former (Luo et al. 2025): prototypes of what is normal, from the slice itself."""

    prototypes: int = Field(ge=1, le=256, description="M: intrinsic normal prototypes of a slice")
    levels: int = Field(ge=2, le=8, multiple_of=2, description="deepest levels of tokens; paper: 8")
    blocks: int = Field(ge=2, le=32, multiple_of=2, description="of the decoder; paper: 8")
    score_top_fraction: float = Field(gt=0, le=1)
