"""Labels and splits: the slices, and who is where."""

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

_TEST = Column("split") == "test"
_FOUND = Column("found") == True  # noqa: E712  (Great Expectations reads the comparison)
# Lungs of adults, from forced expiration of the smallest to full inspiration of the tallest; a
# part of lung that a short stack shows can be less.
_LUNGS_ML = (800.0, 9000.0)
_LUNGS_MM = (120.0, 400.0)


def slices_checks(promises: Promises) -> list[Check]:
    """Has every slice one place, by the rules that params.yaml states?"""
    return [
        Check("slices", "slice_id_unique", "critical", "one row per slice", unique("slice_id")),
        Check("slices", "slice_index_unique", "critical", "one row per slice of a study",
              unique("study_id", "slice_index")),
        Check("slices", "finite", "critical", "NaN spreads", finite()),
        Check("slices", "study_known", "critical", "a slice of a study that ingest does not know",
              holds("study_known")),
        Check("slices", "split_known", "critical", "every slice has its place",
              in_set("split", ["train", "val", "test", "excluded"])),
        Check("slices", "placement_has_reason", "critical", "nothing is dropped in silence",
              matches("reason", r"\S")),
        Check("slices", "no_abnormal_in_train", "critical",
              "training on lesions teaches that lesions are normal",
              between("label", 0, 0, Column("split") == "train")),
        Check("slices", "no_abnormal_in_val", "critical",
              "thresholds and checkpoints are chosen on normals only",
              between("label", 0, 0, Column("split") == "val")),
        Check("slices", "label_fits_area", "critical",
              "abnormal is what reaches split.min_lesion_area_mm2; less of a lesion is excluded",
              holds("label_fits_area")),
        Check("slices", "guard_kept", "critical",
              "normal slices within split.guard_mm of an abnormal one may hold its lesion's edge",
              holds("beyond_guard")),
        Check("slices", "has_an_image", "critical", "a slice with a place and no image was lost",
              holds("has_image")),
    ]  # fmt: skip


def regions_checks(promises: Promises) -> list[Check]:
    """Is the thorax where it can be, and nothing beyond it in use?"""
    if promises.region == "all":
        return []
    return [
        Check("regions", "study_unique", "critical", "one row per study", unique("study_id")),
        Check("regions", "study_known", "critical", "a study that ingest does not know is stale",
              holds("study_known")),
        Check("regions", "finite", "critical", "NaN spreads", finite()),
        Check("regions", "nothing_outside_in_use", "critical",
              "a slice beyond the thorax is no normal of one", holds("all_inside")),
        Check("regions", "lungs_found", "warning",
              "a CT without lungs goes no further: is it of another part of the body, or cropped?",
              in_set("found", [True])),
        Check("regions", "lungs_plausible", "warning",
              "so little or so much is hardly two lungs; see the study's figure in split/regions",
              between("lungs_ml", *_LUNGS_ML, _FOUND)),
        Check("regions", "length_plausible", "warning",
              "lungs are hardly so short or so long; see the study's figure in split/regions",
              between("length_mm", *_LUNGS_MM, _FOUND)),
        Check("regions", "seen_whole", "warning",
              "the stack ends within the lungs, so that a part of the thorax is missing",
              holds("seen_whole", _FOUND)),
        Check("regions", "no_lesion_outside", "warning",
              "a slice with lesion lies beyond the thorax and goes no further",
              between("lesion_slices_outside", 0, 0)),
    ]  # fmt: skip


def splits_checks(promises: Promises) -> list[Check]:
    """Is nobody in two splits, is there enough in each, and are they alike?"""
    bounds = promises.bounds
    return [
        Check("benchmark", "enough_training_normals", "critical",
              "fewer normals than this cannot describe normality",
              between("train_slices", bounds.min_train_slices, None)),
        Check("benchmark", "validation_has_normals", "critical",
              "thresholds are chosen on validation normals",
              between("val_slices", 1, None)),
        Check("benchmark", "test_has_both_classes", "critical",
              "AUROC needs normal and abnormal slices",
              between("test_smaller_class", 1, None)),
        Check("patients", "one_patient_one_split", promises.leak,
              "a patient in two splits leaks anatomy from training into the test",
              between("splits", 0, 1)),
        Check("splits", "labels_balanced", "warning",
              "AP and F1 say little where one class is rare, and depend on its share",
              between("abnormal_share", 0.05, 0.95, _TEST)),
        Check("splits", "scanners_as_in_training", "warning",
              "a split of other scanners measures the scanner (total variation of patients)",
              between("scanner_distance", 0, bounds.max_label_imbalance)),
        Check("scanners", "seen_in_training", "warning",
              "a scanner that training never saw looks abnormal by itself",
              between("train_slices", 1, None, Column("test_slices") > 0)),
        Check("scanners", "labels_balanced", "warning",
              "where one scanner has the lesions, telling scanners apart scores as finding them",
              between("share_gap", -bounds.max_label_imbalance, bounds.max_label_imbalance)),
    ]  # fmt: skip
