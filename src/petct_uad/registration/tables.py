"""Rows of the table that the register stage writes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class RegistrationRow:
    """One study: ``registration.csv``, sorted by study_id."""

    study_id: str
    attempted: bool  # was there a refinement? False under `none`, and where `auto` saw no need
    accepted: bool  # was the refinement kept? False means the identity was used
    reason: str
    mutual_information_before: float
    mutual_information_after: float
    body_overlap_before: float  # Dice of the CT body and the PET body
    body_overlap_after: float
    displacement_median_mm: float  # over the body
    displacement_max_mm: float
    slices: int  # of the target grid
    slices_cut: int  # CT slices left out, because the PET does not cover them
