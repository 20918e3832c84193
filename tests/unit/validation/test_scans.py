"""PET, CT and label beside each other: what is measured of a study that is known."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from petct_uad.core.volumes import write_volume
from petct_uad.validation.scans import MeasuredScans, measure_scans
from petct_uad.validation.tables import LesionRow, ScanRow

# A body of SUV 1, 160 mm wide, in air; 24 slices of 40 x 40 voxels, 6 x 6 x 5 mm.
SHAPE = (24, 40, 40)
SPACING_MM = (6.0, 6.0, 5.0)
BODY = (slice(None), slice(7, 33), slice(7, 33))
LESION = (slice(10, 14), slice(18, 22), slice(18, 21))  # 4 slices, 24 mm by 18 mm
LESION_ML = 4 * 4 * 3 * 0.18


@dataclass
class Study:
    """Voxels to be changed by a test; ``pet_at_slice`` is where the PET begins on the CT."""

    suv: NDArray[np.float32] = field(default_factory=lambda: np.zeros(SHAPE, np.float32))
    label: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(SHAPE, np.uint8))
    pet_at_slice: float = 0.0

    def measured(self, folder: Path) -> MeasuredScans:
        hu = np.full(SHAPE, -1000, np.int16)
        hu[BODY] = 40
        (folder / "s").mkdir(parents=True, exist_ok=True)
        for kind, voxels, first in (
            ("ct", hu, 0.0),
            ("pet", self.suv, self.pet_at_slice),
            ("label", self.label, 0.0),
        ):
            write_volume(image(voxels, first), folder / f"s/{kind}.nii.gz")
        return measure_scans(folder, ["absent", "s"], workers=1)

    def scan(self, folder: Path) -> ScanRow:
        (row,) = self.measured(folder).scans
        return row

    def lesion(self, folder: Path) -> LesionRow:
        (row,) = self.measured(folder).lesions
        return row


def image(voxels: NDArray[np.generic], first_slice: float) -> sitk.Image:
    made = sitk.GetImageFromArray(voxels)
    made.SetSpacing(SPACING_MM)
    made.SetOrigin((-120.0, -120.0, -300.0 + first_slice * SPACING_MM[2]))
    return made


@pytest.fixture
def study() -> Study:
    """A body of SUV 1 with a lesion of SUV 8, labelled as it lies."""
    sound = Study()
    sound.suv[BODY] = 1.0
    sound.suv[LESION] = 8.0
    sound.label[LESION] = 1
    return sound


def test_body_is_measured_where_the_ct_has_it(study: Study, tmp_path: Path) -> None:
    row = study.scan(tmp_path)
    assert row.body_suv_mean == pytest.approx(1.0)  # what is labelled is no part of it
    assert row.body_ml == pytest.approx(24 * 26 * 26 * 0.18 - LESION_ML)
    assert (row.pet_in_ct, row.ct_in_pet, row.label_gaps) == (1.0, 1.0, 0)


def test_scale_that_is_wrong_shows_in_the_body(study: Study, tmp_path: Path) -> None:
    right = study.scan(tmp_path).body_suv_mean
    study.suv *= 25.1
    assert study.scan(tmp_path).body_suv_mean == pytest.approx(25.1 * right)


def test_lesion_is_measured_against_the_body_around_it(study: Study, tmp_path: Path) -> None:
    row = study.lesion(tmp_path)
    assert row.volume_ml == pytest.approx(LESION_ML)
    assert row.length_mm == pytest.approx(24.0)
    assert (row.suv_max, row.suv_mean, row.background_suv) == pytest.approx((8.0, 8.0, 1.0))
    assert (row.in_pet, row.at_the_end) == (1.0, False)


def test_label_beside_its_lesion_has_no_more_uptake_than_around(
    study: Study, tmp_path: Path
) -> None:
    study.label = np.roll(study.label, 5, axis=2)
    row = study.lesion(tmp_path)
    assert row.suv_mean == pytest.approx(row.background_suv)


def test_another_lesion_is_no_background(study: Study, tmp_path: Path) -> None:
    near = (slice(10, 14), slice(18, 22), slice(22, 24))  # 6 mm beside it
    study.suv[near] = 40.0
    study.label[near] = 1
    largest, smaller = study.measured(tmp_path).lesions
    assert (largest.lesion, smaller.lesion) == (1, 2)
    assert largest.volume_ml > smaller.volume_ml
    assert (largest.background_suv, smaller.background_suv) == pytest.approx((1.0, 1.0))


def test_ct_of_another_region_covers_little_of_the_pet(study: Study, tmp_path: Path) -> None:
    row = replace(study, pet_at_slice=18.0).scan(tmp_path)
    assert (row.pet_in_ct, row.ct_in_pet) == pytest.approx((6 / 24, 6 / 24))


def test_part_of_a_lesion_outside_the_pet_is_told(study: Study, tmp_path: Path) -> None:
    row = replace(study, pet_at_slice=12.0).lesion(tmp_path)
    assert row.in_pet == pytest.approx(0.5)


def test_lesion_wholly_outside_the_pet_has_no_uptake_and_no_background(
    study: Study, tmp_path: Path
) -> None:
    row = replace(study, pet_at_slice=20.0).lesion(tmp_path)
    assert (row.in_pet, row.suv_max, row.suv_mean, row.background_suv) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("slices", [slice(0, 3), slice(21, 24)], ids=["first", "last"])
def test_lesion_at_the_end_of_the_scan_may_go_on(
    slices: slice, study: Study, tmp_path: Path
) -> None:
    study.label[:] = 0
    study.label[slices, 18:22, 18:22] = 1
    assert study.lesion(tmp_path).at_the_end


def test_label_on_every_second_slice_has_gaps(study: Study, tmp_path: Path) -> None:
    study.label[11:14:2] = 0
    assert study.scan(tmp_path).label_gaps == 1


def test_two_lesions_apart_are_no_gap(study: Study, tmp_path: Path) -> None:
    study.label[16:18, 8:12, 8:12] = 1  # elsewhere in the plane, two slices on
    study.label[22:24, 18:22, 18:21] = 1  # in the same place, eight slices on
    assert study.scan(tmp_path).label_gaps == 0


def test_study_without_label_has_no_lesions(study: Study, tmp_path: Path) -> None:
    study.label[:] = 0
    assert study.measured(tmp_path).lesions == ()
