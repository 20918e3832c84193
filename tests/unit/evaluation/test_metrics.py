from __future__ import annotations

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.metrics import AUPRO
from numpy.typing import ArrayLike
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from petct_uad.evaluation.bootstrap import ap_of, auroc_of, draw_patients, estimate
from petct_uad.evaluation.metrics import (
    Confusion,
    PixelFigures,
    Scores,
    auroc,
    average_precision,
    histogram,
    oracle_threshold,
    patient_scores,
    threshold_from_normals,
)


def scores_of(labels: ArrayLike, values: ArrayLike, patients: ArrayLike | None = None) -> Scores:
    if patients is None:
        patients = np.arange(len(np.asarray(labels)))
    return Scores(
        np.array(labels), np.array(values, dtype=float), np.array(patients, dtype=np.intp)
    )


def random_cohort(
    seed: int = 0, patients: int = 20, slices: int = 15, shift: float = 1.0
) -> Scores:
    """Slices of one patient share an offset, so they are not independent."""
    generator = np.random.default_rng(seed)
    owners = np.repeat(np.arange(patients), slices)
    labels = generator.integers(0, 2, size=len(owners))
    offset = generator.normal(size=patients)[owners]
    values = offset + shift * labels + generator.normal(size=len(owners))
    return scores_of(labels, np.round(values, 1), owners)


def test_auroc_counts_pairs_won_and_halves_ties() -> None:
    scores = scores_of([1, 1, 0, 0], [0.9, 0.5, 0.5, 0.1])
    assert auroc(scores) == pytest.approx((1 + 1 + 0.5 + 1) / 4)


def test_average_precision_of_a_known_ranking() -> None:
    scores = scores_of([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])
    assert average_precision(scores) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


@pytest.mark.parametrize("count", [1, 7, 20, 100, 333])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_no_more_than_the_promised_fraction_of_normals_lies_above_the_threshold(
    count: int, rate: float
) -> None:
    normals = np.random.default_rng(count).normal(size=count)
    threshold = threshold_from_normals(normals, rate)
    above = np.sum(normals > threshold)
    assert above <= rate * count
    assert above == np.floor(rate * count + 1e-9)


def test_decisions_at_a_threshold_are_counted() -> None:
    scores = scores_of([1, 1, 1, 0, 0, 0, 0], [5, 4, 1, 4, 2, 1, 0])
    here = Confusion.at(scores, 3.0, scores.each_patient_once)
    assert here.sensitivity.item() == pytest.approx(2 / 3)
    assert here.specificity.item() == pytest.approx(3 / 4)
    assert here.accuracy.item() == pytest.approx(5 / 7)
    assert here.f1.item() == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))


def test_a_score_equal_to_the_threshold_is_called_normal() -> None:
    scores = scores_of([1, 0], [1.0, 1.0])
    assert Confusion.at(scores, 1.0, scores.each_patient_once).true_positive.item() == 0


def test_f1_is_zero_where_nothing_is_found() -> None:
    scores = scores_of([0, 0, 1], [0, 0, 0])
    assert Confusion.at(scores, 1.0, scores.each_patient_once).f1.item() == 0


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_has_a_better_f1_than_the_oracle(seed: int) -> None:
    scores = random_cohort(seed)
    once = scores.each_patient_once
    best = Confusion.at(scores, oracle_threshold(scores), once).f1.item()
    others = [-100.0, *scores.scores]
    assert best == pytest.approx(max(Confusion.at(scores, t, once).f1.item() for t in others))


def test_oracle_threshold_of_a_known_ranking() -> None:
    # Calling one abnormal: F1 2/3; three: 4/5, the best, halfway down to the next; all four: 2/3.
    scores = scores_of([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])
    assert oracle_threshold(scores) == pytest.approx(0.4)
    assert Confusion.at(scores, 0.4, scores.each_patient_once).f1.item() == pytest.approx(0.8)


