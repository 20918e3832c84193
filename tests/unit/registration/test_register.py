"""What the register stage writes of a study fits the transform that it writes beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import SimpleITK as sitk

from petct_uad.core.files import read_table, write_table
from petct_uad.core.volumes import write_volume
from petct_uad.ingest.tables import StudyRow
from petct_uad.registration.grid import covered_slices
from petct_uad.registration.register import RegisterPaths, register_studies
from petct_uad.registration.tables import RegistrationRow
from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.motion.transforms import read_transform
from tests.samples import register_section, study_row

Pair = tuple[sitk.Image, sitk.Image]
PATHS = RegisterPaths(Path("ingest"), Path("register"), Path("pictures"), Path("metrics.json"))
STUDY = study_row(study_id="P_1", patient="P", ct_slices=28, pet_slices=43)


@pytest.mark.slow
def test_slices_that_the_moved_pet_misses_go(
    make_pair: Callable[[RigidTransform], Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PET that reaches over the CT's ends where it was scanned, and tilts away from them."""
    monkeypatch.chdir(tmp_path)
    ct, whole = make_pair(RigidTransform((4.0, 0.0, 0.0), (6.0, 0.0, 0.0)))
    pet = whole[:, :, 5:48]
    source = PATHS.ingest / "volumes/P_1"
    source.mkdir(parents=True)
    write_volume(ct, source / "ct.nii.gz")
    write_volume(pet, source / "pet.nii.gz")
    write_table(Path("ingest/studies.csv"), StudyRow, [STUDY])
    register_studies(PATHS, register_section())
    (row,) = read_table(Path("register/registration.csv"), RegistrationRow)
    body = sitk.ReadImage("register/volumes/P_1/body.nii.gz")
    moved = read_transform(Path("register/volumes/P_1/transform.json"))
    assert row.accepted, row.reason
    assert covered_slices(body, pet, moved).count == body.GetSize()[2] == row.slices
    assert 0 < row.slices_cut == ct.GetSize()[2] - row.slices
