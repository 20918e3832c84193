from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from petct_uad.core.errors import EvaluationError
from petct_uad.evaluation.metrics import PixelFigures, choose_panels
from petct_uad.evaluation.results import ResultPaths, measure, read_results, write_results
from petct_uad.evaluation.tables import RunIdentity
from petct_uad.scoring.tables import SeedScores
from tests.small_results import BOTH, HALF, LABELS, NONE, PARAMS, image_rows, known, noise, results

IDENTITY = RunIdentity(run="run", model="run", modality="pet", dataset="tiny", protocol="patient")


def at(metrics: Path, run: str) -> ResultPaths:
    return ResultPaths.of(metrics, "models", run)


def test_results_survive_writing_and_reading(tmp_path: Path) -> None:
    written = results("run", noise() + LABELS)
    write_results(at(tmp_path, "run"), written)
    found = read_results(at(tmp_path, "run"))
    assert found.scores == written.scores
    assert found.metrics.identity == written.metrics.identity
    assert found.metrics.auroc.value == pytest.approx(written.metrics.auroc.value, abs=1e-6)
    write_results(at(tmp_path / "again", "run"), found)
    for first, again in zip(
        at(tmp_path, "run").files, at(tmp_path / "again", "run").files, strict=True
    ):
        assert again.read_bytes() == first.read_bytes()


def test_auroc_can_be_recomputed_from_the_score_table(tmp_path: Path) -> None:
    write_results(at(tmp_path, "run"), results("run", 1e-3 * (noise() + LABELS)))
    with at(tmp_path, "run").scores.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    again = roc_auc_score([int(r["label"]) for r in rows], [float(r["score"]) for r in rows])
    assert json.loads(at(tmp_path, "run").metrics.read_text())["auroc"] == round(again, 6)


def test_every_float_has_at_most_six_decimals(tmp_path: Path) -> None:
    write_results(at(tmp_path, "run"), results("run", noise() + LABELS))
    content = json.loads(at(tmp_path, "run").metrics.read_text())
    assert all(round(v, 6) == v for v in content.values() if isinstance(v, float))


SIMPLE = np.tile([1, 0, 0], 6)  # the labels that BOTH, HALF and NONE are scores of


def test_figures_are_means_over_seeds_and_deviations_are_of_the_sample() -> None:
    rows = image_rows(SIMPLE)
    metrics = results("run", BOTH, HALF, NONE, BOTH, rows=rows).metrics
    assert metrics.seeds == 4
    assert metrics.auroc.value == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    # Deviations from 0.625: 0.375, -0.125, -0.625, 0.375; sum of squares 0.6875, over 4 - 1.
    assert metrics.auroc.deviation == pytest.approx((0.6875 / 3) ** 0.5)
    # Average precision of a tied block of k abnormal at rank r: 1, 6/12 and 6/18.
    precisions = np.array([1, 1 / 2, 1 / 3, 1])
    assert metrics.figures["ap"].value == pytest.approx(precisions.mean())
    assert metrics.figures["ap"].deviation == pytest.approx(precisions.std(ddof=1))


def test_patients_are_ranked_by_their_highest_slice_as_the_mean_over_seeds() -> None:
    labels = np.tile([0, 0, 1, 0], 8) * np.repeat([1, 0], 16)  # four patients have a lesion
    highest_where_abnormal = np.tile([0.0, 1, 3, 2], 8) * np.repeat([1.0, 0.5], 16)
    highest_where_normal = np.tile([0.0, 1, 3, 2], 8) * np.repeat([0.5, 1.0], 16)
    rows = image_rows(labels)
    both = results("run", highest_where_abnormal, highest_where_normal, rows=rows)
    patients = both.metrics.figures["patient_auroc"]
    assert (patients.value, patients.low, patients.high) == (0.5, 0.5, 0.5)
    (right, wrong) = (
        results("run", x, rows=rows).metrics.figures["patient_auroc"].value
        for x in (highest_where_abnormal, highest_where_normal)
    )
    assert (right, wrong) == (1, 0)


def test_all_seeds_are_resampled_with_the_same_patients() -> None:
    # One seed is right wherever the other is wrong: the mean is 1/2 in every resample, and only
    # draws that differ between seeds could give the interval a width.
    metrics = results("run", BOTH, NONE, rows=image_rows(SIMPLE)).metrics
    found = metrics.auroc
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    mirrored = results("run", noise(), -noise()).metrics.auroc
    assert (mirrored.low, mirrored.high) == pytest.approx((0.5, 0.5))


