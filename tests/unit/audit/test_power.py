"""How many patients would tell two rows apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from petct_uad.audit.power import Spread, power_markdown, power_of_runs, power_table
from petct_uad.comparison.paired import PairedAurocs
from petct_uad.core.errors import EvaluationError
from tests.small_results import BOTH, HALF, NONE, PARAMS, small_results


def spread(patients: int, deviation: float = 0.2) -> Spread:
    """Of patients whose differences have this standard deviation."""
    return Spread(deviation / math.sqrt(patients), patients - 1, patients, level=0.05)


def test_power_is_how_often_simulated_studies_show_the_difference() -> None:
    seen = np.random.default_rng(0).normal(0.1, 0.2, (20_000, 30))
    shown = stats.ttest_1samp(seen, 0, axis=1).pvalue < 0.05
    assert shown.mean() == pytest.approx(spread(30).power(0.1), abs=0.01)


def test_without_a_difference_a_test_shows_one_as_often_as_its_level() -> None:
    assert spread(11).power(0.0) == pytest.approx(0.05)


def test_as_many_patients_as_are_needed_are_enough_and_one_less_is_not() -> None:
    needed = spread(18).patients_needed(0.05, 0.8)
    # (1.96 + 0.84)^2 (0.2 / 0.05)^2 = 125.6 by the normal approximation, and two more for t.
    assert needed == pytest.approx(128, abs=1)
    assert needed is not None
    assert spread(needed - 1).power(0.05) < 0.8 <= spread(needed).power(0.05)


def test_the_detectable_difference_is_shown_with_the_power_that_was_asked() -> None:
    assert spread(18).power(spread(18).detectable(0.9)) == pytest.approx(0.9)


def test_no_number_of_patients_shows_a_difference_that_is_not_there() -> None:
    assert spread(18).patients_needed(0.0, 0.8) is None


def test_each_pair_has_a_row_and_the_table_says_what_it_rests_on() -> None:
    rng = np.random.default_rng(1)
    noisy = HALF + rng.normal(0, 1, len(HALF))
    scores = {"better": noisy + (BOTH - HALF), "noisy": noisy, "same": noisy, "none": NONE}
    runs = {name: small_results(name, x).scores_by_seed for name, x in scores.items()}
    paired = PairedAurocs.of(runs, PARAMS)
    better, same = power_table(paired, [("better", "noisy"), ("same", "noisy")], 0.8)
    assert better.auroc_difference > 0
    assert better.standard_error > 0
    assert better.patients_needed is not None
    assert (same.auroc_difference, same.patients_needed) == (0, None)
    shown = power_markdown([better, same], 0.8, 0.05)
    assert f"| better | noisy | {better.auroc_difference:+.3f} |" in shown
    assert "more than 100,000" in shown
    assert "Chance of 80%" in shown


def test_rows_are_held_against_each_other_and_suvmax() -> None:
    scores = {"first": BOTH, "second": HALF, "suvmax": NONE}
    runs = {name: small_results(name, x) for name, x in scores.items()}
    rows = power_of_runs(runs, ["second", "first"], PARAMS, 0.8)
    assert [(x.run, x.other) for x in rows] == [
        ("first", "second"), ("first", "suvmax"), ("second", "suvmax")
    ]  # fmt: skip


def test_an_unknown_row_is_named_with_the_nearest_and_those_that_there_are() -> None:
    runs = {"suvmax": small_results("suvmax", NONE)}
    with pytest.raises(EvaluationError, match=r"'suvmax'\? There are: suvmax"):
        power_of_runs(runs, ["suvmex"], PARAMS, 0.8)
