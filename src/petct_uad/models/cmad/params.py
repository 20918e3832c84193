"""``model`` of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from petct_uad.models.common.params import ScanBackend, TokenParams


class CmadParams(TokenParams):
    """CMAD (Xu et al. 2026): the proposed PET/CT model."""

    sections = ("model",)
    sees_both_modalities = True

    cmpt: int = Field(ge=1, le=64, description="number of cross-modality prior tokens (Fig. 6)")
    cmh: bool = Field(description="cross-modality hybrid module (Eq. 3)")
    gfr: bool = Field(description="global fusion refinement (Eqs. 5-9)")
    levels: int = Field(ge=1, le=9, description="number of reconstructed levels")
    ssm_state: int = Field(ge=1, le=64)
    ssm_expand: int = Field(ge=1, le=4)
    fusion: Literal["calibrated", "sum"]
    score: Literal["top", "max", "mean"]
    score_top_fraction: float = Field(gt=0, le=1)
    scan: ScanBackend
