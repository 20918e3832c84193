"""``models.stfpm`` of params.yaml."""

from __future__ import annotations

from petct_uad.models.common.params import FeatureParams, GradientParams


class StfpmParams(FeatureParams, GradientParams):
    """STFPM (Wang et al. 2021): a student of the teacher's own shape."""
