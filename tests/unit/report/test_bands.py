from __future__ import annotations

import numpy as np
import pytest

from petct_uad.evaluation.metrics import Scores
from petct_uad.report.bands import curve_bands

LABELS = np.array([0, 0, 0, 0, 1, 1])
SCORES = np.array([1.0, 2.0, 3.0, 4.0, 2.5, 5.0])


def cohort(patients: int, shift: float = 0.0) -> Scores:
    """Patients of six slices each; every second one's scores are shifted."""
    scores = np.concatenate([SCORES + shift * (patient % 2) for patient in range(patients)])
    return Scores(np.tile(LABELS, patients), scores, np.repeat(np.arange(patients), len(SCORES)))


def test_bands_close_on_the_curve_where_all_patients_are_alike() -> None:
    bands = curve_bands(cohort(5), 100, 0.95)
    assert np.array_equal(bands.roc.low, bands.roc.high)
    assert np.array_equal(bands.pr.low, bands.pr.high)
    at = dict(zip(bands.roc.x.round(2), bands.roc.low, strict=True))
    # One abnormal slice outranks all normals, the other all but two of four.
    assert (at[0.0], at[0.24], at[0.5], at[1.0]) == (0.5, 0.5, 1.0, 1.0)
    precision = dict(zip(bands.pr.x.round(2), bands.pr.low, strict=True))
    assert (precision[0.5], precision[1.0]) == (1.0, 0.5)


def test_bands_open_where_patients_differ_and_hold_more_at_higher_confidence() -> None:
    narrow, wide = (curve_bands(cohort(6, 3.0), 300, confidence) for confidence in (0.5, 0.99))
    for inner, outer in ((narrow.roc, wide.roc), (narrow.pr, wide.pr)):
        assert (inner.low >= outer.low).all()
        assert (inner.high <= outer.high).all()
    assert (wide.roc.high - wide.roc.low).max() > 0.2


def test_resamples_are_the_same_however_they_are_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = curve_bands(cohort(6, 3.0), 50, 0.95)
    monkeypatch.setattr("petct_uad.report.bands._CHUNK_ELEMENTS", 100)
    parts = curve_bands(cohort(6, 3.0), 50, 0.95)
    assert np.array_equal(whole.roc.low, parts.roc.low)
    assert np.array_equal(whole.pr.high, parts.pr.high)
