from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import SimpleITK as sitk

from petct_uad.errors import RegistrationError
from petct_uad.params import RegisterParams
from petct_uad.registration.comparable import ComparablePair, make_comparable
from petct_uad.registration.masks import ct_body, points_mm
from petct_uad.registration.quality import decide, mutual_information, suv_total_ratio
from petct_uad.registration.refine import refine_rigid
from petct_uad.registration.rigid import RigidTransform

Pair = tuple[sitk.Image, sitk.Image]
PARAMS = RegisterParams(
    refine="rigid",
    spacing_mm=2.0,
    body_threshold_hu=-300.0,
    max_displacement_mm=30.0,
    histogram_bins=32,
    sampling_fraction=0.25,
    iterations=100,
    seed=0,
    workers=1,
)
MOTION = RigidTransform((1.3, 0.4, -0.8), (-7.0, 7.5, 4.0))


@pytest.fixture(scope="module")
def moved(make_pair: Callable[[RigidTransform], Pair]) -> Pair:
    return make_pair(MOTION)


@pytest.fixture(scope="module")
def pair(moved: Pair) -> ComparablePair:
    return make_comparable(*moved)


@pytest.fixture(scope="module")
def refined(pair: ComparablePair) -> RigidTransform:
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    return refine_rigid(pair, PARAMS)


def _median_error_mm(ct: sitk.Image, estimate: RigidTransform, truth: RigidTransform) -> float:
    points = points_mm(ct_body(ct))
    return float(np.median(np.linalg.norm(estimate.apply(points) - truth.apply(points), axis=1)))


def test_a_known_motion_is_recovered_to_less_than_half_a_pet_voxel(
    moved: Pair, refined: RigidTransform
) -> None:
    ct, pet = moved
    before = _median_error_mm(ct, RigidTransform(), MOTION)
    after = _median_error_mm(ct, refined, MOTION)
    assert after < 0.5 * min(pet.GetSpacing())
    assert after < before


def test_the_same_input_gives_the_same_transform(
    pair: ComparablePair, refined: RigidTransform
) -> None:
    assert refine_rigid(pair, PARAMS) == refined


def test_an_aligned_pair_stays_aligned(make_pair: Callable[[RigidTransform], Pair]) -> None:
    ct, pet = make_pair(RigidTransform())
    aligned = make_comparable(ct, pet)
    decision = decide(aligned, refine_rigid(aligned, PARAMS), PARAMS)
    assert _median_error_mm(ct, decision.transform, RigidTransform()) < 0.5 * min(pet.GetSpacing())


def test_an_improvement_is_accepted(pair: ComparablePair, refined: RigidTransform) -> None:
    decision = decide(pair, refined, PARAMS)
    assert decision.accepted
    assert decision.transform == refined
    assert decision.after.mutual_information > decision.before.mutual_information
    assert decision.after.body_overlap > decision.before.body_overlap
    assert 8 < decision.displacement_median_mm <= decision.displacement_max_mm < 30


@pytest.mark.parametrize(
    ("candidate", "limit_mm", "reason"),
    [
        (MOTION, 5.0, r"move the body by 1\d\.\d mm, allowed are 5 mm"),
        (RigidTransform(translation_mm=(20.0, -20.0, 0.0)), 50.0, "mutual information by -0"),
        (RigidTransform(translation_mm=(0.0, 0.0, 95.0)), 100.0, "slices covered by the PET"),
        (RigidTransform(translation_mm=(0.0, 0.0, 9.0)), 30.0, "too flat to tell"),
    ],
    ids=["too far", "no better", "out of sight", "too flat"],
)
def test_a_refused_refinement_leaves_the_identity_and_says_why(
    pair: ComparablePair, candidate: RigidTransform, limit_mm: float, reason: str
) -> None:
    params = PARAMS.model_copy(update={"max_displacement_mm": limit_mm})
    decision = decide(pair, candidate, params)
    assert not decision.accepted
    assert decision.transform == RigidTransform()
    assert decision.after == decision.before
    assert re.search(reason, decision.reason)


def test_a_ct_without_body_cannot_be_refined(moved: Pair) -> None:
    ct, pet = moved
    with pytest.raises(RegistrationError, match="no body"):
        refine_rigid(make_comparable(ct * 0 - 1000, pet), PARAMS)


def test_mutual_information_is_that_of_a_known_table() -> None:
    same = np.array([0.0, 1.0] * 50, np.float32)
    assert mutual_information(same, same, 8) == pytest.approx(np.log(2))
    assert mutual_information(same, np.repeat(same[:2], 50), 8) == pytest.approx(0.0)


def test_uptake_is_conserved_by_resampling(moved: Pair, refined: RigidTransform) -> None:
    ct, pet = moved
    resampled = sitk.Resample(pet, ct, refined.to_sitk(), sitk.sitkLinear, 0.0)
    assert suv_total_ratio(pet, resampled, refined) == pytest.approx(1.0, abs=0.02)
