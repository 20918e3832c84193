"""Two runs on the same drawn patients: what the difference, its p-value and Holm must be."""

import numpy as np
import pytest

from petct_uad.evaluation.bootstrap import auroc_of, draw_patients, estimate
from petct_uad.evaluation.metrics import Scores, auroc
from petct_uad.evaluation.paired import PairedAurocs, p_value
from petct_uad.holm import holm
from petct_uad.params.evaluate import EvaluateParams

PARAMS = EvaluateParams(false_positive_rate=0.05, bootstrap_samples=2000, confidence=0.95, seed=0)
PATIENTS = 6
OWNERS = np.repeat(np.arange(PATIENTS), 3)
LABELS = np.tile([1, 0, 0], PATIENTS)


def scores_of(values, labels=LABELS, patients=OWNERS) -> Scores:
    return Scores(np.array(labels), np.array(values, dtype=float), np.array(patients))


def failing_for(patients: int) -> Scores:
    """Abnormal slices outrank every normal one, but those of the first patients outrank none."""
    values = np.tile([3.0, 1, 2], PATIENTS)
    values[: 3 * patients : 3] = 0
    return scores_of(values)


def random_scores(seed: int, shift: float = 1.0, patients: int = 12) -> Scores:
    generator = np.random.default_rng(seed)
    owners = np.repeat(np.arange(patients), 6)
    labels = np.tile([0, 1, 0, 1, 0, 0], patients)
    values = generator.normal(size=patients)[owners] + shift * labels
    return scores_of(values + generator.normal(size=len(owners)), labels, owners)


def difference(first, second):
    return PairedAurocs.of({"a": first, "b": second}, PARAMS).family([("a", "b")])[0]


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_p_value_is_the_chance_that_no_draw_holds_the_patients_who_differ(failing):
    # The difference is zero where none of them is drawn, which has the probability (1 - k/6)^6,
    # and positive elsewhere.
    found = difference([failing_for(0)], [failing_for(failing)])
    assert found.value == pytest.approx(failing / PATIENTS)
    expected = min(1, 2 * (1 - failing / PATIENTS) ** PATIENTS)
    assert found.p == pytest.approx(expected, rel=0.25)
    assert (found.low > 0) is (found.p < 0.05) is (failing == 3)


def test_p_value_counts_the_draws_beyond_zero_on_the_rarer_side():
    drawn = np.append(np.full(24, -0.1), np.full(975, 0.2))
    assert p_value(drawn) == pytest.approx(2 * 25 / 1000)
    assert p_value(-drawn) == p_value(drawn)
    assert p_value(np.ones(999)) == pytest.approx(2 / 1000)
    assert p_value(np.zeros(9)) == 1


def test_interval_leaves_out_zero_where_p_is_below_one_minus_the_confidence():
    for seed in range(30):
        drawn = np.random.default_rng(seed).normal(loc=seed / 10, size=1999)
        found = estimate(0, drawn, 0.95)
        assert (found.low > 0 or found.high < 0) is (p_value(drawn) < 0.05), seed


def test_runs_that_do_not_differ_are_rarely_told_apart():
    told_apart = sum(
        difference([random_scores(seed)], [random_scores(seed + 1000)]).p < 0.05
        for seed in range(60)
    )
    assert told_apart <= 10


def test_holm_of_a_known_family():
    # Sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1; none below the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_correction_is_over_the_pairs_of_the_family_and_no_others():
    runs = {"good": [failing_for(0)], "a": [failing_for(3)], "b": [failing_for(3)]}
    paired = PairedAurocs.of(runs, PARAMS)
    (alone,) = paired.family([("good", "a")])
    both = paired.family([("good", "a"), ("good", "b")])
    assert alone.p_holm == alone.p < 0.05
    assert [x.p for x in both] == [alone.p] * 2
    assert [x.p_holm for x in both] == pytest.approx([2 * alone.p] * 2)
    assert both[0].p_holm > 0.05


def test_enough_resamples_are_drawn_for_the_largest_family_to_find_something():
    few = PARAMS.model_copy(update={"bootstrap_samples": 10})
    runs = {f"bad{n}": [failing_for(PATIENTS)] for n in range(9)}
    paired = PairedAurocs.of({"good": [failing_for(0)]} | runs, few)
    names = list(paired.values)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    found = dict(zip(pairs, paired.family(pairs), strict=True))
    assert len(found) == 45
    assert found["good", "bad0"].p_holm <= 0.0051


def test_difference_of_identical_scores_is_zero_with_an_empty_interval():
    found = difference([random_scores(0)], [random_scores(0)])
    assert (found.value, found.low, found.high, found.p, found.p_holm) == (0, 0, 0, 1, 1)


def test_paired_interval_is_narrower_than_the_unpaired_one():
    scores = random_scores(2)
    noise = np.random.default_rng(9).normal(scale=0.2, size=len(scores.scores))
    other = scores_of(scores.scores + noise, scores.labels, scores.patients)
    paired = difference([scores], [other])
    apart = auroc_of(scores, draw_patients(scores, 500, 1).weights) - auroc_of(
        other, draw_patients(other, 500, 2).weights
    )
    unpaired = estimate(0, apart, 0.95)
    assert paired.high - paired.low < (unpaired.high - unpaired.low) / 3


def test_difference_of_seeds_is_the_difference_of_their_means():
    seeds = [random_scores(2), random_scores(3)]
    other = random_scores(4)
    found = difference(seeds, [other])
    assert found.value == pytest.approx((auroc(seeds[0]) + auroc(seeds[1])) / 2 - auroc(other))
    weights = draw_patients(other, PARAMS.bootstrap_samples, (PARAMS.seed, 0, 0)).weights
    means = sum(auroc_of(scores, weights) for scores in seeds) / 2
    low, high = np.quantile(means - auroc_of(other, weights), [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high))


def test_drawing_in_parts_changes_what_is_drawn_but_not_what_is_found(monkeypatch):
    runs = [random_scores(2)], [random_scores(5, shift=2.5)]
    whole = difference(*runs)
    monkeypatch.setattr("petct_uad.evaluation.paired._BLOCK_ELEMENTS", 12 * 300)
    parts = difference(*runs)
    assert parts.value == whole.value
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=0.03)
    assert (parts.low, parts.high) != (whole.low, whole.high)


def test_difference_of_different_slices_is_refused():
    first, second = ([scores_of([1, 0], labels, [0, 1])] for labels in ([1, 0], [0, 1]))
    with pytest.raises(ValueError, match="same slices"):
        difference(first, second)


def test_a_worse_run_has_the_mirrored_difference():
    paired = PairedAurocs.of({"a": [random_scores(1)], "b": [random_scores(2, shift=2.0)]}, PARAMS)
    ahead, behind = paired.family([("b", "a"), ("a", "b")])
    assert (ahead.value, ahead.low, ahead.high) == pytest.approx(
        (-behind.value, -behind.high, -behind.low)
    )
    assert ahead.p == behind.p
