"""``models.scrd4ad`` and ``models.rd4ad`` of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from petct_uad.models.common.params import FeatureParams, GradientParams, PublishedSize


class Scrd4adParams(FeatureParams, GradientParams):
    """SCRD4AD (Li et al. 2025): scale-aware contrastive reverse distillation."""

    sections = ("models.scrd4ad", "models.rd4ad")

    contrastive: bool = Field(description="noisy path and Eq. 2's denominator (Table 2)")
    scale_aware: bool = Field(description="learnt weights of the scales, Eq. 3 (Table 2)")
    variant: Literal["equation", "released", "algorithm"] = Field(
        description="Eq. 4, the published code, or Algorithm 2"
    )
    noise: Literal["simplex", "gaussian"] = Field(description="of the noisy path (Table 3)")
    noise_intensity: float = Field(gt=0, le=10, description="lambda (Fig. 3)")
    reconstruction_weight: float = Field(ge=0, le=100, description="of Eq. 1 beside Eq. 4; paper 0")
    width: int = Field(ge=4, le=512, description="planes of the student at stride 4; RD4AD: 64")
    score: Literal["mean", "top", "max"]
    score_top_fraction: float = Field(gt=0, le=1)
    # Megabytes, at four bytes per parameter: PatchCore's WideResNet-50 stands there with 275.6.
    published = (
        PublishedSize("SCRD4AD", "ct", "Table 5", 264.4 / 4),
        PublishedSize(
            "RD4AD",
            "ct",
            "Table 5",
            263.5 / 4,
            changes={"contrastive": False, "scale_aware": False},
        ),
    )
