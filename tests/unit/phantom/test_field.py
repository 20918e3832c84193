"""A cropped field of view shows the same patient, and less of it."""

from __future__ import annotations

import numpy as np
import pytest

from petct_uad.phantom.design import plan_cohort
from petct_uad.phantom.params import PhantomParams
from petct_uad.phantom.patient import Patient, draw_patient
from petct_uad.phantom.physics import Volume, make_ct, make_pet

WHOLE = PhantomParams(
    patients=4, seed=3, extent_mm=80.0, ct_matrix=64, max_shift_mm=0.0, max_rotation_deg=0.0
)
CROPPED = WHOLE.model_copy(update={"crop_mm": 160.0})


@pytest.fixture(scope="module")
def patient() -> Patient:
    affected = next(plan for plan in plan_cohort(WHOLE) if plan.lesions)
    return draw_patient(WHOLE, affected)


def _is_part_of(part: Volume, whole: Volume) -> bool:
    start = (np.array(part.origin_mm) - whole.origin_mm) / whole.spacing_mm
    x, y, z = np.rint(start).astype(int)
    depth, rows, columns = part.voxels.shape
    assert start == pytest.approx([x, y, z], abs=1e-3)
    return np.array_equal(part.voxels, whole.voxels[z : z + depth, y : y + rows, x : x + columns])


def test_what_is_seen_is_what_the_whole_field_shows_there(patient: Patient) -> None:
    assert _is_part_of(make_ct(CROPPED, patient).volume, make_ct(WHOLE, patient).volume)
    assert _is_part_of(make_pet(CROPPED, patient).volume, make_pet(WHOLE, patient).volume)


def test_the_field_is_as_wide_as_asked_around_the_first_lesion(patient: Patient) -> None:
    x_mm, y_mm, _ = patient.to_ct_frame(patient.lesions[0].centre)
    for volume in (make_ct(CROPPED, patient).volume, make_pet(CROPPED, patient).volume):
        pixel_mm = volume.spacing_mm[0]
        _, rows, columns = volume.voxels.shape
        for centre, origin, count in zip(
            (x_mm, y_mm), volume.origin_mm[:2], (columns, rows), strict=True
        ):
            assert count * pixel_mm == pytest.approx(160.0, abs=pixel_mm)
            assert origin + (count - 1) * pixel_mm / 2 == pytest.approx(centre, abs=pixel_mm)


def test_lesions_are_drawn_on_the_part_that_is_seen(patient: Patient) -> None:
    ct = make_ct(CROPPED, patient)
    assert all(mask.shape == ct.volume.voxels.shape for mask in ct.lesion_masks)
    assert ct.lesion_masks[0].sum() == make_ct(WHOLE, patient).lesion_masks[0].sum()


def test_a_healthy_patient_is_seen_at_the_side(patient: Patient) -> None:
    healthy = draw_patient(WHOLE, next(plan for plan in plan_cohort(WHOLE) if not plan.lesions))
    volume = make_ct(CROPPED, healthy).volume
    assert (volume.voxels > -300).any()
    assert max(volume.voxels.shape[1:]) * volume.spacing_mm[0] == pytest.approx(160.0, abs=10.0)


def test_params_say_what_a_field_of_view_may_be() -> None:
    assert WHOLE.crop_mm == 0.0
    with pytest.raises(ValueError, match="crop_mm"):
        PhantomParams(
            patients=4, seed=3, extent_mm=80.0, ct_matrix=64, max_shift_mm=0.0,
            max_rotation_deg=0.0, crop_mm=-1.0,
        )  # fmt: skip
