"""Volumes and livers are measured from their voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from petct_uad.core.errors import DatasetError
from petct_uad.core.files import write_json
from petct_uad.core.livers import LIVERS_CSV, LiverPlace, write_livers
from petct_uad.core.volumes import write_volume
from petct_uad.ingest.pseudonyms import PUBLIC
from petct_uad.ingest.tables import StudyRow
from petct_uad.validation.livers import measure_livers
from petct_uad.validation.tables import Folders, VolumeRow
from petct_uad.validation.volumes import measure_volumes
from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.motion.transforms import write_transform
from tests.samples import study_row

SPACING_MM = (4.0, 4.0, 5.0)
ORIGIN_MM = (-80.0, -80.0, -300.0)
LIVER_MM = (-20.0, 0.0, -250.0)
SHIFT_MM = (12.0, 0.0, 0.0)  # from the CT frame to the PET frame


def volume(voxels: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(SPACING_MM)
    image.SetOrigin(ORIGIN_MM)
    return image


def measured(folder: Path, kind: str, voxels: np.ndarray) -> VolumeRow:
    (folder / "s").mkdir(parents=True)
    write_volume(volume(voxels), folder / f"s/{kind}.nii.gz")
    (row,) = measure_volumes(folder, ["absent", "s"], workers=1)
    return row


def body_in_air(air_hu: int) -> np.ndarray:
    """Mostly lung, so that the median of the picture is no air."""
    hu = np.full((8, 40, 40), -850, np.int16)
    hu[:, :4] = air_hu
    hu[:, 20:] = 40
    return hu


def test_air_of_a_ct_is_read_off_its_voxels(tmp_path: Path) -> None:
    row = measured(tmp_path, "ct", body_in_air(-1000))
    assert row.air_hu == -1000
    assert (row.minimum, row.maximum, row.slices) == (-1000, 40, 8)
    assert (row.spacing_x_mm, row.spacing_z_mm) == (4.0, 5.0)


def test_ct_without_its_intercept_has_no_air(tmp_path: Path) -> None:
    assert measured(tmp_path, "ct", body_in_air(-1000) + np.int16(1024)).air_hu == 24


def test_voxel_that_is_nan_is_seen(tmp_path: Path) -> None:
    suv = np.ones((4, 8, 8), np.float32)
    suv[1, 2, 3] = np.nan
    assert not measured(tmp_path, "pet", suv).finite


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """A PET of SUV 0.5 with a liver of SUV 2, where the motion from CT to PET puts it."""
    folders = Folders(tmp_path, "tiny")
    z, y, x = np.meshgrid(*(np.arange(40) for _ in range(3)), indexing="ij")
    at_mm = np.stack([x, y, z], -1) * SPACING_MM + ORIGIN_MM
    inside = np.linalg.norm(at_mm - (np.array(LIVER_MM) + SHIFT_MM), axis=-1) < 25
    pet = folders.interim / "ingest/volumes" / study().study_id / "pet.nii.gz"
    pet.parent.mkdir(parents=True)
    write_volume(volume(np.where(inside, 2.0, 0.5).astype(np.float32)), pet)
    motion = RigidTransform((0.0, 0.0, 0.0), SHIFT_MM, (0.0, 0.0, 0.0))
    write_transform(
        folders.interim / "register/volumes" / study().study_id / "transform.json", motion
    )
    write_json(folders.interim / "ingest/identity.json", {"pseudonyms": "public"})
    tell(folders, LIVER_MM)
    return folders


def study() -> StudyRow:
    patient = PUBLIC.patient("PHANTOM-0001")
    return study_row(study_id=f"{patient}_0", patient=patient, ct_slices=9, pet_slices=9)


def tell(folders: Folders, *livers_mm: tuple[float, float, float]) -> None:
    places = [LiverPlace("PHANTOM-0001", *liver_mm) for liver_mm in livers_mm]
    folders.raw.mkdir(parents=True, exist_ok=True)
    write_livers(folders.raw, places)


def test_liver_is_measured_where_the_motion_puts_it(folders: Folders) -> None:
    (row,) = measure_livers(folders, [study()])
    assert row.suv_mean == pytest.approx(2.0)
    assert row.suv_std == pytest.approx(0.0)


@pytest.mark.parametrize("places", [(), ((-20.0, 0.0, 500.0),)])
def test_liver_that_is_not_in_the_stack_has_no_row(
    folders: Folders, places: tuple[tuple[float, float, float], ...]
) -> None:
    tell(folders, *places)
    assert measure_livers(folders, [study()]) == []


@pytest.mark.parametrize(("beyond_mm", "measured"), [(5.0, False), (-5.0, True)])
def test_liver_of_which_less_than_half_is_in_the_stack_has_no_row(
    folders: Folders, beyond_mm: float, measured: bool
) -> None:
    first_slice_mm = ORIGIN_MM[2]
    tell(folders, (-20.0, 0.0, first_slice_mm - beyond_mm))
    assert bool(measure_livers(folders, [study()])) is measured


def test_no_liver_is_known_under_a_secret_key(folders: Folders) -> None:
    write_json(folders.interim / "ingest/identity.json", {"pseudonyms": "secret"})
    assert measure_livers(folders, [study()]) == []


def test_no_liver_is_guessed_where_nobody_says_where_it_is(folders: Folders) -> None:
    (folders.raw / LIVERS_CSV).unlink()
    assert measure_livers(folders, [study()]) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("patient,x,y,z\nA,1,2,3\n", "columns ['patient', 'x', 'y', 'z']"),
        ("patient,x_mm,y_mm,z_mm\nA,1,2,deep\n", "'deep'"),
        ("patient,x_mm,y_mm,z_mm\nA,1,2\n", "shorter"),
        ("patient,x_mm,y_mm,z_mm\nA,1,2,nan\n", "A,1.0,2.0,nan is no point"),
    ],
)
def test_a_table_of_livers_that_says_no_place_is_refused(
    folders: Folders, text: str, found: str
) -> None:
    (folders.raw / LIVERS_CSV).write_text(text)
    with pytest.raises(DatasetError) as refusal:
        measure_livers(folders, [study()])
    for said in (LIVERS_CSV, found, "patient,x_mm,y_mm,z_mm", "remove it"):
        assert said in str(refusal.value)
