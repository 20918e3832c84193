from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import SimpleITK as sitk

from petct_uad.core.errors import RegistrationError
from petct_uad.registration.acceptance import decide, extend
from petct_uad.registration.align import align
from petct_uad.registration.masks import ct_body, points_mm
from petct_uad.registration.metric_images import ComparablePair, make_comparable
from petct_uad.registration.quality import mutual_information, smallest_jacobian
from petct_uad.registration.refine import refine_affine, refine_bspline, refine_rigid
from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.motion.transforms import BsplineTransform, Transform
from tests.samples import register_section

pytestmark = pytest.mark.slow

Pair = tuple[sitk.Image, sitk.Image]
PARAMS = register_section()
MOTION = RigidTransform((1.3, 0.4, -0.8), (-7.0, 7.5, 4.0))


@pytest.fixture(scope="module")
def moved(make_pair: Callable[[RigidTransform], Pair]) -> Pair:
    return make_pair(MOTION)


@pytest.fixture(scope="module")
def aligned(make_pair: Callable[[RigidTransform], Pair]) -> Pair:
    return make_pair(RigidTransform())


@pytest.fixture(scope="module")
def pair(moved: Pair) -> ComparablePair:
    return make_comparable(*moved)


@pytest.fixture(scope="module")
def refined(pair: ComparablePair) -> RigidTransform:
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    return refine_rigid(pair, PARAMS)


def _median_error_mm(ct: sitk.Image, estimate: Transform, truth: RigidTransform) -> float:
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


def test_a_large_volume_takes_no_more_samples_than_a_histogram_needs(aligned: Pair) -> None:
    large = make_comparable(*aligned)
    few = PARAMS.model_copy(update={"iterations": 2})
    half, whole = (
        refine_rigid(large, few.model_copy(update={"sampling_fraction": fraction}))
        for fraction in (0.5, 1.0)
    )
    assert half == whole
    assert refine_rigid(large, few) != whole


def test_an_aligned_pair_stays_aligned(aligned: Pair) -> None:
    ct, pet = aligned
    decision = align(ct, pet, PARAMS)
    assert _median_error_mm(ct, decision.transform, RigidTransform()) < 0.5 * min(pet.GetSpacing())


def test_an_improvement_is_accepted(pair: ComparablePair, refined: RigidTransform) -> None:
    decision = decide(pair, refined, PARAMS, fixed_axes=(2,))
    assert decision.accepted
    assert decision.transform == refined
    assert decision.after.mutual_information > decision.before.mutual_information
    assert decision.after.body_overlap > decision.before.body_overlap
    assert 8 < decision.displacement_median_mm <= decision.displacement_max_mm < 30


def test_a_mismatch_is_found_and_flat_axes_are_left_to_the_scanner(moved: Pair) -> None:
    """The torso is much alike from slice to slice, so nothing is sought along z."""
    decision = align(*moved, PARAMS.model_copy(update={"refine": "auto"}))
    assert decision.accepted
    assert "held along z" in decision.reason
    assert isinstance(decision.transform, RigidTransform)
    x_mm, y_mm, z_mm = decision.transform.translation_mm
    assert (x_mm, y_mm) == pytest.approx(MOTION.translation_mm[:2], abs=1.0)
    assert z_mm == 0.0


def test_auto_believes_a_scanner_that_shows_no_mismatch(aligned: Pair) -> None:
    decision = align(*aligned, PARAMS.model_copy(update={"refine": "auto"}))
    assert decision.transform == RigidTransform()
    assert "no mismatch" in decision.reason


def test_auto_refines_where_the_frames_of_reference_differ(aligned: Pair) -> None:
    few = PARAMS.model_copy(update={"refine": "auto", "iterations": 2})
    decision = align(*aligned, few, same_frame_of_reference=False)
    assert "no mismatch" not in decision.reason


def test_an_affine_map_finds_a_stretch(aligned: Pair) -> None:
    ct, pet = aligned
    wide = sitk.Image(ct)
    wide.SetSpacing((1.06 * ct.GetSpacing()[0], *ct.GetSpacing()[1:]))
    wide.SetOrigin((1.06 * ct.GetOrigin()[0], *ct.GetOrigin()[1:]))
    stretched = make_comparable(wide, pet)
    start = decide(stretched, RigidTransform(), PARAMS)
    affine = refine_affine(stretched, RigidTransform(), PARAMS)
    decision = extend(stretched, start, affine, PARAMS)
    assert decision.transform == affine
    assert affine.matrix[0] == pytest.approx(1 / 1.06, abs=0.02)


def test_a_spline_betters_the_metric_without_folding(
    pair: ComparablePair, refined: RigidTransform
) -> None:
    few = PARAMS.model_copy(update={"iterations": 2, "sampling_fraction": 0.1})
    spline = refine_bspline(pair, refined, few)
    start = decide(pair, refined, PARAMS, fixed_axes=(2,))
    decision = extend(pair, start, spline, PARAMS)
    assert decision.transform == spline
    assert decision.after.mutual_information > start.after.mutual_information
    assert smallest_jacobian(pair, spline) > 0


def test_a_spline_that_folds_is_refused(pair: ComparablePair, refined: RigidTransform) -> None:
    spline = sitk.BSplineTransformInitializer(pair.ct, [4, 4, 2])
    wild = np.random.default_rng(0).uniform(-120, 120, spline.GetNumberOfParameters())
    spline.SetParameters(wild.tolist())
    start = decide(pair, refined, PARAMS, fixed_axes=(2,))
    decision = extend(pair, start, BsplineTransform.from_sitk(refined, spline), PARAMS)
    assert decision.transform == refined
    assert re.search("bspline refused: .* would fold the body", decision.reason)


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
