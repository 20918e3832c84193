"""A refinement is kept only where nothing speaks against it, and each objection is heard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from petct_uad.registration.acceptance import decide, find_mismatch
from petct_uad.registration.metric_images import ComparablePair, make_comparable
from petct_uad.registration.quality import resample_under, sharpness, smallest_jacobian
from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.motion.transforms import BsplineTransform
from tests.samples import register_section

Pair = tuple[sitk.Image, sitk.Image]
PARAMS = register_section()
MOTION = RigidTransform((1.3, 0.4, -0.8), (-7.0, 7.5, 4.0))
HELD = (2,)  # the torso is much alike from slice to slice


@pytest.fixture(scope="module")
def pair(make_pair: Callable[[RigidTransform], Pair]) -> ComparablePair:
    return make_comparable(*make_pair(MOTION))


@pytest.fixture(scope="module")
def still(make_pair: Callable[[RigidTransform], Pair]) -> Pair:
    return make_pair(RigidTransform())


@pytest.fixture(scope="module")
def aligned(still: Pair) -> ComparablePair:
    return make_comparable(*still)


def _with_pet_body_at(pair: ComparablePair, share: float) -> ComparablePair:
    """The pair with a PET whose outline, other than its uptake, moved by a share of the motion."""
    x_mm, y_mm, _ = MOTION.translation_mm
    back = sitk.TranslationTransform(3, (-share * x_mm, -share * y_mm, 0.0))
    nearest = sitk.sitkNearestNeighbor
    return replace(pair, pet_body=sitk.Resample(pair.body, pair.pet, back, nearest, 0.0))


@pytest.mark.parametrize("share", [0.0, 0.55])
def test_more_information_does_not_buy_less_overlap_of_the_bodies(
    pair: ComparablePair, share: float
) -> None:
    decision = decide(_with_pet_body_at(pair, share), MOTION, PARAMS, fixed_axes=HELD)
    assert not decision.accepted
    assert decision.reason.startswith("refinement would take body overlap from 0.9")


def test_an_overlap_that_falls_by_less_than_its_noise_is_no_objection(pair: ComparablePair) -> None:
    decision = decide(_with_pet_body_at(pair, 0.59), MOTION, PARAMS, fixed_axes=HELD)
    assert -0.005 < decision.after.body_overlap - decision.before.body_overlap < 0
    assert decision.accepted


def test_the_limit_is_on_the_voxel_of_the_body_that_moves_furthest(pair: ComparablePair) -> None:
    free = decide(pair, MOTION, PARAMS, fixed_axes=HELD)
    median_mm, furthest_mm = free.displacement_median_mm, free.displacement_max_mm
    assert furthest_mm > median_mm + 1
    for limit_mm, accepted in ((furthest_mm, True), ((median_mm + furthest_mm) / 2, False)):
        params = PARAMS.model_copy(update={"max_displacement_mm": limit_mm})
        assert decide(pair, MOTION, params, fixed_axes=HELD).accepted is accepted


@pytest.mark.parametrize("shift_mm", [-15.0, 15.0], ids=["lost at one end", "gained at the other"])
def test_what_only_one_of_the_two_alignments_sees_counts_for_neither(
    still: Pair, shift_mm: float
) -> None:
    """Else a motion would gain by pushing out of the PET whatever fits badly."""
    ct, pet = still
    pair = make_comparable(ct, pet[:, :, 9:38])  # 85 of the CT's 140 mm
    candidate = RigidTransform(translation_mm=(1.0, 0.0, shift_mm))
    seen = [resample_under(pair, transform).field for transform in (RigidTransform(), candidate)]
    by_one = (seen[0] != seen[1]).any(axis=(1, 2))
    assert 0 < by_one.sum() < 10
    hu = sitk.GetArrayFromImage(pair.ct)
    hu[by_one] = np.random.default_rng(0).uniform(-1000, 250, hu[by_one].shape)
    spoilt = sitk.GetImageFromArray(hu)
    spoilt.CopyInformation(pair.ct)
    decision = decide(pair, candidate, PARAMS, fixed_axes=(0, 1, 2))
    assert decision.before.mutual_information > 0
    assert decide(replace(pair, ct=spoilt), candidate, PARAMS, fixed_axes=(0, 1, 2)).before == (
        decision.before
    )


@pytest.mark.parametrize("way", [-1.0, 1.0])
@pytest.mark.parametrize(
    ("shift_mm", "turn_deg"),
    [((8.0, 0.0, 0.0), 0.0), ((0.0, 8.0, 0.0), 0.0), ((0.0, 0.0, 0.0), 5.0)],
    ids=["along x", "along y", "about z"],
)
def test_a_mismatch_is_found_whichever_way_the_patient_moved(
    aligned: ComparablePair, way: float, shift_mm: tuple[float, float, float], turn_deg: float
) -> None:
    x_mm, y_mm, z_mm = (way * mm for mm in shift_mm)
    motion = RigidTransform((0.0, 0.0, way * turn_deg), (x_mm, y_mm, z_mm))
    moved = sitk.Resample(aligned.pet, motion.inverse_sitk(), sitk.sitkLinear, 0.0)
    assert find_mismatch(replace(aligned, pet=moved), PARAMS)


def test_no_mismatch_is_found_where_nothing_moved(aligned: ComparablePair) -> None:
    assert not find_mismatch(aligned, PARAMS)


def test_a_slope_is_no_peak_however_it_bends(pair: ComparablePair) -> None:
    """Beside the peak one step climbs: there mutual information is not sharp but unfinished."""
    x_mm, y_mm, z_mm = MOTION.translation_mm
    beside = replace(MOTION, translation_mm=(x_mm + 3.0, y_mm, z_mm))
    on_peak, on_slope = (sharpness(resample_under(pair, at), 4.0, 32) for at in (MOTION, beside))
    assert on_peak[0] > 0.001
    assert on_slope[0] < 0
    assert on_slope[1] > 0.001


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("slope", [-0.3, -1.5], ids=["squeezed", "folded"])
def test_the_jacobian_is_that_of_a_known_squeeze(
    pair: ComparablePair, axis: int, slope: float
) -> None:
    around = sitk.ConstantPad(pair.ct, [8, 8, 8], [8, 8, 8])
    spline = sitk.BSplineTransformInitializer(around, [4, 4, 4])
    points = spline.GetCoefficientImages()[axis]
    columns, rows, slices = points.GetSize()
    along = np.indices((slices, rows, columns))[2 - axis] * points.GetSpacing()[axis]
    # A B-spline whose control points lie on a line is that line.
    coefficients = np.zeros((3, slices, rows, columns))
    coefficients[axis] = slope * (along - along.mean())
    spline.SetParameters(coefficients.ravel().tolist())
    squeezed = BsplineTransform.from_sitk(RigidTransform(), spline)
    assert smallest_jacobian(pair, squeezed) == pytest.approx(1 + slope, abs=1e-3)
