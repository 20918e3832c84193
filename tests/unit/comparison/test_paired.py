"""Two runs on the same drawn patients: what the difference, its p-value and Holm must be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import ArrayLike
from scipy import stats

from petct_uad.comparison.paired import PairedAurocs, p_value
from petct_uad.comparison.tables import Difference
from petct_uad.core.holm import holm
from petct_uad.evaluation.bootstrap import auroc_of, draw_patients, estimate
from petct_uad.evaluation.metrics import Scores, auroc
from petct_uad.evaluation.params import EvaluateParams

PARAMS = EvaluateParams(false_positive_rate=0.05, bootstrap_samples=2000, confidence=0.95, seed=0)
PATIENTS = 6
OWNERS = np.repeat(np.arange(PATIENTS), 3)
LABELS = np.tile([1, 0, 0], PATIENTS)


def scores_of(
    values: ArrayLike, labels: ArrayLike = LABELS, patients: ArrayLike = OWNERS
) -> Scores:
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


def difference(first: Sequence[Scores], second: Sequence[Scores]) -> Difference:
    return PairedAurocs.of({"a": first, "b": second}, PARAMS).family([("a", "b")])[0]


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_error_is_that_of_a_mean_over_patients(failing: int) -> None:
    # With every normal alike a difference is the mean over patients of whether each fails, drawn
    # with all patients' abnormal slices: by hand a deviation over the square root of their number.
    found = difference([failing_for(0)], [failing_for(failing)])
    fails = np.repeat([1.0, 0.0], [failing, PATIENTS - failing])
    error = fails.std(ddof=1) / np.sqrt(PATIENTS)
    assert found.value == pytest.approx(failing / PATIENTS)
    reach = stats.t.ppf(0.975, PATIENTS - 1) * error
    assert found.high - found.value == pytest.approx(reach, rel=0.05)
    by_t = stats.ttest_1samp(fails, 0).pvalue
    assert found.p == pytest.approx(by_t, rel=0.12)


def test_p_value_is_that_of_student() -> None:
    # Tabulated: t(13) is beyond 2.160 with probability 0.05, and beyond 3.012 with 0.01.
    assert p_value(2.160, 1.0, 13) == pytest.approx(0.05, abs=1e-4)
    assert p_value(-3.012, 1.0, 13) == pytest.approx(0.01, abs=1e-5)
    assert p_value(0.0, 0.0, 13) == 1
    assert p_value(0.1, 0.0, 13) == 0


def test_interval_leaves_out_zero_where_p_is_below_one_minus_the_confidence() -> None:
    for seed in range(30):
        found = difference([random_scores(seed, shift=1 + seed / 10)], [random_scores(seed + 100)])
        assert (found.low > 0 or found.high < 0) is (found.p < 0.05), seed


def cohort(generator: np.random.Generator) -> tuple[Scores, list[Scores]]:
    """A reference and five runs of equal worth on 18 patients of whom 14 have lesions.

    All share what makes a slice hard, and each has its own opinion of every patient.
    """
    owners = np.repeat(np.arange(18), 8)
    labels = np.tile([1, 1, 1, 0, 0, 0, 0, 0], 18) * (owners < 14)
    shared = labels + 0.5 * generator.normal(size=18)[owners] + 0.5 * generator.normal(size=144)

    def run() -> Scores:
        opinion = generator.normal(size=(18, 2))[owners, labels]
        return scores_of(shared + 0.7 * opinion + 0.5 * generator.normal(size=144), labels, owners)

    return run(), [run() for _ in range(5)]


@pytest.mark.slow
def test_equal_runs_on_clustered_slices_differ_significantly_as_rarely_as_promised() -> None:
    """Of 150 cohorts one in twenty may err: with 14 or more the rate would be above it (p < 0.02).

    The percentiles of the bootstrap, counted here too, err in far more, and cover too little.
    """
    generator = np.random.default_rng(0)
    few = PARAMS.model_copy(update={"bootstrap_samples": 300})
    wrong, covered, by_percentiles = 0, [], []
    for _ in range(150):
        reference, runs = cohort(generator)
        named = {str(i): [run] for i, run in enumerate(runs)}
        paired = PairedAurocs.of({"reference": [reference]} | named, few)
        found = paired.family([(name, "reference") for name in named])
        wrong += min(x.p_holm for x in found) < 0.05
        covered += [x.low <= 0 <= x.high for x in found]
        for name in named:
            drawn = paired.drawn[name] - paired.drawn["reference"]
            naive = estimate(0, drawn, 0.95)
            by_percentiles.append(naive.low <= 0 <= naive.high)
    assert wrong < 14
    assert 0.93 < np.mean(covered) < 0.98
    assert np.mean(by_percentiles) < np.mean(covered) - 0.02


def test_holm_of_a_known_family() -> None:
    # Sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1; none below the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_correction_is_over_the_pairs_of_the_family_and_no_others() -> None:
    runs = {"good": [failing_for(0)]} | {name: [failing_for(4)] for name in "abc"}
    paired = PairedAurocs.of(runs, PARAMS)
    (alone,) = paired.family([("good", "a")])
    family = paired.family([("good", name) for name in "abc"])
    assert alone.p_holm == alone.p < 0.05
    assert [x.p for x in family] == [alone.p] * 3
    assert [x.p_holm for x in family] == pytest.approx([3 * alone.p] * 3)
    assert family[0].p_holm > 0.05


def test_a_large_family_can_find_something_with_few_resamples() -> None:
    few = PARAMS.model_copy(update={"bootstrap_samples": 100})
    runs = {f"bad{n}": [failing_for(PATIENTS)] for n in range(9)}
    paired = PairedAurocs.of({"good": [failing_for(0)]} | runs, few)
    names = list(paired.values)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    found = dict(zip(pairs, paired.family(pairs), strict=True))
    assert len(found) == 45
    assert found["good", "bad0"].p_holm < 0.001


def test_degrees_of_freedom_are_those_of_the_class_with_fewer_patients() -> None:
    labels = LABELS * (OWNERS < 4)
    scores = scores_of(np.arange(len(labels)), labels)
    assert PairedAurocs.of({"a": [scores]}, PARAMS).degrees == 3


def test_difference_of_identical_scores_is_zero_with_an_empty_interval() -> None:
    found = difference([random_scores(0)], [random_scores(0)])
    assert (found.value, found.low, found.high, found.p, found.p_holm) == (0, 0, 0, 1, 1)


def test_paired_interval_is_narrower_than_the_unpaired_one() -> None:
    scores = random_scores(2)
    noise = np.random.default_rng(9).normal(scale=0.2, size=len(scores.scores))
    other = scores_of(scores.scores + noise, scores.labels, scores.patients)
    paired = difference([scores], [other])
    apart = auroc_of(scores, draw_patients(scores, 500, 1).weights) - auroc_of(
        other, draw_patients(other, 500, 2).weights
    )
    unpaired = estimate(0, apart, 0.95)
    assert paired.high - paired.low < (unpaired.high - unpaired.low) / 3


def test_difference_of_seeds_is_the_difference_of_their_means() -> None:
    seeds = [random_scores(2), random_scores(3)]
    other = random_scores(4)
    found = difference(seeds, [other])
    assert found.value == pytest.approx((auroc(seeds[0]) + auroc(seeds[1])) / 2 - auroc(other))
    weights = draw_patients(other, PARAMS.bootstrap_samples, (PARAMS.seed, 0)).weights
    means = sum(auroc_of(scores, weights) for scores in seeds) / 2
    error = np.std(means - auroc_of(other, weights), ddof=1) * np.sqrt(12 / 11)
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 11) * error)


def test_difference_of_different_slices_is_refused() -> None:
    first, second = ([scores_of([1, 0], labels, [0, 1])] for labels in ([1, 0], [0, 1]))
    with pytest.raises(ValueError, match="same slices"):
        difference(first, second)


def test_a_worse_run_has_the_mirrored_difference() -> None:
    paired = PairedAurocs.of({"a": [random_scores(1)], "b": [random_scores(2, shift=2.0)]}, PARAMS)
    ahead, behind = paired.family([("b", "a"), ("a", "b")])
    assert (ahead.value, ahead.low, ahead.high) == pytest.approx(
        (-behind.value, -behind.high, -behind.low)
    )
    assert ahead.p == behind.p
