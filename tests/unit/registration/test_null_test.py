"""What a refinement must have beyond the method's own bias, and what the null test is made of."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import SimpleITK as sitk

from petct_uad.registration.acceptance import confirm, decide
from petct_uad.registration.align import align
from petct_uad.registration.evidence import beyond_null, gains
from petct_uad.registration.metric_images import ComparablePair, make_comparable
from petct_uad.registration.null_pet import make_null
from petct_uad.registration.refine import refine_rigid
from petct_uad.registration.skin import ALL_SIDES, visible_sides
from petct_uad.volumes.motion.rigid import RigidTransform
from tests.samples import register_section

Pair = tuple[sitk.Image, sitk.Image]
PARAMS = register_section(null_margin_mm=3.0, null_factor=2.0, null_share=0.25)
HELD = (2,)  # the torso is much alike from slice to slice


@pytest.fixture(scope="module")
def still(make_pair: Callable[[RigidTransform], Pair]) -> Pair:
    return make_pair(RigidTransform())


@pytest.fixture(scope="module")
def moved(make_pair: Callable[[RigidTransform], Pair]) -> Pair:
    return make_pair(RigidTransform(translation_mm=(-7.0, 7.5, 0.0)))


@pytest.fixture(scope="module")
def null(moved: Pair) -> ComparablePair:
    return make_null(make_comparable(*moved), moved[0], PARAMS)


def _cropped(pair: Pair, low_mm: float, high_mm: float) -> Pair:
    """Both images between two x, whole in the other directions."""
    ct, pet = (
        image[slice(*(image.TransformPhysicalPointToIndex((x, *image.GetOrigin()[1:]))[0]
                      for x in (low_mm, high_mm))), :, :]
        for image in pair
    )  # fmt: skip
    return ct, pet


def _along_x(mm: float) -> RigidTransform:
    return RigidTransform(translation_mm=(mm, 0.0, 0.0))


def test_the_null_test_sees_a_pet_that_did_not_move_whatever_the_patient_did(
    moved: Pair, still: Pair, null: ComparablePair
) -> None:
    own, theirs = (
        sitk.GetArrayFromImage(image) for image in (null.pet, make_comparable(*still).pet)
    )
    apart = sitk.GetArrayFromImage(make_comparable(*moved).pet)
    assert np.corrcoef(own.ravel(), theirs.ravel())[0, 1] > 0.9
    assert (
        np.corrcoef(own.ravel(), theirs.ravel())[0, 1]
        > (np.corrcoef(own.ravel(), apart.ravel())[0, 1])
    )


def test_the_null_test_is_made_on_the_pets_own_grid_with_its_noise(
    moved: Pair, null: ComparablePair
) -> None:
    _, pet = moved
    assert null.pet.GetSize() == pet.GetSize()
    assert null.pet.GetOrigin() == pet.GetOrigin()
    muscle = [pet.TransformPhysicalPointToIndex(point) for point in ((-30, 40, -20), (30, 60, 20))]
    (x, y, z), (x_end, y_end, z_end) = muscle
    inside = slice(x, x_end), slice(y, y_end), slice(z, z_end)
    real, made = (
        sitk.GetArrayFromImage(image[inside]).std()
        for image in (make_comparable(*moved).pet, null.pet)
    )
    assert made == pytest.approx(real, rel=0.5)


def test_the_same_study_gives_the_same_null_test(moved: Pair, null: ComparablePair) -> None:
    again = make_null(make_comparable(*moved), moved[0], PARAMS)
    assert np.array_equal(sitk.GetArrayFromImage(again.pet), sitk.GetArrayFromImage(null.pet))


@pytest.mark.parametrize(
    ("moved_mm", "bias_mm", "excess_mm"),
    [
        (1.0, 0.0, 1.0),
        (1.0, 1.0, 0.0),
        (2.0, 1.0, 0.0),  # the bias may be twice what the null test shows
        (5.0, 1.0, 3.0),
        (-5.0, 1.0, 5.0),  # the other way nothing is explained
    ],
)
def test_a_refinement_counts_by_what_the_bias_does_not_explain(
    moved: Pair, moved_mm: float, bias_mm: float, excess_mm: float
) -> None:
    pair = make_comparable(*moved)
    test = beyond_null(pair, _along_x(moved_mm), _along_x(bias_mm), factor=2.0)
    assert test.bias_mm == pytest.approx(abs(bias_mm))
    assert test.excess_mm == pytest.approx(excess_mm, abs=1e-6)


def test_a_bias_across_explains_nothing(moved: Pair) -> None:
    pair = make_comparable(*moved)
    across = RigidTransform(translation_mm=(0.0, 3.0, 0.0))
    assert beyond_null(pair, _along_x(4.0), across, 2.0).excess_mm == pytest.approx(4.0)


def test_a_refinement_within_the_margin_of_the_bias_is_refused_with_both_amounts(
    moved: Pair,
) -> None:
    pair = make_comparable(*moved)
    refined = decide(pair, RigidTransform(translation_mm=(-7.0, 7.5, 0.0)), PARAMS, HELD)
    assert refined.accepted
    bias = RigidTransform(translation_mm=(-6.0, 6.0, 0.0))
    refused = confirm(pair, refined, bias, PARAMS)
    assert not refused.accepted
    assert refused.transform == RigidTransform()
    assert "which the null test puts at 8.5 mm; it takes 3 mm" in refused.reason
    assert confirm(pair, refined, RigidTransform(), PARAMS).accepted


def test_a_motion_betters_the_fit_on_both_sides_and_below_the_skin(moved: Pair) -> None:
    found = gains(make_comparable(*moved), RigidTransform(translation_mm=(-7.0, 7.5, 0.0)), 32)
    assert {gain.part for gain in found} == {
        "low x", "high x", "low y", "high y", "low z", "high z", "below the skin"
    }  # fmt: skip
    assert all(gain.nats > 0 for gain in found)


def test_what_betters_the_fit_on_one_side_only_is_refused(still: Pair, moved: Pair) -> None:
    """The PET's one half lies right, the other beside its CT: that is no motion of a body."""
    halves = [sitk.GetArrayFromImage(pet) for _, pet in (still, moved)]
    columns = np.arange(halves[0].shape[2]) * 5.47 - 259.0
    mixed = sitk.GetImageFromArray(np.where(columns < 0, *halves))
    mixed.CopyInformation(still[1])
    move = RigidTransform(translation_mm=(-7.0, 7.5, 0.0))
    refined = decide(make_comparable(*moved), move, PARAMS, HELD)
    refused = confirm(make_comparable(still[0], mixed), refined, RigidTransform(), PARAMS)
    assert not refused.accepted
    assert re.search(r"not in every part of the body: -0\.\d+ low x", refused.reason)


