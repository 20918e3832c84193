"""The models' input, measured again from the shards' bytes: ``validate/shards.csv``."""

from __future__ import annotations

from petct_uad.validation.suites.check import Check, Promises, between, finite, holds, unique

TABLE = "shards"
IDENTITY = "slice_id"


def checks(promises: Promises) -> list[Check]:
    """Are the bytes those of the index, finite, in range and not empty?"""
    return [
        Check(TABLE, "slice_id_unique", "critical", "one row per image", unique("slice_id")),
        Check(TABLE, "bytes_are_those_of_the_index", "critical",
              "other bytes than index.csv names are stale or damaged",
              holds("agrees_with_index")),
        Check(TABLE, "finite", "critical", "NaN spreads", finite()),
        Check(TABLE, "voxels_finite", "critical", "NaN spreads", holds("finite")),
        Check(TABLE, "ct_not_constant", "critical", "an empty image has no anatomy",
              between("ct_std", 1e-3, None)),
        Check(TABLE, "pet_not_constant", "critical", "an empty image has no uptake",
              between("pet_std", 1e-4, None)),
        Check(TABLE, "ct_in_window", "critical", "model input lies in [0, 1]",
              holds("ct_in_range")),
        Check(TABLE, "pet_in_window", "critical", "model input lies in [0, 1]",
              holds("pet_in_range")),
        Check(TABLE, "body_fraction_plausible", "warning",
              "a body that fills hardly any or all of the picture was cut out wrongly",
              between("body_fraction", 0.01, 0.98)),
        Check(TABLE, "lesion_kept", "warning",
              "an abnormal slice without a lesion pixel has nothing for pixel AUROC to find",
              holds("lesion_kept")),
        Check(TABLE, "no_identical_slices", "warning",
              "identical images within a split count twice",
              unique("image_sha256")),
    ]  # fmt: skip
