"""Statistics of the images, split against training: ``validate/drift.csv``."""

from __future__ import annotations

from petct_uad.validation.suites.check import Check, Promises, between, finite

TABLE = "drift"
IDENTITY = "comparison"


def checks(promises: Promises) -> list[Check]:
    """Do the normals of validation and test look like those of training?"""
    return [
        Check(TABLE, "finite", "critical", "NaN spreads", finite()),
        Check(TABLE, "as_in_training", "warning",
              "normals unlike training's score as abnormal (two-sample Kolmogorov-Smirnov test on "
              "patients' means, Holm over all comparisons)",
              between("p_holm", promises.bounds.drift_alpha, None)),
    ]  # fmt: skip
