"""One row for the whole data set, as it was read."""

from __future__ import annotations

from petct_uad.validation.suites.check import Check, Promises, between

TABLE = "cohort"
IDENTITY = "dataset"


def checks(promises: Promises) -> list[Check]:
    """Is it all there, and of one kind?"""
    return [
        Check(TABLE, "few_studies_lost", "critical",
              "a cohort that loses much of its input is not the cohort that was asked for",
              between("lost_study_fraction", 0, promises.bounds.max_lost_study_fraction)),
        Check(TABLE, "one_kind_of_suv", "critical",
              "SUVs by weight, lean mass and surface differ by a factor of up to two",
              between("suv_kinds", 0, 1)),
        Check(TABLE, "every_study_labelled", "warning",
              "a study without SEG or RTSTRUCT counts as split.unlabelled says",
              between("unlabelled_studies", 0, 0)),
    ]  # fmt: skip
