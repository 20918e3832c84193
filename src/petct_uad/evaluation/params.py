"""``evaluate`` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from petct_uad.core.params.base import Fraction, Section, Seed


class EvaluateParams(Section):
    """Thresholds and intervals."""

    false_positive_rate: Fraction
    bootstrap_samples: int = Field(ge=10, le=100_000)
    confidence: Fraction
    seed: Seed