@pytest.mark.parametrize(
    ("low_mm", "high_mm", "sides"),
    [
        (-240.0, 240.0, ALL_SIDES),
        (-100.0, 240.0, ("back", "front", "left")),
        (-240.0, 100.0, ("back", "front", "right")),
        (-100.0, 100.0, ("back", "front")),
    ],
)
def test_the_sides_at_which_the_skin_shows_are_named(
    still: Pair, low_mm: float, high_mm: float, sides: tuple[str, ...]
) -> None:
    assert visible_sides(make_comparable(*_cropped(still, low_mm, high_mm))) == sides


def test_a_pet_that_ends_inside_the_body_is_cropped_too(still: Pair) -> None:
    ct, pet = still
    _, narrow = _cropped(still, -100.0, 240.0)
    assert narrow.GetSize()[0] < pet.GetSize()[0]
    assert visible_sides(make_comparable(ct, narrow)) == ("back", "front", "left")


@pytest.mark.parametrize("refine", ["auto", "rigid"])
def test_cropped_data_that_did_not_move_stay_where_they_are(still: Pair, refine: str) -> None:
    decision = align(*_cropped(still, 20.0, 240.0), register_section(refine=refine))
    assert decision.transform == RigidTransform()
    assert "left" in decision.skin
    assert "right" not in decision.skin


def test_the_null_test_refines_as_the_study_is_refined(still: Pair) -> None:
    """So what it moves where the skin shows on one side is the method's own."""
    ct, pet = _cropped(still, 20.0, 240.0)
    null = make_null(make_comparable(ct, pet), ct, PARAMS)
    bias = refine_rigid(null, PARAMS, HELD)
    assert bias != RigidTransform()
    assert np.linalg.norm(bias.translation_mm) < 5.0
