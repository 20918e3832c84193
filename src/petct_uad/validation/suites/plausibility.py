"""Could this be a patient? PET, CT and label of one study beside each other."""

from __future__ import annotations

from petct_uad.validation.suites.check import Check, Promises, between, finite, in_set, unique

# Over a body that keeps its dose SUVbw is 1 by definition; what was excreted, lies outside the
# scan or in one organ moves a part of a body away from it.
_BODY_SUV = (0.5, 2.0)
_COVERED = 0.5
_LESION_MM = (3.0, 300.0)  # less than a PET's voxel; more than the longest sarcoma
_LEAST_CONTRAST = 1.0
_IN_PET = 0.99


def scans_checks(promises: Promises) -> list[Check]:
    """Are dose, weight and times of one study, and do its images show the same of the body?"""
    return [
        Check("scans", "study_unique", "critical", "one row per study", unique("study_id")),
        Check("scans", "finite", "critical", "NaN spreads", finite()),
        Check("scans", "body_suv_near_1", "warning",
              "SUVbw is 1 on average over a body that keeps its dose; beyond 0.5 to 2 look at "
              "weight (0010,1030), dose (0018,1074), Units (0054,1001) and the times of injection "
              "and scan, unless the scan shows a limb or one hot organ",
              between("body_suv_bw", *_BODY_SUV)),
        Check("scans", "ct_covers_pet", "warning",
              "a PET of which less than half lies in the CT was paired with a CT of another "
              "region; look for the CT of its own length",
              between("pet_in_ct", _COVERED, None)),
        Check("scans", "pet_covers_ct", "warning",
              "a CT of which less than half lies in the PET loses the rest of its slices",
              between("ct_in_pet", _COVERED, None)),
        Check("scans", "label_without_gaps", "warning",
              "slices without label lie between labelled ones of the same place: contours or "
              "frames on every second slice leave lesions among the normals",
              between("label_gaps", 0, 0)),
    ]  # fmt: skip


def lesions_checks(promises: Promises) -> list[Check]:
    """Is what is labelled a lesion of this PET, whole and where the PET has it?"""
    return [
        Check("lesions", "finite", "critical", "NaN spreads", finite()),
        Check("lesions", "length_plausible", "warning",
              "a lesion is longer than 3 mm and shorter than 300 mm; else look at the spacing of "
              "the label's frames, or for an organ among the lesions (ingest.label_roi)",
              between("length_mm", *_LESION_MM)),
        Check("lesions", "takes_up_more_than_around", "warning",
              "a label whose mean SUV is below the median of the body within 15 mm lies beside its "
              "lesion, on another PET, or marks what does not take up the tracer",
              between("contrast", _LEAST_CONTRAST, None)),
        Check("lesions", "inside_pet", "warning",
              "what of a lesion lies outside the PET cannot be found in it",
              between("in_pet", _IN_PET, None)),
        Check("lesions", "not_cut_off", "warning",
              "a lesion on the first or last slice may continue where nothing was scanned",
              in_set("at_the_end", [False])),
    ]  # fmt: skip
