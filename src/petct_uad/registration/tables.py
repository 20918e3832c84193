"""Rows of the table that the register stage writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

REGISTRATION, CUT_SLICES = "registration.csv", "cut_slices.csv"  # below the folder of register
REGISTRATION_METRICS = Path("metrics/registration.json")  # of the cohort


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
    # Sides of the body at which the field of view shows the skin: back, front, left, right.
    skin: str = ""
    cropped: bool = False  # does the field of view cut the body on any side?
    null_tested: bool = False  # was the refinement held against the method's own bias?
    bias_mm: float = 0.0  # what the null test moved: root mean square over the body
    excess_mm: float = 0.0  # what the refinement moved beyond that, likewise
    slices_cut_by_motion: int = 0  # of slices_cut: covered as scanned, not after the refinement
    lesion_slices_cut: int = 0  # of slices_cut: those with lesion


AS_SCANNED = "the PET does not cover it, as scanned"
AFTER_MOTION = "the PET does not cover it once it is registered"


@dataclass(frozen=True, order=True)
class CutSliceRow:
    """One CT slice that goes no further: ``cut_slices.csv``, sorted by study and slice."""

    study_id: str
    slice_index: int  # of the CT that ingest wrote, from 0
    z_mm: float
    lesion_area_mm2: float
    reason: str  # AS_SCANNED or AFTER_MOTION
