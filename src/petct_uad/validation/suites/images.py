"""Kept slices, measured at full resolution: ``index.csv``."""

from __future__ import annotations

from petct_uad.validation.suites.check import Check, Promises, between, finite, holds, unique

TABLE = "images"
IDENTITY = "slice_id"


def checks(promises: Promises) -> list[Check]:
    """Is what the models see of a slice still that slice?"""
    return [
        Check(TABLE, "slice_id_unique", "critical", "one row per image", unique("slice_id")),
        Check(TABLE, "matches_slices", "critical",
              "label and split of an image are those of its slice",
              holds("agrees_with_slices")),
        Check(TABLE, "finite", "critical", "NaN spreads", finite()),
        Check(TABLE, "suv_plausible", "critical",
              "an SUVbw beyond this is a wrong weight, dose or time",
              between("suv_max", 0, promises.bounds.max_suv)),
        Check(TABLE, "body_suv_plausible", "warning",
              "SUVbw is 1 on average over a body that keeps its dose",
              between("suv_mean", 0.05, 10)),
        Check(TABLE, "suv_total_kept", "warning",
              "resampling must neither make nor lose activity",
              between("suv_total_ratio", 0.98, 1.02)),
        Check(TABLE, "body_hu_plausible", "warning",
              "a body is lung to bone: -500 HU on average for lungs, 200 for a skull",
              between("ct_mean_hu", -700, 500)),
        Check(TABLE, "body_present", "critical", "no body, no slice",
              between("body_area_mm2", 100, None)),
        Check(TABLE, "body_area_plausible", "warning",
              "half a metre square is the couch or the field of view",
              between("body_area_mm2", 0, 250_000)),
        Check(TABLE, "lesion_inside_roi", "warning",
              "a lesion that was cropped away cannot be found",
              between("lesion_kept_fraction", 0.95, 1)),
    ]  # fmt: skip
