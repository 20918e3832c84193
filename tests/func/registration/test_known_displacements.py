"""A small version of ``benchmarks/registration.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.registration import Job, register_patient
from petct_uad.phantom.design import plan_cohort
from petct_uad.phantom.params import PhantomParams
from petct_uad.schema import load_params

ROOT = Path(__file__).parents[3]
PHANTOM = PhantomParams(
    patients=4, seed=5, extent_mm=140.0, ct_matrix=128, max_shift_mm=15.0, max_rotation_deg=5.0
)
# As the benchmark has it, whose study 14 has the flattest peak along the body: 0.00097 nat per mm2.
FLAT = PHANTOM.model_copy(update={"patients": 24, "seed": 12, "ct_matrix": 256})


def test_a_flat_peak_that_every_part_of_the_body_has_is_followed() -> None:
    """Held along the body, this study was accepted 4.2 voxels beside the truth."""
    register = load_params(ROOT / "params.yaml").register_
    (outcome,) = register_patient(Job(FLAT, plan_cohort(FLAT)[14], 1, register))
    assert outcome.accepted, outcome.reason
    assert "held" not in outcome.reason
    assert np.median(outcome.identity_px) > 3
    assert np.median(outcome.error_px) < 0.5


def test_six_large_displacements_are_recovered_to_a_third_of_a_pet_voxel() -> None:
    register = load_params(ROOT / "params.yaml").register_
    outcomes = []
    for plan in plan_cohort(PHANTOM)[:3]:
        outcomes += register_patient(Job(PHANTOM, plan, 2, register))
    error = np.concatenate([outcome.error_px for outcome in outcomes])
    assert np.median(error) < 1 / 3
    assert np.percentile(error, 95) < 1
    for outcome in outcomes:
        assert outcome.accepted, outcome.reason
        assert np.median(outcome.error_px) < np.median(outcome.identity_px)