def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    write_results(at(tmp_path, "run"), results("run", noise()))
    content = json.loads(at(tmp_path, "run").metrics.read_text())
    assert content["seeds"] == 1
    assert {content[f"{name}_deviation"] for name in ("auroc", "ap", "f1")} == {None}


def test_each_seed_decides_at_its_own_threshold() -> None:
    low, high = np.zeros(20), np.full(20, 10.0)
    seeds = [SeedScores(3, low, LABELS - 0.5), SeedScores(9, high, LABELS + 9.5)]
    found = measure(IDENTITY, seeds=seeds, test_rows=image_rows(), params=PARAMS)
    assert found.metrics.thresholds == (0.0, 10.0)
    f1 = found.metrics.figures["f1"]
    assert (f1.value, f1.deviation) == (1, 0)
    assert [row.seed for row in found.scores] == [3] * len(LABELS) + [9] * len(LABELS)
    assert all(row.predicted == row.label for row in found.scores)


def test_pixel_figures_are_means_and_curves_those_of_the_first_seed() -> None:
    lesions = np.zeros((len(LABELS), 4, 4), dtype=bool)
    lesions[LABELS == 1, :2] = True
    generator = np.random.default_rng(0)
    maps = [x * lesions + generator.random(lesions.shape, np.float32) for x in (0.2, 0.4)]
    seeds = [
        SeedScores(n, noise(9), scores, of_seed.astype(np.float32))
        for n, (scores, of_seed) in enumerate(zip((noise() + LABELS, noise(5)), maps, strict=True))
    ]
    both = measure(
        IDENTITY, seeds=iter(seeds), test_rows=image_rows(), params=PARAMS, lesions=lesions
    )
    first = measure(
        IDENTITY, seeds=seeds[:1], test_rows=image_rows(), params=PARAMS, lesions=lesions
    )
    alone = [PixelFigures.of(of_seed.astype(np.float32), lesions) for of_seed in maps]
    for name in ("pixel_auroc", "aupro"):
        found = both.metrics.figures[name]
        assert found.value == pytest.approx(np.mean([getattr(x, name) for x in alone]))
        assert (found.low, found.high, found.deviation) == (None, None, None)
    assert (both.roc, both.pr, both.histogram) == (first.roc, first.pr, first.histogram)


def test_intervals_hold_their_estimates() -> None:
    metrics = results("run", noise() + LABELS).metrics
    for name in ("auroc", "ap", "accuracy", "specificity"):
        found = metrics.figures[name]
        assert known(found.low) <= found.value <= known(found.high)


@pytest.mark.parametrize("labels", [np.zeros(8, int), np.ones(8, int)])
def test_test_slices_of_one_class_are_refused(labels: Any) -> None:
    with pytest.raises(EvaluationError, match="expected both classes"):
        results("run", np.zeros(8), rows=image_rows(labels))


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(EvaluationError, match="test scores of seed 0 are not finite"):
        results("run", np.full(len(LABELS), np.nan))


def test_no_validation_normals_are_refused() -> None:
    with pytest.raises(EvaluationError, match="no validation normals"):
        measure(IDENTITY, seeds=[SeedScores(0, np.array([]), noise())], test_rows=image_rows(),
                params=PARAMS)  # fmt: skip


def test_results_of_another_schema_are_refused_by_name(tmp_path: Path) -> None:
    write_results(at(tmp_path, "run"), results("run", noise()))
    at(tmp_path, "run").metrics.write_text('{"auroc": 1.0}')
    with pytest.raises(EvaluationError, match="results of another version"):
        read_results(at(tmp_path, "run"))


def test_panels_are_the_highest_middle_and_lowest_abnormal_slices() -> None:
    labels = np.array([0, 1, 1, 1, 0, 1])
    scores = np.array([9.0, 1.0, 5.0, 3.0, -9.0, 4.0])
    assert choose_panels(labels, scores) == {"best": 2, "median": 5, "worst": 1}


def test_a_single_abnormal_slice_is_best_median_and_worst() -> None:
    assert set(choose_panels(np.array([0, 1]), np.array([0.0, 1.0])).values()) == {1}
