"""What the models gave: ``metrics/runs/<run>/scores.csv``, checked before they are compared."""

from __future__ import annotations

from petct_uad.validation.suites.check import Check, between, finite, holds, in_set, unique


def checks() -> list[Check]:
    """Did every training score every test slice once, by one threshold?"""
    return [
        Check("scores", "scored_once", "critical", "a slice counts once per training",
              unique("run", "seed", "slice_id")),
        Check("scores", "finite", "critical", "a score that is NaN has no rank", finite()),
        Check("scores", "of_the_test_split", "critical",
              "figures are of the test split, and of its labels", holds("agrees_with_index")),
        Check("scores", "prediction_is_binary", "critical", "predicted is 0 or 1",
              in_set("predicted", [0, 1])),
        Check("trainings", "every_test_slice_scored", "critical",
              "a slice without a score flatters or harms unseen", between("missing", 0, 0)),
        Check("trainings", "one_threshold", "critical",
              "no slice that is called normal scores above one that is called abnormal",
              holds("one_threshold")),
        Check("trainings", "not_constant", "warning", "a constant score tells nothing apart",
              between("distinct_scores", 2, None)),
    ]  # fmt: skip
