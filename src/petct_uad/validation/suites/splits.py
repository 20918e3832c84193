"""Who is where: slices, patients and scanners of each split, counted from the tables."""

from __future__ import annotations

from great_expectations.expectations.row_conditions import Column

from petct_uad.validation.suites.check import Check, Promises, between

IDENTITIES = {
    "benchmark": "dataset",
    "patients": "patient",
    "splits": "split",
    "scanners": "scanner",
}

_TEST = Column("split") == "test"


def checks(promises: Promises) -> list[Check]:
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
