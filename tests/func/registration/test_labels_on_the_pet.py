"""Lesions that were drawn on a PET which lies beside its CT go where the PET goes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from petct_uad.core.files import read_table
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.run import ingest_dataset
from petct_uad.ingest.tables import StudyRow
from petct_uad.phantom.cohort import make_cohort
from petct_uad.phantom.params import PhantomParams
from petct_uad.phantom.physics import to_sitk
from petct_uad.phantom.truth import read_truth
from petct_uad.registration.register import RegisterPaths, register_studies
from petct_uad.volumes.study import VolumeFolders, read_lesion, read_mask
from tests.samples import register_section

PHANTOM = PhantomParams(
    patients=4, seed=103, extent_mm=140.0, ct_matrix=128, max_shift_mm=12.0, max_rotation_deg=1.0
)
INGEST = IngestParams(
    labels="auto", label_roi=".*", suv="bw", pseudonyms="auto", on_reject="report",
    max_gap_mm=0.1,
)  # fmt: skip
ON_CT, ON_PET = Path("on-ct"), Path("on-pet")


@dataclass(frozen=True)
class Drawn:
    """One study whose lesions were drawn twice: on the CT, and on the PET where that shows them."""

    on_ct: NDArray[np.bool_]
    on_pet: NDArray[np.bool_]  # once the PET is registered
    as_scanned: NDArray[np.bool_]  # as ingest has them


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Drawn]]:
    with chdir(tmp_path_factory.mktemp("labels")):
        make_cohort(PHANTOM, ON_CT / "raw", ON_CT / "truth", workers=1)
        for patient in sorted((ON_CT / "raw").glob("PHANTOM-*")):
            _redraw(patient, ON_PET / "raw" / patient.name)
        for home in (ON_CT, ON_PET):
            (home / "ingest").mkdir()
            ingest_dataset(home / "raw", home / "ingest", INGEST)
        paths = (ON_PET / name for name in ("ingest", "register", "pictures", "metrics.json"))
        register_studies(RegisterPaths(*paths), register_section())
        yield [_study(row) for row in _studies() if row.label_kind == "seg"]


def _studies() -> list[StudyRow]:
    return read_table(ON_PET / "ingest/studies.csv", StudyRow)


def _study(row: StudyRow) -> Drawn:
    folder = VolumeFolders(ON_PET / "ingest/volumes", ON_PET / "register/volumes").study(
        row.study_id
    )
    body = read_mask(folder.body)
    lesion = read_lesion(folder, body)
    assert lesion is not None
    first = body.GetOrigin()[2]
    on_ct = read_mask(ON_CT / "ingest/volumes" / row.study_id / "label.nii.gz")
    z = on_ct.TransformPhysicalPointToIndex((*on_ct.GetOrigin()[:2], first))[2]
    kept = slice(z, z + body.GetSize()[2])
    assert folder.label is not None
    scanned = read_mask(folder.label)
    return Drawn(*(sitk.GetArrayFromImage(mask) > 0
                   for mask in (on_ct[:, :, kept], lesion, scanned[:, :, kept])))  # fmt: skip


def _redraw(patient: Path, to: Path) -> None:
    """The patient's images, and its lesions as a SEG on the PET, where the PET shows them."""
    to.mkdir(parents=True)
    for name in ("CT", "PET"):
        shutil.copytree(patient / name, to / name)
    source = patient / "SEG/SEG.0001.dcm"
    if not source.is_file():
        return
    lesion = _lesions(source)
    pet = sorted(map(dcmread, (patient / "PET").glob("*.dcm")), key=_height)
    truth = read_truth(ON_CT / "truth" / f"{patient.name}.json").displacement
    # A voxel at q of the PET frame shows what lies at T^-1(q) of the CT frame.
    inverse, nearest = to_sitk(truth).GetInverse(), sitk.sitkNearestNeighbor
    moved = sitk.GetArrayFromImage(sitk.Resample(lesion, _grid(pet), inverse, nearest, 0))
    if moved.any():
        _segmentation(pet, moved).save_as(to / "SEG.dcm")


def _lesions(file: Path) -> sitk.Image:
    volume = hd.seg.segread(file).get_volume(combine_segments=False)
    inside = (np.asarray(volume.array) > 0).any(axis=-1)
    image = sitk.GetImageFromArray(inside.astype(np.uint8))
    image.SetOrigin([float(mm) for mm in volume.position])
    image.SetSpacing([float(mm) for mm in reversed(volume.spacing)])
    image.SetDirection(np.asarray(volume.direction)[:, ::-1].ravel().tolist())
    return image


def _height(dataset: Dataset) -> float:
    return float(dataset.ImagePositionPatient[2])


def _grid(pet: list[Dataset]) -> sitk.Image:
    grid = sitk.Image(pet[0].Columns, pet[0].Rows, len(pet), sitk.sitkUInt8)
    grid.SetOrigin([float(mm) for mm in pet[0].ImagePositionPatient])
    row_mm, column_mm = map(float, pet[0].PixelSpacing)
    grid.SetSpacing([column_mm, row_mm, _height(pet[1]) - _height(pet[0])])
    return grid


def _segmentation(pet: list[Dataset], mask: NDArray[np.uint8]) -> hd.seg.Segmentation:
    lesion = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="lesion",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type="MANUAL",
    )
    return hd.seg.Segmentation(
        source_images=pet,
        pixel_array=mask,
        segmentation_type="BINARY",
        segment_descriptions=[lesion],
        series_instance_uid=generate_uid(entropy_srcs=["series", pet[0].PatientID]),
        series_number=9,
        sop_instance_uid=generate_uid(entropy_srcs=["object", pet[0].PatientID]),
        instance_number=1,
        manufacturer="tests",
        manufacturer_model_name="tests",
        software_versions="1",
        device_serial_number="1",
    )


def _dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def test_a_lesion_on_the_pet_lands_on_the_lesion_of_the_ct(drawn: list[Drawn]) -> None:
    """As near as voxels of 4 to 5 mm can say."""
    after = [_dice(study.on_ct, study.on_pet) for study in drawn]
    before = [_dice(study.on_ct, study.as_scanned) for study in drawn]
    assert len(drawn) >= 2
    assert np.mean(after) > 0.7, (before, after)
    assert np.mean(after) > np.mean(before) + 0.2, (before, after)


def test_no_slice_in_the_middle_of_a_lesion_is_left_normal(drawn: list[Drawn]) -> None:
    for study in drawn:
        area = study.on_ct.sum(axis=(1, 2))
        middle = area > 0.5 * area.max()
        assert study.on_pet[middle].any(axis=(1, 2)).all()
