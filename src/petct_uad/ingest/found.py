"""Rows as the files themselves have it: patients, UIDs and paths in clear, for the owner's screen.

They have the columns of :mod:`petct_uad.ingest.tables` and are another type. ``write_table`` takes
dataclasses only and these are none, so neither mypy nor Python lets one of them into a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from petct_uad.ingest.tables import NO_STUDY, StudyId


class FoundInstance(NamedTuple):
    """An :class:`~petct_uad.ingest.tables.InstanceRow` in clear."""

    file: str
    sha256: str
    sop_instance_uid: str
    series_instance_uid: str
    study_id: StudyId
    role: str
    slice_index: int | None


class FoundSeries(NamedTuple):
    """A :class:`~petct_uad.ingest.tables.SeriesRow` in clear."""

    series_instance_uid: str
    stack: int
    study_instance_uid: str
    patient: str
    modality: str
    manufacturer: str
    model_name: str
    description: str
    instances: int
    rows: int
    columns: int
    spacing_x_mm: float | None
    spacing_y_mm: float | None
    spacing_z_mm: float | None
    study_id: StudyId
    role: str
    reason: str
    reference_rule: str = ""
    uptake_min: float | None = None
    half_life_min: float | None = None
    nuclide: str = ""
    dose_unit: str = ""
    suv_assumed: str = ""
    suv_notes: str = ""

    def lost(self, reason: str) -> FoundSeries:
        """The same where its study is refused in the end."""
        reason = reason if self.study_id else self.reason
        return self._replace(study_id=NO_STUDY, role="unused", reason=reason)


class FoundStudy(NamedTuple):
    """A :class:`~petct_uad.ingest.tables.StudyRow` in clear."""

    study_id: StudyId
    patient: str
    scanner: str
    ct_series_instance_uid: str
    pet_series_instance_uid: str
    label_series_instance_uid: str
    label_kind: str
    lesion_kind: str
    ct_slices: int
    pet_slices: int
    same_frame_of_reference: bool
    notes: str
    suv_kind: str
    label_drawn_on: str
    finding: str

    @property
    def has_volumes(self) -> bool:
        """Is there a CT and a PET?"""
        return bool(self.ct_series_instance_uid)


class FoundRejection(NamedTuple):
    """A :class:`~petct_uad.ingest.tables.RejectedRow` in clear."""

    subject: str
    code: str
    found: str
    expected: str
    advice: str


@dataclass(frozen=True)
class FoundTables:
    """The four tables in clear."""

    instances: tuple[FoundInstance, ...]
    series: tuple[FoundSeries, ...]
    studies: tuple[FoundStudy, ...]
    rejected: tuple[FoundRejection, ...]
