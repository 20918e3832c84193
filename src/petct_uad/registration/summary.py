"""The cohort's registration in one JSON: counts, medians, and which studies stand out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np

from petct_uad.core.files import rounded
from petct_uad.ingest.tables import StudyRow
from petct_uad.registration.tables import RegistrationRow

# Iglewicz and Hoaglin, "How to detect and handle outliers" (1993): modified z-score above 3.5.
_OUTLIER_Z = 3.5
_MAD_TO_SIGMA = 1.4826
# Below this a median absolute deviation says that studies are alike, not that one is odd.
_SMALLEST_MAD_MM = 0.5
_SMALLEST_COHORT = 5
_LOWEST_OVERLAP = 0.8
_MOST_CUT = 0.25


@dataclass(frozen=True)
class Medians:
    """Medians over the cohort, of the columns of ``registration.csv`` with these names."""

    mutual_information_before: float
    mutual_information_after: float
    body_overlap_before: float
    body_overlap_after: float
    displacement_median_mm: float
    displacement_max_mm: float


def summarise(studies: Sequence[StudyRow], rows: Sequence[RegistrationRow]) -> dict[str, Any]:
    """What ``metrics/registration.json`` holds.

    Args:
        studies: the ingested studies.
        rows: one row per study, in any order.
    """
    accepted = sum(row.accepted for row in rows)
    names = [field.name for field in fields(Medians)]
    return {
        "studies": len(rows),
        "accepted": accepted,
        "refused": sum(row.attempted for row in rows) - accepted,
        "as_scanned": sum(not row.attempted for row in rows),
        "slices": sum(row.slices for row in rows),
        "slices_cut": sum(row.slices_cut for row in rows),
        "median": dict(zip(names, map(rounded, astuple(_medians(rows))), strict=True)),
        "flagged": _flagged(studies, rows),
    }


def _medians(rows: Sequence[RegistrationRow]) -> Medians:
    names = [field.name for field in fields(Medians)]
    columns = ([getattr(row, name) for row in rows] for name in names)
    return Medians(*(float(np.median(column)) if column else 0.0 for column in columns))


def _flagged(studies: Sequence[StudyRow], rows: Sequence[RegistrationRow]) -> list[dict[str, str]]:
    one_frame: dict[str, bool]
    one_frame = {study.study_id: study.same_frame_of_reference for study in studies}
    moved = np.array([row.displacement_median_mm for row in rows])
    found = []
    for row in sorted(rows):
        reasons = [*_oddities(row, one_frame[row.study_id]), *_outlying(row, moved)]
        if reasons:
            found.append({"study_id": row.study_id, "reason": "; ".join(reasons)})
    return found


def _oddities(row: RegistrationRow, same_frame_of_reference: bool) -> Iterator[str]:
    if row.attempted and not row.accepted:
        yield f"identity used: {row.reason}"
    if not same_frame_of_reference:
        yield "CT and PET have different frames of reference, so the start is a guess"
    if row.body_overlap_after < _LOWEST_OVERLAP:
        yield f"body overlap {row.body_overlap_after:.3f} is below {_LOWEST_OVERLAP}"
    if row.slices_cut > _MOST_CUT * (row.slices + row.slices_cut):
        yield f"the PET covers only {row.slices} of {row.slices + row.slices_cut} CT slices"


def _outlying(row: RegistrationRow, moved_mm: np.ndarray[Any, Any]) -> Iterator[str]:
    if len(moved_mm) < _SMALLEST_COHORT:
        return
    middle = float(np.median(moved_mm))
    spread = max(float(np.median(np.abs(moved_mm - middle))), _SMALLEST_MAD_MM)
    if row.displacement_median_mm - middle > _OUTLIER_Z * _MAD_TO_SIGMA * spread:
        yield (
            f"displacement {row.displacement_median_mm:.1f} mm stands out from the cohort's "
            f"{middle:.1f} mm"
        )
