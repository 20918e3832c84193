"""What must hold of every table, why, and how badly it matters when it does not.

One file per table. Each expectation is Great Expectations' own; these are the lists to read and to
extend. Every one has a case in ``tests/unit/validation/test_suites.py`` that breaks it.
"""

from __future__ import annotations

from petct_uad.validation.suites import (
    cohort,
    drift,
    duplicates,
    images,
    instances,
    livers,
    registration,
    scores,
    series,
    shards,
    slices,
    splits,
    studies,
    volumes,
)
from petct_uad.validation.suites.check import Check, Promises

__all__ = ["IDENTITY", "OF_INGEST", "Check", "Promises", "checks"]

# In the order in which data pass them.
_SUITES = (cohort, instances, series, studies, volumes, livers, registration, slices, splits,
           images, shards, duplicates, drift)  # fmt: skip
# What can be said of a data set as soon as it has been read.
OF_INGEST = (cohort.TABLE, instances.TABLE, series.TABLE, studies.TABLE, volumes.TABLE)

# The column that names a row of each table in the results.
IDENTITY = {
    **{suite.TABLE: suite.IDENTITY for suite in _SUITES if suite is not splits},
    **splits.IDENTITIES,
    **scores.IDENTITIES,
}


def checks(promises: Promises) -> list[Check]:
    """Every check of the tables before training, in the order in which data pass the tables."""
    return [check for suite in _SUITES for check in suite.checks(promises)]