def test_patient_score_is_its_highest_slice_and_one_abnormal_slice_makes_it_abnormal() -> None:
    patients = patient_scores(scores_of([0, 1, 0, 0], [1, 2, 3, 0.5], [0, 0, 0, 1]))
    assert patients.scores.tolist() == [3, 0.5]
    assert patients.labels.tolist() == [1, 0]


def test_weighted_auroc_and_ap_equal_those_of_the_repeated_slices() -> None:
    scores = random_cohort(1, patients=6, slices=8)
    weights = draw_patients(scores, 25, seed=3).weights
    for weight, area, precision in zip(
        weights, auroc_of(scores, weights), ap_of(scores, weights), strict=True
    ):
        repeat = weight[scores.patients].astype(int)
        labels, values = np.repeat(scores.labels, repeat), np.repeat(scores.scores, repeat)
        assert area == pytest.approx(roc_auc_score(labels, values), abs=1e-12)
        assert precision == pytest.approx(average_precision_score(labels, values), abs=1e-12)


def test_resamples_of_one_class_are_redrawn_and_counted() -> None:
    scores = scores_of([1, 0, 0, 0], [3, 2, 1, 0])
    drawn = draw_patients(scores, 500, seed=0)
    assert (drawn.weights.sum(axis=1) == 4).all()
    assert (drawn.weights[:, 0] > 0).all()
    # The one abnormal patient is left out of a draw with probability (3/4)^4, close to 0.316.
    assert drawn.redrawn / (500 + drawn.redrawn) == pytest.approx(0.316 + 0.25**4, abs=0.06)


def test_resampling_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="normal and abnormal"):
        draw_patients(scores_of([0, 0], [1, 2]), 10, seed=0)


def test_the_same_seed_draws_the_same_patients() -> None:
    scores = random_cohort()
    first, second = (draw_patients(scores, 50, seed=5).weights for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, draw_patients(scores, 50, seed=6).weights)


def test_interval_covers_the_true_auroc_of_simulated_cohorts() -> None:
    # Two Gaussians one standard deviation apart on top of a patient offset of the same size:
    # the pooled AUROC is Phi(1 / sqrt(2 * (1 + 1))) = Phi(0.5) = 0.6915.
    covered = 0
    for seed in range(120):
        scores = random_cohort(seed, patients=40, slices=6)
        drawn = auroc_of(scores, draw_patients(scores, 300, seed).weights)
        found = estimate(auroc(scores), drawn, 0.95)
        covered += found.low <= 0.6915 <= found.high
    assert 0.88 <= covered / 120 <= 1.0


def test_patients_and_not_slices_are_resampled() -> None:
    # Ten copies of each slice add no information, so the interval must not shrink.
    generator = np.random.default_rng(0)
    labels = np.tile([0, 1], 15)
    values = labels + generator.normal(size=30)
    once = scores_of(labels, values, np.arange(30))
    copied = scores_of(np.repeat(labels, 10), np.repeat(values, 10), np.repeat(np.arange(30), 10))
    widths = []
    for scores in (once, copied):
        found = estimate(0, auroc_of(scores, draw_patients(scores, 500, 0).weights), 0.95)
        widths.append(found.high - found.low)
    assert widths[1] == pytest.approx(widths[0], abs=1e-12)


def test_interval_is_the_central_part_of_the_resampled_values() -> None:
    found = estimate(0.6, np.arange(1001) / 1000, 0.95)
    assert (found.value, found.low, found.high) == pytest.approx((0.6, 0.025, 0.975))


def test_pixel_figures_are_one_for_a_perfect_map_and_absent_without_lesions() -> None:
    lesions = np.zeros((2, 16, 16), dtype=bool)
    lesions[0, 4:8, 4:8] = True
    maps = lesions.astype(np.float32) + 0.01 * np.random.default_rng(0).random(
        (2, 16, 16), dtype=np.float32
    )
    assert PixelFigures.of(maps, lesions).pixel_auroc == 1.0
    assert PixelFigures.of(maps, lesions).aupro == pytest.approx(1.0, abs=1e-3)
    assert PixelFigures.of(maps, np.zeros_like(lesions)) == PixelFigures(None, None)


