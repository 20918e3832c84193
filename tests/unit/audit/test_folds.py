"""One figure per run from all folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from petct_uad.audit.folds import folds_table, write_folds
from petct_uad.audit.leak import Runs
from petct_uad.core.errors import EvaluationError
from petct_uad.evaluation.results import RunResults
from tests.small_results import BOTH, HALF, NONE, PARAMS, small_results


def fold(patients: str, *scores: np.ndarray, run: str = "run") -> dict[str, RunResults]:
    return {run: small_results(run, *scores, patients=patients)}


def test_mean_and_deviation_are_over_folds() -> None:
    (row,) = folds_table([fold("P", BOTH), fold("Q", HALF), fold("R", NONE)], PARAMS)
    assert (row.folds, row.n_patients) == (3, 18)
    assert (row.n_test_abnormal, row.n_test_normal) == (18, 36)
    assert (row.auroc_mean, row.auroc_deviation) == pytest.approx((0.5, 0.5))
    assert (row.auroc_lowest, row.auroc_highest) == (0, 1)
    assert row.auroc_pooled == pytest.approx(0.5)
    assert row.auroc_pooled_low < 0.5 < row.auroc_pooled_high


def test_pooled_scores_are_ranked_together() -> None:
    # Both models are right within their fold, but one's scores lie above all of the other's: its
    # normals outrank the other's abnormal slices, a quarter of all pairs.
    (row,) = folds_table([fold("P", BOTH), fold("Q", BOTH + 100)], PARAMS)
    assert (row.auroc_mean, row.auroc_deviation) == (1, 0)
    assert row.auroc_pooled == pytest.approx(0.75)


def test_figures_are_means_over_seeds_too() -> None:
    (row,) = folds_table([fold("P", BOTH, HALF), fold("Q", BOTH, HALF)], PARAMS)
    assert (row.auroc_mean, row.auroc_pooled) == pytest.approx((0.75, 0.75))


def test_runs_that_a_fold_lacks_are_left_out(tmp_path: Path) -> None:
    both = fold("P", BOTH) | fold("P", HALF, run="other")
    rows = folds_table([both, fold("Q", BOTH)], PARAMS)
    assert [row.run for row in rows] == ["run"]
    write_folds(tmp_path, rows)
    assert "| run | 1.000 ± 0.000 | 1.000 to 1.000 |" in (tmp_path / "folds.md").read_text()


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([fold("P", BOTH), fold("P", BOTH)], "P0 is tested in two folds"),
        ([fold("P", BOTH), fold("Q", BOTH), fold("P", BOTH)], "P0 is tested in two folds"),
        ([fold("P", BOTH), fold("Q", BOTH, HALF)], "folds of other seeds"),
        ([fold("P", BOTH), fold("Q", BOTH, run="other")], "no run was evaluated in every fold"),
    ],
)
def test_folds_that_do_not_belong_together_are_refused(folds: list[Runs], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        folds_table(folds, PARAMS)
