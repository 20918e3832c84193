"""Who is where: patients, splits and scanners, counted from ``slices.csv`` and ``index.csv``."""

from __future__ import annotations

from great_expectations.expectations.row_conditions import Column

from petct_uad.validation.suites.check import Check, Promises, between

IDENTITIES = {"patients": "patient", "splits": "split", "scanners": "scanner"}

_TEST = Column("split") == "test"


def checks(promises: Promises) -> list[Check]:
    """Is nobody in two splits, and are the splits alike?"""
    bounds = promises.bounds
    return [
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
