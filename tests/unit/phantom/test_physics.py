"""Conventions of the phantom's geometry."""

import numpy as np
import pytest

from petct_uad.phantom.design import plan_cohort
from petct_uad.phantom.lesions import body_fraction, host_mask, lesion_box
from petct_uad.phantom.params import PhantomParams
from petct_uad.phantom.patient import Patient, draw_patient
from petct_uad.phantom.physics import make_ct, to_sitk
from petct_uad.phantom.tissue import Tissue
from petct_uad.phantom.truth import RigidTruth

PARAMS = PhantomParams(
    patients=4, seed=3, extent_mm=100.0, ct_matrix=64, max_shift_mm=8.0, max_rotation_deg=2.0
)


@pytest.fixture(scope="module")
def patient() -> Patient:
    return draw_patient(PARAMS, next(plan for plan in plan_cohort(PARAMS) if plan.lesions))


def test_displacement_maps_ct_points_to_pet_points() -> None:
    truth = RigidTruth(
        centre_mm=(10.0, 20.0, 30.0), rotation_deg=(0.0, 0.0, 90.0), translation_mm=(1.0, 2.0, 3.0)
    )
    moved = to_sitk(truth).TransformPoint((11.0, 20.0, 30.0))
    np.testing.assert_allclose(moved, (11.0, 23.0, 33.0), atol=1e-9)


def test_displacement_stays_within_what_was_asked(patient: Patient) -> None:
    assert max(map(abs, patient.displacement.translation_mm)) <= PARAMS.max_shift_mm
    assert max(map(abs, patient.displacement.rotation_deg)) <= PARAMS.max_rotation_deg


def test_a_thorax_has_every_organ(patient: Patient) -> None:
    expected = {
        Tissue.LUNG, Tissue.LIVER, Tissue.MYOCARDIUM, Tissue.BLOOD, Tissue.MARROW, Tissue.CORTEX,
        Tissue.FAT, Tissue.MUSCLE, Tissue.AIRWAY, Tissue.COUCH_FOAM,
    }  # fmt: skip
    assert expected <= {Tissue(value) for value in np.unique(patient.labels)}


def test_lesion_mask_has_the_volume_of_the_lesion(patient: Patient) -> None:
    image = make_ct(PARAMS, patient)
    grid = patient.grid
    for lesion, mask in zip(patient.lesions, image.lesion_masks, strict=True):
        box = lesion_box(lesion, grid)
        filled = body_fraction(lesion, grid, box) * host_mask(lesion, patient.labels[box])
        expected = filled.sum() * np.prod(grid.spacing)
        assert mask.sum() * np.prod(image.volume.spacing_mm) == pytest.approx(expected, rel=0.2)


def test_every_lesion_lies_on_the_ct_near_its_centre(patient: Patient) -> None:
    image = make_ct(PARAMS, patient)
    assert image.volume.voxels.min() >= -1024
    for lesion, mask in zip(patient.lesions, image.lesion_masks, strict=True):
        x, y, z = (
            o + s * np.mean(index)
            for o, s, index in zip(
                image.volume.origin_mm, image.volume.spacing_mm, np.nonzero(mask)[::-1], strict=True
            )
        )
        assert np.linalg.norm(np.subtract((x, y, z), patient.to_ct_frame(lesion.centre))) < 15.0
