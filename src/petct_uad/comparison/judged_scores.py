"""The scores of every row of the benchmark, checked before they are compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from petct_uad.core.files import read_table
from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.slices.tables import ImageRow
from petct_uad.validation.frames import with_finiteness
from petct_uad.validation.suites.check import Check, between, finite, holds, in_set, unique
from petct_uad.validation.validate import Outcome, run_checks, stop_on_critical, write_outcomes

_KEY = ["run", "seed"]
OUTCOMES = "validation_scores.json"


def judge_scores(files: Sequence[Path], index: Path, result: Path) -> Derivation:
    """Hold the scores of every row to their suite, and write the outcomes to ``result``.

    Args:
        files: ``<run>/scores.csv`` of every row of the benchmark.
        index: ``index.csv``.
        result: ``metrics/validation_scores.json``.

    Raises:
        ValidationFailedError: a critical check failed; the outcomes are written all the same.
    """
    tables = [pd.read_csv(file).assign(run=file.parent.name) for file in files]
    scores = pd.concat(tables, ignore_index=True)
    outcomes = check_scores(scores, read_table(index, ImageRow))
    write_outcomes(result, outcomes)
    stop_on_critical(outcomes)
    read = tuple(map(Entity.of_file, (*files, index)))
    return Derivation(Entity.of_file(result), read)


def check_scores(scores: pd.DataFrame, images: Sequence[ImageRow]) -> list[Outcome]:
    """The suite on scores of any number of runs.

    Args:
        scores: columns ``run``, ``seed``, ``slice_id``, ``label``, ``score`` and ``predicted``.
        images: of the index, which says what the test split is.
    """
    test = {row.slice_id: row.label for row in images if row.split == "test"}
    training = scores["run"] + " seed " + scores["seed"].astype(str)
    known = scores["slice_id"].map(test)
    table = with_finiteness(scores.astype({"score": float})).assign(
        row=scores["slice_id"] + " by " + training,
        agrees_with_index=known.eq(scores["label"]),
    )
    trainings = pd.DataFrame(
        [
            {
                "training": f"{run} seed {seed}",
                "missing": len(test.keys() - set(part["slice_id"])),
                "one_threshold": _one_threshold(part),
                "distinct_scores": part["score"].nunique(),
            }
            for (run, seed), part in scores.groupby(_KEY, sort=True)
        ]
    )
    return run_checks({"scores": table, "trainings": trainings}, scores_checks())


def _one_threshold(scores: pd.DataFrame) -> bool:
    """Does every slice that is called abnormal score at least as high as every other?"""
    called = scores["predicted"] == 1
    lowest = scores.loc[called, "score"].min()
    highest = scores.loc[~called, "score"].max()
    return not (np.isfinite(lowest) and np.isfinite(highest) and lowest < highest)


def scores_checks() -> list[Check]:
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
