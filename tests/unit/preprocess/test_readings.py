"""What a reader reads off a slice, against volumes whose areas are known."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from petct_uad.preprocess.liver import find_liver, percist_threshold
from petct_uad.preprocess.measures import BodyUptake
from petct_uad.preprocess.readings import read_picture, read_uptake
from petct_uad.slices.tables import ReadingRow, SliceRow
from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.study import StudyVolumes

SPACING_MM = (4.0, 4.0, 5.0)
SHAPE = (40, 60, 80)  # z, y, x: 200 x 240 x 320 mm
Volume = NDArray[np.float32]
Z, Y, X = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
BODY = ((X - 40) / 38) ** 2 + ((Y - 30) / 28) ** 2 + 0 * Z < 1


def slices(count: int = SHAPE[0]) -> list[SliceRow]:
    return [
        SliceRow(f"S_{i:04d}", "S", "S", "GE", i, 5.0 * i, i / count, 0.0, 0, "test", "")
        for i in range(count)
    ]


def image(array: NDArray[np.generic], direction: tuple[float, ...] | None = None) -> sitk.Image:
    made = sitk.GetImageFromArray(array)
    made.SetSpacing(SPACING_MM)
    if direction:
        made.SetDirection(direction)
    return made


def study(hu: Volume, suv: Volume, direction: tuple[float, ...] | None = None) -> StudyVolumes:
    return StudyVolumes(
        ct=image(hu, direction),
        pet=image(suv, direction),
        lesion=image(np.zeros(SHAPE, np.uint8), direction),
        body=image(BODY.astype(np.uint8), direction),
        transform=RigidTransform(),
    )


def torso(liver_top: int = 20) -> Volume:
    """Muscle with two lungs; below ``liver_top`` the right one (low x) ends at a liver."""
    hu = np.where(BODY, 50.0, -1024.0).astype(np.float32)
    lungs = [((X - x) / 15) ** 2 + ((Y - 30) / 18) ** 2 < 1 for x in (20, 60)]
    for lung, end in zip(lungs, (liver_top, liver_top), strict=True):
        hu[np.broadcast_to(lung & (end <= Z) & (Z < 38), SHAPE)] = -850.0
    return hu


def uniform(suv: float = 1.0) -> Volume:
    return np.where(BODY, suv, 0.0).astype(np.float32)


def readings(hu: Volume, suv: Volume) -> tuple[ReadingRow, ...]:
    volumes = study(hu, suv)
    return read_uptake("s", volumes, BodyUptake.of(volumes))


def hot(suv: Volume, z: int, side_px: int, value: float) -> Volume:
    """The same with a square of this SUV in one slice."""
    suv = suv.copy()
    suv[z, 28 : 28 + side_px, 38 : 38 + side_px] = value
    return suv


def test_areas_above_fixed_thresholds_are_counted_in_the_body() -> None:
    suv = hot(hot(uniform(), 5, 4, 3.0), 7, 3, 6.0)
    suv[7, 0, 0] = 50.0  # outside the body
    found = readings(torso(), suv)
    above_2_5 = {i: x.suv_above_2_5_mm2 for i, x in enumerate(found) if x.suv_above_2_5_mm2}
    above_4 = {i: x.suv_above_4_mm2 for i, x in enumerate(found) if x.suv_above_4_mm2}
    assert above_2_5 == {5: 16 * 16.0, 7: 9 * 16.0}
    assert above_4 == {7: 9 * 16.0}


def test_the_part_of_the_maximum_is_of_the_whole_study() -> None:
    found = readings(torso(), hot(hot(uniform(), 5, 4, 3.0), 7, 3, 6.0))
    areas = {i: x.suv_above_41_percent_mm2 for i, x in enumerate(found)}
    assert {i for i, area in areas.items() if area} == {5, 7}  # 41 % of 6.0 is 2.46
    found = readings(torso(), hot(hot(uniform(), 5, 4, 3.0), 7, 3, 8.0))
    assert {i for i, x in enumerate(found) if x.suv_above_41_percent_mm2} == {7}


def test_a_threshold_is_passed_and_not_met() -> None:
    found = readings(torso(), hot(uniform(), 5, 4, 2.5))
    assert not any(x.suv_above_2_5_mm2 for x in found)


def test_the_liver_is_found_below_the_right_lung() -> None:
    volumes = study(torso(), uniform())
    found = find_liver(volumes.ct, volumes.body)
    assert found is not None
    x_mm, y_mm, z_mm = found
    assert 20 < x_mm < 130
    assert 60 < y_mm < 180
    assert z_mm < 5.0 * 20 - 15


@pytest.mark.parametrize("flip", [(-1.0, -1.0, 1.0), (-1.0, 1.0, -1.0), (1.0, -1.0, -1.0)])
def test_the_liver_lies_on_the_patients_right_however_the_volume_is_stored(
    flip: tuple[float, float, float],
) -> None:
    """Reversed arrays under reversed axes are the same patient."""
    hu, body = torso(), BODY
    axes = tuple(axis for axis, sign in zip((2, 1, 0), flip, strict=True) if sign < 0)
    stored = [
        image(np.flip(x, axes).copy(), (flip[0], 0, 0, 0, flip[1], 0, 0, 0, flip[2]))
        for x in (hu, body.astype(np.uint8))
    ]
    for each in stored:
        ends = [(n - 1) * s for n, s in zip(each.GetSize(), SPACING_MM, strict=True)]
        each.SetOrigin([end if sign < 0 else 0.0 for end, sign in zip(ends, flip, strict=True)])
    plain = study(hu, uniform())
    assert find_liver(*stored) == pytest.approx(find_liver(plain.ct, plain.body))


def test_liver_threshold_is_percists_of_its_own_uptake() -> None:
    suv = uniform()
    suv[np.broadcast_to(Z < 20, SHAPE) & BODY] = 2.0
    suv[::2] *= 1.1  # a spread
    threshold = percist_threshold(study(torso(), suv))
    assert threshold == pytest.approx(1.5 * 2.1 + 2 * 0.1, abs=0.1)


def test_the_dome_alone_is_enough_and_the_view_ends_the_sphere() -> None:
    """Of a liver that is cut by the lower end of the view, the air below is no part."""
    hu = torso(liver_top=6)
    suv = uniform(2.0)
    assert percist_threshold(study(hu, suv)) == pytest.approx(1.5 * 2.0, abs=0.01)


def test_where_no_liver_is_in_view_a_fixed_suv_stands_in_and_the_table_says_so() -> None:
    limb = np.where(BODY, 50.0, -1024.0).astype(np.float32)
    (row, *_) = readings(limb, uniform())
    assert (row.reference, row.reference_suv) == ("fixed", 4.0)
    (row, *_) = readings(torso(), uniform(2.0))
    assert row.reference == "liver"
    assert row.reference_suv == pytest.approx(3.0, abs=0.01)


def test_muscle_without_lung_above_and_what_is_left_of_the_midline_is_no_liver() -> None:
    mirrored = np.flip(torso(), 2).copy()
    mirrored[:, :, :40][mirrored[:, :, :40] < 0] = 50.0  # no lung on the right at all
    volumes = study(np.where(BODY, mirrored, -1024.0).astype(np.float32), uniform())
    assert find_liver(volumes.ct, volumes.body) is None
    upside_down = study(np.flip(torso(), 0).copy(), uniform())
    assert find_liver(upside_down.ct, upside_down.body) is None


def test_no_lesion_mask_has_a_part_in_any_reading() -> None:
    hu, suv = torso(), hot(uniform(), 5, 4, 3.0)
    volumes = study(hu, suv)
    marked = StudyVolumes(
        volumes.ct, volumes.pet, volumes.body, volumes.body, volumes.transform
    )  # the whole body is a lesion
    found = [read_uptake("s", x, BodyUptake.of(x)) for x in (volumes, marked)]
    assert found[0] == found[1]


def test_a_gradient_of_known_slope_has_that_sharpness() -> None:
    ramp = np.tile(np.arange(32) / 64, (32, 1)).astype(np.float16)
    row = read_picture(slices(1)[0], ramp)
    assert row.grey_gradient == pytest.approx(1 / 64)
    assert row.grey_laplacian == pytest.approx(2 / 32 / 64**2)  # its two edges
    assert (row.grey_mean, row.grey_max) == pytest.approx((31 / 128, 31 / 64))


def test_a_blurred_picture_is_less_sharp_by_both_measures() -> None:
    noise = np.random.default_rng(0).uniform(size=(32, 32))
    sharp = read_picture(slices(1)[0], noise.astype(np.float16))
    soft = read_picture(slices(1)[0], ((noise + np.roll(noise, 1, 1)) / 2).astype(np.float16))
    assert sharp.grey_gradient is not None
    assert soft.grey_gradient is not None
    assert soft.grey_gradient < sharp.grey_gradient
    assert sharp.grey_laplacian is not None
    assert soft.grey_laplacian is not None
    assert soft.grey_laplacian < sharp.grey_laplacian


def test_a_picture_has_no_uptake_and_a_slice_no_sharpness() -> None:
    picture = read_picture(slices(1)[0], np.ones((8, 8), np.float16))
    (petct, *_) = readings(torso(), uniform())
    assert [x is None for x in astuple(picture)[2:6]] == [True] * 4
    assert [x is None for x in astuple(petct)[-4:]] == [True] * 4
