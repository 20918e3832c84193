"""The cohort's design is balanced before a single image exists."""

from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from petct_uad.phantom.design import plan_cohort
from petct_uad.phantom.params import PhantomParams
from petct_uad.phantom.patient import PatientPlan

_RADIUS = 0.08  # of a typical lesion, as a fraction of the stack


def _params(patients: int, seed: int = 7) -> PhantomParams:
    return PhantomParams(
        patients=patients, seed=seed, extent_mm=140.0, ct_matrix=64,
        max_shift_mm=8.0, max_rotation_deg=2.0,
    )  # fmt: skip


def _position_auroc(plans: list[PatientPlan]) -> float:
    """AUROC of closeness to the middle, over slices that a lesion of typical size would hit."""
    slices = np.linspace(0, 1, 28)
    labels = [
        np.any([np.abs(slices - lesion.height) < _RADIUS for lesion in plan.lesions], axis=0)
        if plan.lesions
        else np.zeros(28, bool)
        for plan in plans
    ]
    closeness = np.tile(1 - np.abs(2 * slices - 1), len(plans))
    return float(roc_auc_score(np.concatenate(labels), closeness))


@pytest.mark.parametrize("patients", [4, 32, 110])
def test_about_three_in_four_patients_have_one_or_two_lesions(patients: int) -> None:
    counts = Counter(len(plan.lesions) for plan in plan_cohort(_params(patients)))
    assert set(counts) <= {0, 1, 2}
    assert 0.65 <= 1 - counts[0] / patients <= 0.8


def test_kind_visibility_and_scanner_are_balanced() -> None:
    plans = plan_cohort(_params(64))
    lesions = [(lesion, plan) for plan in plans for lesion in plan.lesions]
    for told in (
        [lesion.kind for lesion, _ in lesions],
        [lesion.visibility for lesion, _ in lesions],
        [plan.scanner.model_name for _, plan in lesions],
    ):
        counts = Counter(told)
        assert max(counts.values()) <= 1.35 * min(counts.values())


def test_every_kind_appears_in_every_visibility() -> None:
    plans = plan_cohort(_params(64))
    found = {(lesion.kind, lesion.visibility) for plan in plans for lesion in plan.lesions}
    assert len(found) == 16


@pytest.mark.parametrize("seed", [0, 7, 42])
def test_slice_position_says_nothing_in_any_half_of_the_patients(seed: int) -> None:
    plans = plan_cohort(_params(32, seed))
    rng = np.random.default_rng(0)
    halves = [_position_auroc([plans[i] for i in rng.permutation(32)[:16]]) for _ in range(200)]
    assert 0.45 <= _position_auroc(plans) <= 0.55
    assert np.mean([0.42 <= value <= 0.58 for value in halves]) > 0.9


def test_another_seed_gives_another_design() -> None:
    assert plan_cohort(_params(16, 1)) != plan_cohort(_params(16, 2))
