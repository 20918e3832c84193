"""Uptake of the liver, where it is known where that lies: ``validate/livers.csv``."""

from __future__ import annotations

from petct_uad.validation.suites.check import Check, Promises, between, finite, unique

TABLE = "livers"
IDENTITY = "study_id"

_SUV_MEAN = (1.0, 4.0)


def checks(promises: Promises) -> list[Check]:
    """Is the SUV scale right at an organ whose uptake is known?"""
    return [
        Check(TABLE, "study_unique", "critical", "one liver per study", unique("study_id")),
        Check(TABLE, "finite", "critical", "NaN spreads", finite()),
        Check(TABLE, "suv_mean_plausible", "warning",
              "FDG uptake of a healthy liver hardly varies (PERCIST takes it as the reference); "
              "beyond this, weight, dose, time or the registration is wrong",
              between("suv_mean", *_SUV_MEAN)),
    ]  # fmt: skip
