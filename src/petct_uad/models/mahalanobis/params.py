"""``models.mahalanobis`` of params.yaml."""

from __future__ import annotations

from petct_uad.models.common.params import FeatureParams, FittedParams


class MahalanobisParams(FeatureParams, FittedParams):
    """One Gaussian of the teacher's pooled features, of PET and CT together where both are seen."""

    sees_both_modalities = True
