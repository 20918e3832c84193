"""The models' input: its index, its bytes, copies across splits, drift from training."""

from __future__ import annotations

from petct_uad.validation.suites.check import (
    Check,
    Promises,
    between,
    finite,
    holds,
    in_set,
    unique,
)


def images_checks(promises: Promises) -> list[Check]:
    """Is what the models see of a slice still that slice?"""
    return [
        Check("images", "slice_id_unique", "critical", "one row per image", unique("slice_id")),
        Check("images", "matches_slices", "critical",
              "label and split of an image are those of its slice",
              holds("agrees_with_slices")),
        Check("images", "finite", "critical", "NaN spreads", finite()),
        Check("images", "suv_plausible", "critical",
              "an SUVbw beyond this is a wrong weight, dose or time",
              between("suv_max", 0, promises.bounds.max_suv)),
        Check("images", "body_suv_plausible", "warning",
              "SUVbw is 1 on average over a body that keeps its dose",
              between("suv_mean", 0.05, 10)),
        Check("images", "suv_total_kept", "warning",
              "resampling must neither make nor lose activity",
              between("suv_total_ratio", 0.98, 1.02)),
        Check("images", "body_hu_plausible", "warning",
              "a body is lung to bone: -500 HU on average for lungs, 200 for a skull",
              between("ct_mean_hu", -700, 500)),
        Check("images", "body_present", "critical", "no body, no slice",
              between("body_area_mm2", 100, None)),
        Check("images", "body_area_plausible", "warning",
              "half a metre square is the couch or the field of view",
              between("body_area_mm2", 0, 250_000)),
        Check("images", "lesion_inside_roi", "warning",
              "a lesion that was cropped away cannot be found",
              between("lesion_kept_fraction", 0.95, 1)),
    ]  # fmt: skip


def shards_checks(promises: Promises) -> list[Check]:
    """Are the bytes those of the index, finite, in range and not empty?"""
    return [
        Check("shards", "slice_id_unique", "critical", "one row per image", unique("slice_id")),
        Check("shards", "bytes_are_those_of_the_index", "critical",
              "other bytes than index.csv names are stale or damaged",
              holds("agrees_with_index")),
        Check("shards", "finite", "critical", "NaN spreads", finite()),
        Check("shards", "voxels_finite", "critical", "NaN spreads", holds("finite")),
        Check("shards", "ct_not_constant", "critical", "an empty image has no anatomy",
              between("ct_std", 1e-3, None)),
        Check("shards", "pet_not_constant", "critical", "an empty image has no uptake",
              between("pet_std", 1e-4, None)),
        Check("shards", "ct_in_window", "critical", "model input lies in [0, 1]",
              holds("ct_in_range")),
        Check("shards", "pet_in_window", "critical", "model input lies in [0, 1]",
              holds("pet_in_range")),
        Check("shards", "body_fraction_plausible", "warning",
              "a body that fills hardly any or all of the picture was cut out wrongly",
              between("body_fraction", 0.01, 0.98)),
        Check("shards", "lesion_kept", "warning",
              "an abnormal slice without a lesion pixel has nothing for pixel AUROC to find",
              holds("lesion_kept")),
        Check("shards", "no_identical_slices", "warning",
              "identical images within a split count twice",
              unique("image_sha256")),
    ]  # fmt: skip


def duplicates_checks(promises: Promises) -> list[Check]:
    """Was what is tested seen before?"""
    return [
        Check("duplicates", "no_identical_across_splits", promises.seen,
              "an image that was trained on is not unseen: two patients share it, or one has two "
              "names",
              in_set("kind", ["none", "near"])),
        Check("duplicates", "no_near_duplicate_across_splits", "warning",
              "an image that is nearly another split's is hardly unseen: "
              "validate.near_duplicate_correlation",
              in_set("kind", ["none", "exact"])),
    ]  # fmt: skip


def drift_checks(promises: Promises) -> list[Check]:
    """Do the normals of validation and test look like those of training?"""
    return [
        Check("drift", "finite", "critical", "NaN spreads", finite()),
        Check("drift", "as_in_training", "warning",
              "normals unlike training's score as abnormal (two-sample Kolmogorov-Smirnov test on "
              "patients' means, Holm over all comparisons)",
              between("p_holm", promises.bounds.drift_alpha, None)),
    ]  # fmt: skip
