"""Where the PET lies on the CT, and the SUV of an organ whose uptake is known."""

from __future__ import annotations

from great_expectations.expectations.row_conditions import Column

from petct_uad.validation.suites.check import (
    Check,
    Promises,
    between,
    finite,
    holds,
    in_set,
    unique,
)

_SUV_MEAN = (1.0, 4.0)
_MOVED = Column("accepted") == True  # noqa: E712  (Great Expectations reads the comparison)


def livers_checks(promises: Promises) -> list[Check]:
    """Is the SUV scale right at an organ whose uptake is known?"""
    return [
        Check("livers", "study_unique", "critical", "one liver per study", unique("study_id")),
        Check("livers", "finite", "critical", "NaN spreads", finite()),
        Check("livers", "suv_mean_plausible", "warning",
              "FDG uptake of a healthy liver hardly varies (PERCIST takes it as the reference); "
              "beyond this, weight, dose, time or the registration is wrong",
              between("suv_mean", *_SUV_MEAN)),
    ]  # fmt: skip


def registration_checks(promises: Promises) -> list[Check]:
    """Was every study registered, and never for the worse?"""
    return [
        Check("registration", "study_unique", "critical", "one row per study", unique("study_id")),
        Check("registration", "study_known", "critical",
              "a study that ingest does not know is stale",
              holds("study_known")),
        Check("registration", "finite", "critical", "NaN spreads", finite()),
        Check("registration", "overlap_not_worse", "critical",
              "a refinement that lowers the body overlap by more than its noise must be refused",
              between("overlap_gain", -0.005, None)),
        Check("registration", "mutual_information_not_lower", "critical",
              "a refinement that explains less of one image by the other must be refused",
              between("mutual_information_gain", 0, None, _MOVED)),
        Check("registration", "displacement_bounded", "critical",
              "a refinement beyond register.max_displacement_mm must be refused",
              between("displacement_max_mm", 0, promises.max_displacement_mm, _MOVED)),
        Check("registration", "bodies_overlap", "warning",
              "PET and CT of which less than this overlaps are hardly of one body",
              between("body_overlap_after", 0.7, 1)),
        Check("registration", "slices_left", "critical", "no slice lies in CT and PET",
              between("slices", 1, None)),
        Check("registration", "no_slice_cut_by_motion", "warning",
              "a slice that the PET covered as scanned is lost through the registration; "
              "register/cut_slices.csv names it",
              between("slices_cut_by_motion", 0, 0)),
        Check("registration", "no_lesion_cut", "warning",
              "a slice with lesion lies outside the PET and goes no further; "
              "register/cut_slices.csv names it",
              between("lesion_slices_cut", 0, 0)),
        Check("registration", "body_seen_whole", "warning",
              "cropped data: the field of view cuts the body at a side, where neither registration "
              "nor a body mask can be checked against the skin",
              in_set("cropped", [False])),
    ]  # fmt: skip
