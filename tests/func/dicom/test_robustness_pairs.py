"""Robustness, pair and label level: whose images these are, and what was drawn on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset

from petct_uad.params import load_params
from petct_uad.slices.labels import assign_patients
from tests.func.dicom.hostile import (
    ROOT,
    SLICES,
    Arrange,
    Outcome,
    a_study,
    and_then,
    as_before,
    case,
    clean,
    ct,
    ingest,
    noted,
    nothing,
    pet,
    refused_study,
    run_case,
    save_as,
    sets,
    slice_file,
    write_good,
)


def far_away(dataset: Dataset, _index: int) -> None:
    dataset.ImagePositionPatient[2] += 1000.0


def narrow(dataset: Dataset, _index: int) -> None:
    """A CT of half the PET's field of view, around the same centre."""
    dataset.PixelSpacing = [2, 2]
    dataset.ImagePositionPatient[:2] = [-23.0, -23.0]


def same_voxels(done: Outcome, baseline: Outcome) -> None:
    for name in ("ct", "pet"):
        assert np.array_equal(done.array(name), baseline.array(name))
    assert done.image("ct").GetSpacing() == (2, 2, 4)


def another(patient: str, **values: object) -> Arrange:
    """One more study."""
    return lambda folder: a_study(sets(**values), sets(**values), patient)(folder / "more")


def in_another_study(folder: Path) -> None:
    """Q7 again, in another study, and born on another day."""
    a_study(patient="Q8")(folder / "more")
    for path in sorted((folder / "more").rglob("*.dcm")):
        save_as(pydicom.dcmread(path), path, PatientID="Q7", PatientBirthDate="19600101")


def copied_under(patient: str) -> Arrange:
    """Every file again under another PatientID and with new UIDs, by a careless export."""

    def copy(folder: Path) -> None:
        for path in sorted(folder.rglob("*.dcm")):
            dataset = pydicom.dcmread(path)
            for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID",
                         "FrameOfReferenceUID"):  # fmt: skip
                made = uid.generate_uid(entropy_srcs=[patient, dataset[name].value])
                setattr(dataset, name, made)
            target = folder / "copy" / path.parent.name / path.name
            save_as(dataset, target, PatientID=patient)

    return copy


def frame_of(folder: Path) -> str:
    return str(pydicom.dcmread(slice_file(folder, "CT", 0)).FrameOfReferenceUID)


def gone(role: str) -> Arrange:
    return and_then(
        a_study(), lambda folder: [slice_file(folder, role, i).unlink() for i in range(SLICES)]
    )


PAIRS = {
    "different FrameOfReferenceUID": case(
        pet(sets(FrameOfReferenceUID="1.2.3")), as_before, noted("Frame of Reference"), clean
    ),
    "different FrameOfReferenceUID: missing": case(
        pet(sets(FrameOfReferenceUID=None)), as_before, noted("Frame of Reference"), clean
    ),
    "no overlap": case(
        pet(far_away), refused_study("pairing", "does not overlap the PET"), nothing
    ),
    "CT field of view smaller than PET": case(ct(narrow), same_voxels, clean),
    "no PET partner": case(gone("PET"), refused_study("pairing", "no usable PET"), nothing),
    "no PET partner: no CT": case(
        gone("CT"), refused_study("pairing", "no usable CT"), nothing
    ),
    "PET and CT of two patients under one ID": case(
        pet(sets(PatientBirthDate="19600101")), refused_study("identity", "birth date"), nothing
    ),
    "PET and CT of two patients under one ID: of two sexes": case(
        pet(sets(PatientSex="M")), refused_study("identity", "sex"), nothing
    ),
    "PET and CT of two patients under one ID: in two studies": case(
        and_then(a_study(), in_another_study), refused_study("identity", "birth date"), nothing
    ),
    "one patient under two IDs: in one study": case(
        pet(sets(PatientID="Q8")), refused_study("identity", "PatientID (0010,0020)"), nothing
    ),
    "one patient under two IDs: by the frame of reference": case(
        and_then(a_study(), lambda folder: another("Q8", FrameOfReferenceUID=frame_of(folder))(
            folder)),
        refused_study("identity", "Frame of Reference UID (0020,0052)"), nothing,
    ),
    "one patient under two IDs: the same images with new UIDs": case(
        and_then(a_study(), copied_under("Q8")),
        refused_study("identity", "every voxel", "PatientID (0010,0020)"), nothing,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_pair(name: str, tmp_path: Path) -> None:
    run_case(PAIRS[name], tmp_path)


def test_study_withdrawn_after_the_split(tmp_path: Path) -> None:
    """The rest keeps its bytes and is split anew; nothing of the withdrawn study is left."""
    for number in range(8):
        another(f"Q{'x' * number}")(tmp_path / "raw" / f"s{number}")
    write_good(tmp_path / "raw")
    before = ingest(tmp_path / "raw", tmp_path / "before")
    for file in (tmp_path / "raw" / "s3").rglob("*.dcm"):
        file.unlink()
    after = ingest(tmp_path / "raw", tmp_path / "after")
    left = {row.study_id for row in after.tables.studies}
    assert len(left) == len(before.tables.studies) - 1
    assert {path.name for path in (after.out / "volumes").iterdir()} == left
    assert not after.tables.rejected
    assert after.volume_bytes("good") == before.volume_bytes("good")
    sides = assign_patients(after.tables.studies, load_params(ROOT / "params.yaml").split)
    assert set(sides) == {row.patient for row in after.tables.studies}
    assert set(sides.values()) == {"train", "val", "test"}
