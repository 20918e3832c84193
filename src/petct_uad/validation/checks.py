"""What must hold of every table, why, and how badly it matters when it does not.

One file of ``suites`` per stage that is checked. Each expectation is Great Expectations' own; these
are the lists to read and to extend. Every one has a case that breaks it, in
``tests/unit/validation/test_suites.py``.
"""

from __future__ import annotations

from petct_uad.validation.suites.check import Check, Promises
from petct_uad.validation.suites.ingest import (
    cohort_checks,
    instances_checks,
    series_checks,
    studies_checks,
    volumes_checks,
)
from petct_uad.validation.suites.plausibility import lesions_checks, scans_checks
from petct_uad.validation.suites.preprocess import (
    drift_checks,
    duplicates_checks,
    images_checks,
    shards_checks,
)
from petct_uad.validation.suites.registration import livers_checks, registration_checks
from petct_uad.validation.suites.split import regions_checks, slices_checks, splits_checks

__all__ = ["IDENTITY", "OF_INGEST", "Check", "Promises", "checks"]

# In the order in which data pass them.
_SUITES = (
    cohort_checks,
    instances_checks,
    series_checks,
    studies_checks,
    volumes_checks,
    scans_checks,
    lesions_checks,
    livers_checks,
    registration_checks,
    regions_checks,
    slices_checks,
    splits_checks,
    images_checks,
    shards_checks,
    duplicates_checks,
    drift_checks,
)
# What can be said of a data set as soon as it has been read.
OF_INGEST = ("cohort", "instances", "series", "studies", "volumes", "scans", "lesions")

# The column that names a row of each table in the results.
IDENTITY = {
    "cohort": "dataset",
    "instances": "file",
    "series": "series_instance_uid",
    "studies": "study_id",
    "volumes": "volume",
    "scans": "study_id",
    "lesions": "name",
    "livers": "study_id",
    "registration": "study_id",
    "regions": "study_id",
    "slices": "slice_id",
    "images": "slice_id",
    "shards": "slice_id",
    "duplicates": "pair",
    "drift": "comparison",
    "benchmark": "dataset",
    "patients": "patient",
    "splits": "split",
    "scanners": "scanner",
    "scores": "row",
    "trainings": "training",
}


def checks(promises: Promises) -> list[Check]:
    """Every check of the tables before training, in the order in which data pass the tables."""
    return [check for suite in _SUITES for check in suite(promises)]
