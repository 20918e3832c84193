"""The position-adjusted AUROC, by hand and where the place in the stack is a confounder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from petct_uad.evaluation.bootstrap import draw_patients
from petct_uad.evaluation.metrics import Scores, auroc
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.position import REACH, LikePlaced
from petct_uad.evaluation.results import measure
from petct_uad.evaluation.tables import Measured, RunIdentity
from petct_uad.scoring.tables import SeedScores
from petct_uad.slices.tables import ImageRow
from tests.samples import image_row
from tests.small_results import known
from tests.unit.evaluation.test_metrics import scores_of

PARAMS = EvaluateParams(false_positive_rate=0.05, bootstrap_samples=200, confidence=0.95, seed=0)
IDENTITY = RunIdentity(run="run", model="run", modality="pet", dataset="tiny", protocol="patient")
Stack = tuple[np.ndarray, np.ndarray, np.ndarray]  # labels, positions, patients


def adjusted(scores: Scores, positions: np.ndarray) -> float:
    return LikePlaced.of(scores, positions).auroc(scores.each_patient_once).item()


def stack(seed: int, confounded: float) -> Stack:
    """Forty patients of fifty slices; the higher in the stack, the likelier a lesion."""
    generator = np.random.default_rng(seed)
    positions = np.tile(np.linspace(0, 1, 50), 40)
    chance = 0.45 + confounded * (positions - 0.5)
    labels = (generator.random(len(positions)) < chance).astype(int)
    return labels, positions, np.repeat(np.arange(40), 50)


def test_an_abnormal_slice_is_set_against_normal_ones_of_its_place_only() -> None:
    # At 0.2 the abnormal slice outranks one of two normals, at 0.8 none of one; of all six pairs
    # the abnormal slices win one and two.
    positions = np.array([0.2, 0.2, 0.2, 0.8, 0.8])
    scores = scores_of([1, 0, 0, 1, 0], [5.0, 4.0, 6.0, 8.0, 9.0])
    assert adjusted(scores, positions) == pytest.approx((1 / 2 + 0) / 2)
    assert auroc(scores) == pytest.approx((1 + 2) / 6)


def test_the_nearer_a_normal_slice_the_more_it_counts_and_ties_count_half() -> None:
    positions = np.array([0.5, 0.5, 0.5 + REACH / 2, 0.5 + REACH])
    scores = scores_of([1, 0, 0, 0], [2.0, 2.0, 1.0, 9.0])
    # Epanechnikov: 1 in the same place, 3/4 halfway, nothing at the end of the reach.
    assert adjusted(scores, positions) == pytest.approx((1 / 2 + 3 / 4) / (1 + 3 / 4))


def test_it_is_the_plain_auroc_where_all_slices_are_of_one_place() -> None:
    generator = np.random.default_rng(0)
    labels, values = generator.integers(0, 2, 60), generator.normal(size=60).round(1)
    scores = scores_of(labels, values, np.arange(60) // 6)
    assert adjusted(scores, np.full(60, 0.4)) == pytest.approx(roc_auc_score(labels, values))


def test_slices_without_a_normal_one_of_like_place_are_left_out_and_counted() -> None:
    positions = np.array([0.2, 0.2, 0.9])
    found = LikePlaced.of(scores_of([1, 0, 1], [2.0, 1.0, 0.0]), positions)
    assert found.auroc(np.ones((1, 3))).item() == 1
    assert found.matched == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_place_alone_has_a_high_plain_auroc_and_half_when_adjusted(seed: int) -> None:
    labels, positions, patients = stack(seed, confounded=0.8)
    noise = np.random.default_rng(seed + 100).normal(size=len(labels))
    scores = scores_of(labels, 4 * positions + 0.3 * noise, patients)
    assert auroc(scores) > 0.7
    assert adjusted(scores, positions) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("seed", range(5))
def test_what_a_score_knows_beyond_the_place_stays(seed: int) -> None:
    # Phi(1.5 / sqrt(2)) = 0.856 between normal and abnormal slices of one place.
    labels, positions, patients = stack(seed, confounded=0.8)
    noise = np.random.default_rng(seed + 100).normal(size=len(labels))
    informed = scores_of(labels, 1.5 * labels + noise, patients)
    assert adjusted(informed, positions) == pytest.approx(0.856, abs=0.03)
    assert auroc(informed) == pytest.approx(0.856, abs=0.03)
    # The same beside a strong trend along the body, which hides it from the plain AUROC.
    hidden = replace(informed, scores=informed.scores - 8 * positions)
    assert auroc(hidden) < 0.5
    assert adjusted(hidden, positions) == pytest.approx(0.856, abs=0.04)


def test_a_resample_is_the_adjusted_auroc_of_its_repeated_slices() -> None:
    generator = np.random.default_rng(3)
    patients = np.repeat(np.arange(6), 8)
    labels = generator.integers(0, 2, size=48)
    scores = scores_of(labels, generator.normal(size=48).round(1), patients)
    positions = np.tile(np.linspace(0, 0.2, 8), 6)
    weights = draw_patients(scores, 20, seed=1).weights
    found = LikePlaced.of(scores, positions).auroc(weights)
    for weight, value in zip(weights, found, strict=True):
        chosen = np.repeat(np.arange(48), weight[patients].astype(int))
        again = scores_of(labels[chosen], scores.scores[chosen], np.arange(len(chosen)))
        assert value == pytest.approx(adjusted(again, positions[chosen]), abs=1e-12)


def measured(positions: np.ndarray) -> dict[str, Measured]:
    labels, _, patients = stack(0, confounded=0.8)
    rows = [image_row_at(i, labels[i], positions[i], patients[i]) for i in range(len(labels))]
    values = labels + np.random.default_rng(0).normal(size=len(labels))
    seeds = [SeedScores(0, np.zeros(9), values)]
    found = measure(IDENTITY, seeds=seeds, test_rows=rows, params=PARAMS).metrics.figures
    return dict(found)


def image_row_at(i: int, label: int, position: float, patient: int) -> ImageRow:
    return image_row(
        slice_id=f"P{patient}_{i:04d}",
        study_id=f"P{patient}",
        patient=f"P{patient}",
        split="test",
        label=int(label),
        position=float(position),
    )


def test_it_stands_beside_the_plain_one_with_an_interval_over_patients() -> None:
    found = measured(stack(0, confounded=0.8)[1])
    figure = found["auroc_position_adjusted"]
    assert known(figure.low) < figure.value < known(figure.high)
    assert found["position_matched"].value == 1


def test_pictures_have_no_place_and_so_no_adjusted_auroc() -> None:
    found = measured(np.zeros(2000))
    assert "auroc" in found
    assert not {"auroc_position_adjusted", "position_matched"} & set(found)
