"""Pairs of images in two splits that are the same or nearly so: ``validate/duplicates.csv``."""

from __future__ import annotations

from petct_uad.validation.suites.check import Check, Promises, in_set

TABLE = "duplicates"
IDENTITY = "pair"


def checks(promises: Promises) -> list[Check]:
    """Was what is tested seen before?"""
    return [
        Check(TABLE, "no_identical_across_splits", promises.seen,
              "an image that was trained on is not unseen: two patients share it, or one has two "
              "names",
              in_set("kind", ["none", "near"])),
        Check(TABLE, "no_near_duplicate_across_splits", "warning",
              "an image that is nearly another split's is hardly unseen: "
              "validate.near_duplicate_correlation",
              in_set("kind", ["none", "exact"])),
    ]  # fmt: skip
