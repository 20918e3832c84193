"""Enhanced multi-frame CT and PET give the voxels of the single-frame slices they were made of."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from highdicom.legacy import LegacyConvertedEnhancedCTImage, LegacyConvertedEnhancedPETImage
from pydicom.dataset import Dataset, FileMetaDataset

from tests.func.ingest.conftest import Patient, Run, item

# Decay is corrected to the start of the scan, and to the injection.
START, ADMIN = "PHANTOM-0001", "PHANTOM-0002"
_MOVED = {
    "PixelData", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "SliceThickness", "RescaleSlope", "RescaleIntercept", "RescaleType", "AcquisitionDate",
    "AcquisitionTime", "Units", "DecayCorrection", "CorrectedImage", "ActualFrameDuration",
    "SeriesDate", "SeriesTime",
}  # fmt: skip


def slices(folder: Path) -> list[Dataset]:
    found = [pydicom.dcmread(file) for file in folder.iterdir()]
    return sorted(found, key=lambda slice_: -slice_.ImagePositionPatient[2])


def enhanced(singles: Sequence[Dataset]) -> Dataset:
    """One Enhanced CT or PET with its geometry, rescale and times in functional groups."""
    first = singles[0]
    made = Dataset()
    made.update({e.tag: e for e in first if e.keyword not in _MOVED and not e.tag.is_private})
    pet = first.Modality == "PT"
    made.SOPClassUID = pydicom.uid.UID(
        pydicom.uid.EnhancedPETImageStorage if pet else pydicom.uid.EnhancedCTImageStorage
    )
    made.SOPInstanceUID, made.NumberOfFrames = pydicom.uid.generate_uid(), len(singles)
    orientation = item(ImageOrientationPatient=first.ImageOrientationPatient)
    measures = item(PixelSpacing=first.PixelSpacing, SliceThickness=first.SliceThickness)
    made.SharedFunctionalGroupsSequence = [
        item(PlaneOrientationSequence=[orientation], PixelMeasuresSequence=[measures])
    ]
    made.PerFrameFunctionalGroupsSequence = [frame_groups(single, pet) for single in singles]
    if pet:
        made.DecayCorrected = made.AttenuationCorrected = "YES"
        drug = first.RadiopharmaceuticalInformationSequence[0]
        made.DecayCorrectionDateTime = (
            drug.RadiopharmaceuticalStartDateTime
            if first.DecayCorrection == "ADMIN"
            else first.SeriesDate + first.SeriesTime
        )
    made.PixelData = b"".join(single.PixelData for single in singles)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    return made


def frame_groups(single: Dataset, pet: bool) -> Dataset:
    groups = item(
        PlanePositionSequence=[item(ImagePositionPatient=single.ImagePositionPatient)],
        FrameContentSequence=[
            item(FrameAcquisitionDateTime=single.AcquisitionDate + single.AcquisitionTime)
        ],
    )
    slope, intercept = float(single.RescaleSlope), float(single.RescaleIntercept)
    if pet:
        code = item(CodeValue="Bq/ml", CodingSchemeDesignator="UCUM", CodeMeaning="Bq/ml")
        groups.RealWorldValueMappingSequence = [
            item(
                RealWorldValueSlope=slope,
                RealWorldValueIntercept=intercept,
                MeasurementUnitsCodeSequence=[code],
            )
        ]
        # What the viewer's rescale says is not what the units are of.
        slope, intercept = 1.0, 0.0
    groups.PixelValueTransformationSequence = [
        item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="US" if pet else "HU")
    ]
    return groups


def legacy(singles: Sequence[Dataset]) -> Dataset:
    pet = singles[0].Modality == "PT"
    convert = LegacyConvertedEnhancedPETImage if pet else LegacyConvertedEnhancedCTImage
    return convert(
        legacy_datasets=singles,
        series_instance_uid=pydicom.uid.generate_uid(),
        series_number=9,
        sop_instance_uid=pydicom.uid.generate_uid(),
        instance_number=1,
    )


def write(dataset: Dataset, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(file, enforce_file_format=True)


def images(done: Run) -> dict[str, sitk.Image]:
    folder = next((done.out / "volumes").iterdir())
    return {name: sitk.ReadImage(folder / f"{name}.nii.gz") for name in ("ct", "pet")}


def assert_equal(one: dict[str, sitk.Image], other: dict[str, sitk.Image]) -> None:
    for name in ("ct", "pet"):
        for tell in ("GetOrigin", "GetSpacing", "GetDirection"):
            assert np.allclose(getattr(one[name], tell)(), getattr(other[name], tell)(), atol=1e-5)
        arrays = [sitk.GetArrayFromImage(image[name]) for image in (one, other)]
        assert np.array_equal(*arrays), name


@pytest.fixture
def studies(phantom_raw: Path) -> Callable[[str], tuple[list[Dataset], list[Dataset]]]:
    return lambda name: (slices(phantom_raw / name / "CT"), slices(phantom_raw / name / "PET"))


@pytest.mark.parametrize("way", [(enhanced, START), (enhanced, ADMIN), (legacy, START)])
def test_multiframe_is_the_single_frame_volume(
    way: tuple[Any, Any],
    phantom_raw: Path,
    run: Callable[..., Run],
    raw: Path,
    studies: Callable[[str], tuple[list[Dataset], list[Dataset]]],
) -> None:
    convert, name = way
    for series in ("CT", "PET"):
        shutil.copytree(phantom_raw / name / series, raw / "single" / series)
    single = run()
    shutil.rmtree(raw / "single")
    for number, singles in enumerate(studies(name)):
        write(convert(singles), raw / "multi" / f"{number}.dcm")
    multi = run()
    assert_equal(images(single), images(multi))
    assert not multi.tables.rejected
    assert [(row.role, row.slice_index) for row in multi.tables.instances] == [
        ("ct", None),
        ("pet", None),
    ]


def test_two_stacks_in_one_file_are_separated(
    run: Callable[..., Run],
    raw: Path,
    studies: Callable[[str], tuple[list[Dataset], list[Dataset]]],
) -> None:
    ct, pet = studies(START)
    both = enhanced([*ct, *ct[:3]])
    for group in both.PerFrameFunctionalGroupsSequence[-3:]:
        group.CTImageFrameTypeSequence = [item(FrameType=["ORIGINAL", "PRIMARY", "LOCALIZER"])]
    write(both, raw / "ct.dcm")
    write(enhanced(pet), raw / "pet.dcm")
    done = run()
    rows = [row for row in done.tables.series if row.modality == "CT"]
    assert [(row.stack, row.instances, row.role) for row in rows] == [
        (1, 1, "ct"),
        (2, 1, "unused"),
    ]
    assert done.tables.studies[0].ct_slices == len(ct)
    assert [row.role for row in done.tables.instances] == ["ct", "pet"]


def test_frames_are_in_the_character_set_of_their_file(
    run: Callable[..., Run],
    raw: Path,
    studies: Callable[[str], tuple[list[Dataset], list[Dataset]]],
) -> None:
    for number, singles in enumerate(studies(START)):
        whole = enhanced(singles)
        whole.SpecificCharacterSet = "ISO_IR 192"
        whole.PatientID = "Žižková-7"
        write(whole, raw / f"{number}.dcm")
    done = run()
    assert [row.patient for row in done.tables.studies] == ["Žižková-7"]
    assert not done.tables.rejected


# What weighs 70 kg at 1.75 m, a man, counts instead (g, cm2).
@pytest.mark.parametrize(
    ("code", "size"),
    [
        ("{SUVbw}g/ml", 70_000.0),
        ("{SUVlbm}g/ml", 1000 * (1.10 * 70 - 120 * 0.4**2)),
        ("{SUVlbm(James128)}g/ml", 1000 * (1.10 * 70 - 128 * 0.4**2)),
        ("{SUVlbm(Janma)}g/ml", 1000 * 9270 * 70 / (6680 + 216 * 70 / 1.75**2)),
        ("{SUVibw}g/ml", 1000 * (48.0 + 1.06 * (175 - 152))),
        ("{SUVbsa}cm2/ml", 71.84 * 70**0.425 * 175**0.725),
    ],
)
def test_enhanced_pet_of_any_kind_of_suv_becomes_body_weight(
    code: str,
    size: float,
    run: Callable[..., Run],
    raw: Path,
    studies: Callable[[str], tuple[list[Dataset], list[Dataset]]],
) -> None:
    ct, pet = studies(START)
    dataset = enhanced(pet)
    dataset.PatientWeight, dataset.PatientSize, dataset.PatientSex = "70", "1.75", "M"
    for group in dataset.PerFrameFunctionalGroupsSequence:
        mapping = group.RealWorldValueMappingSequence[0]
        mapping.MeasurementUnitsCodeSequence[0].CodeValue = code
    write(dataset, raw / "pet.dcm")
    for index, single in enumerate(ct):
        single.PatientSex = "M"
        single.save_as(raw / f"{index}.dcm")
    done = run()
    top = max(float(one.RescaleSlope) * float(one.pixel_array.max()) for one in pet)
    found = float(sitk.GetArrayFromImage(images(done)["pet"]).max())
    assert found == pytest.approx(top * 70_000 / size, rel=1e-5)


def drop(keyword: str) -> Callable[[Dataset], None]:
    return lambda dataset: delattr(dataset, keyword)


def per_frame(edit: Callable[[Dataset], None]) -> Callable[[Dataset], None]:
    def on_each(dataset: Dataset) -> None:
        for group in dataset.PerFrameFunctionalGroupsSequence:
            edit(group)

    return on_each


def unknown_units(group: Dataset) -> None:
    mapping = group.RealWorldValueMappingSequence[0]
    mapping.MeasurementUnitsCodeSequence[0].CodeValue = "{counts}"


def a_table_of_values(group: Dataset) -> None:
    mapping = group.RealWorldValueMappingSequence[0]
    del mapping.RealWorldValueSlope
    del mapping.RealWorldValueIntercept
    mapping.RealWorldValueLUTData = [0.5 * value for value in range(16)]


@pytest.mark.parametrize(
    "broken",
    [
        (drop("DecayCorrected"), "units", "(0018,9758)"),
        (drop("DecayCorrectionDateTime"), "units", "(0018,9701)"),
        (drop("AttenuationCorrected"), "units", "(0018,9759)"),
        (lambda d: setattr(d, "AttenuationCorrected", "NO"), "units", "(0028,0051)"),
        (drop("PatientWeight"), "units", "(0010,1030)"),
        (drop("RadiopharmaceuticalInformationSequence"), "units", "(0018,1074)"),
        (per_frame(drop("RealWorldValueMappingSequence")), "units", "(0040,08EA)"),
        (per_frame(unknown_units), "units", "{counts}"),
        (per_frame(a_table_of_values), "units", "(0040,9212)"),
        (per_frame(drop("PlanePositionSequence")), "geometry", "(0020,0032)"),
        (drop("SharedFunctionalGroupsSequence"), "geometry", "(0028,0030)"),
        (drop("PerFrameFunctionalGroupsSequence"), "pixels", "(5200,9230)"),
        (lambda d: setattr(d, "NumberOfFrames", 7), "pixels", "(0028,0008)"),
        (lambda d: setattr(d, "PixelData", d.PixelData[:-2000]), "pixels", ""),
    ],
)
def test_an_enhanced_pet_that_lacks_a_tag_is_refused_by_it(
    broken: tuple[Any, str, str],
    patient: Callable[..., Patient],
    run: Callable[..., Run],
    raw: Path,
    studies: Callable[[str], tuple[list[Dataset], list[Dataset]]],
) -> None:
    edit, code, tag = broken
    patient("good").both()
    ct, pet = studies(START)
    write(enhanced(ct), raw / "ct.dcm")
    dataset = enhanced(pet)
    edit(dataset)
    write(dataset, raw / "pet.dcm")
    done = run()
    assert len(done.tables.studies) == 1
    refused = [row for row in done.tables.rejected if row.subject == "pet.dcm"]
    assert [row.code for row in refused] == [code]
    assert tag in refused[0].found