def test_pixel_auroc_is_scikit_learns_with_ties() -> None:
    generator = np.random.default_rng(0)
    lesions = generator.random((3, 16, 16)) < 0.1
    maps = (generator.random((3, 16, 16)) + 0.2 * lesions).round(1).astype(np.float32)
    expected = roc_auc_score(lesions.ravel(), maps.ravel())
    assert PixelFigures.of(maps, lesions).pixel_auroc == pytest.approx(expected, abs=1e-12)
    assert PixelFigures.of(maps, np.ones_like(lesions)) == PixelFigures(None, None)


def test_pixel_figures_do_not_depend_on_which_slices_are_read_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = np.random.default_rng(3)
    lesions = generator.random((9, 16, 16)) < 0.1
    maps = (generator.random((9, 16, 16)) + 0.2 * lesions).round(2).astype(np.float32)
    whole = PixelFigures.of(maps, lesions)
    monkeypatch.setattr("petct_uad.evaluation.metrics._SLICES_AT_A_TIME", 2)
    assert PixelFigures.of(maps, lesions) == whole


def test_pixel_figures_of_a_known_map() -> None:
    # A region of two pixels among ten normal ones: none, then two of them, lie above. Overlap is
    # 1/2 from a false positive rate of 0 and 1 from 0.2 on: (0.3 + 0.1) / 2 of 0.3.
    maps = np.append(np.arange(10.0), [9.5, 7.5]).astype(np.float32).reshape(1, 1, 12)
    found = PixelFigures.of(maps, np.arange(12).reshape(1, 1, 12) >= 10)
    assert found.pixel_auroc == pytest.approx(0.9)
    assert found.aupro == pytest.approx(0.4 / 2 / 0.3)


def test_aupro_counts_a_small_lesion_as_much_as_a_large_one() -> None:
    lesions = np.zeros((1, 32, 32), dtype=bool)
    lesions[0, 2:18, 2:18] = True
    lesions[0, 25:27, 25:27] = True
    only_large = np.random.default_rng(0).random((1, 32, 32), dtype=np.float32)
    only_large[0, 25:27, 25:27] = -1
    only_large[0, 2:18, 2:18] += 2
    found = PixelFigures.of(only_large, lesions).aupro
    assert found is not None
    assert found == pytest.approx(0.5, abs=0.02)


def test_aupro_is_anomalibs() -> None:
    generator = np.random.default_rng(1)
    lesions = np.zeros((4, 48, 48), dtype=bool)
    for n, (row, column, side) in enumerate([(3, 5, 9), (20, 20, 3), (30, 8, 14), (6, 40, 5)]):
        lesions[n % 3, row : row + side, column : column + side] = True  # two in the first slice
    lesions[2, 44, 22] = True  # touches the large one at a corner only: one region
    maps = ndimage.gaussian_filter(generator.random(lesions.shape) + 0.3 * lesions, (0, 1, 1))
    maps = maps.astype(np.float32)
    metric = AUPRO(fields=["anomaly_map", "gt_mask"], fpr_limit=0.3)
    anomaly_map, mask = torch.from_numpy(maps), torch.from_numpy(lesions)
    metric.update(ImageBatch(image=torch.zeros(4, 3, 1, 1), anomaly_map=anomaly_map, gt_mask=mask))
    assert PixelFigures.of(maps, lesions).aupro == pytest.approx(float(metric.compute()), abs=1e-3)


def test_histogram_counts_every_slice_once() -> None:
    scores = random_cohort()
    bins = histogram(scores)
    assert sum(row.normal for row in bins) == np.sum(scores.labels == 0)
    assert sum(row.abnormal for row in bins) == np.sum(scores.labels == 1)
