"""Every slice of every study and its place: ``slices.csv``."""

from __future__ import annotations

from great_expectations.expectations.row_conditions import Column

from petct_uad.validation.suites.check import (
    Check,
    Promises,
    between,
    finite,
    holds,
    in_set,
    matches,
    unique,
)

TABLE = "slices"
IDENTITY = "slice_id"


def checks(promises: Promises) -> list[Check]:
    """Has every slice one place, by the rules that params.yaml states?"""
    return [
        Check(TABLE, "slice_id_unique", "critical", "one row per slice", unique("slice_id")),
        Check(TABLE, "slice_index_unique", "critical", "one row per slice of a study",
              unique("study_id", "slice_index")),
        Check(TABLE, "finite", "critical", "NaN spreads", finite()),
        Check(TABLE, "study_known", "critical", "a slice of a study that ingest does not know",
              holds("study_known")),
        Check(TABLE, "split_known", "critical", "every slice has its place",
              in_set("split", ["train", "val", "test", "excluded"])),
        Check(TABLE, "placement_has_reason", "critical", "nothing is dropped in silence",
              matches("reason", r"\S")),
        Check(TABLE, "no_abnormal_in_train", "critical",
              "training on lesions teaches that lesions are normal",
              between("label", 0, 0, Column("split") == "train")),
        Check(TABLE, "no_abnormal_in_val", "critical",
              "thresholds and checkpoints are chosen on normals only",
              between("label", 0, 0, Column("split") == "val")),
        Check(TABLE, "label_fits_area", "critical",
              "abnormal is what reaches split.min_lesion_area_mm2; less of a lesion is excluded",
              holds("label_fits_area")),
        Check(TABLE, "guard_kept", "critical",
              "normal slices within split.guard_mm of an abnormal one may hold its lesion's edge",
              holds("beyond_guard")),
        Check(TABLE, "has_an_image", "critical", "a slice with a place and no image was lost",
              holds("has_image")),
    ]  # fmt: skip
