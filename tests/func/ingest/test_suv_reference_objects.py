"""The digital reference objects for SUV conversion (Vacha et al., IBSI, 2026), as whole studies.

Each is a PET series of 20 slices, with one trap in its header. Its manual asks for a lowest, median
and highest SUVbw of 0.20, 1.00 and 4.00 inside the phantom, outside of which is 0. A CT is made
beside each; then `petct validate` must accept the study, and ingest must give these figures.
"""

from __future__ import annotations

import csv
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, generate_uid

from petct_uad.ingest.dicom.pet_header import read_pet_header
from petct_uad.ingest.dicom.suv import suv_conversion
from petct_uad.ingest.found import FoundTables
from petct_uad.ingest.run import ingest_dataset
from tests.func.ingest.conftest import in_clear, ingest_params, save
from tests.petct_validate import enter_project, judged

OBJECTS = (
    Path(os.environ.get("PETCT_DATA", Path(__file__).parents[4] / "shared" / "data")) / "suv_dro"
)
EXPECTED = (0.20, 1.00, 4.00)
TO_TWO_DECIMALS = 0.005
# Object: which rule gives its reference time, and what its row of series.csv says was assumed.
RULES = {
    "DRO_0_0": ("series_time", ""),
    "DRO_1_0": ("series_time", ""),
    "DRO_2_0": ("stored_suv", ""),
    "DRO_2_1": ("stored_suv", ""),
    "DRO_2_2": ("stored_suv", "(0010,0040) is O"),
    "DRO_2_3": ("stored_suv", ""),
    "DRO_2_4": ("vendor_factor", "(7053,1000) has no private creator"),
    "DRO_2_5": ("series_time", "(7053,1009) has no private creator"),
    "DRO_3_0": ("series_time", "(0018,1074) 368.08 is in MBq"),
    "DRO_3_1": ("administration", ""),
    "DRO_3_2": ("back_computed", ""),
    "DRO_3_3": ("ge_scan_time", "(0009,100D) has no private creator"),
    "DRO_3_4": ("frame_times", ""),
    "DRO_4_0": ("series_time", ""),
    "DRO_4_1": ("series_time", ""),
    "DRO_4_2": ("series_time", ""),
    "DRO_5_0": ("series_time", ""),
}
# Its values are cut to 0.01 cm2/ml: it holds 0.05, 0.26 and 1.05 for 0.0528, 0.2640 and 1.0561. No
# factor makes 0.20, 1.00 and 4.00 of them; each lies less than one such step below.
CUT = "DRO_2_3"


@dataclass(frozen=True)
class Study:
    """One object with a CT beside it, and what ingest makes of them."""

    name: str
    raw: Path
    pet: list[Dataset]
    tables: FoundTables
    suv: np.ndarray


@pytest.fixture(scope="module", params=RULES)
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Study:
    name = str(request.param)
    if not OBJECTS.is_dir():
        pytest.skip("PETCT_DATA: no suv_dro")
    folder = tmp_path_factory.mktemp(name)
    raw, out = folder / "raw", folder / "out"
    files = shutil.copytree(OBJECTS / name, raw / "DRO").rglob("*.dcm")
    pet = [pydicom.dcmread(path) for path in sorted(files)]
    for index, dataset in enumerate(pet):
        save(ct_beside(dataset, index), raw / "CT" / f"{index}.dcm")
    out.mkdir()
    tables = in_clear(ingest_dataset(raw, out, ingest_params()))
    (row,) = tables.studies
    suv = sitk.GetArrayFromImage(sitk.ReadImage(out / "volumes" / row.study_id / "pet.nii.gz"))
    return Study(name, raw, pet, tables, suv)


def ct_beside(pet: Dataset, index: int) -> Dataset:
    """A slice of 128x128 pixels over the PET's field: air, a body and a spine."""
    made = Dataset()
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName",
                    "PatientBirthDate", "PatientSex", "ImageOrientationPatient",
                    "ImagePositionPatient", "SliceThickness", "StudyDate",
                    "StudyTime"):  # fmt: skip
        setattr(made, keyword, pet[keyword].value)
    made.SOPClassUID, made.Modality = CTImageStorage, "CT"
    made.SeriesInstanceUID = generate_uid(entropy_srcs=["dro", "ct"])
    made.SOPInstanceUID = generate_uid(entropy_srcs=["dro", "ct", str(index)])
    made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.Rows = made.Columns = 128
    made.PixelSpacing = [8, 8]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, 1
    made.RescaleSlope, made.RescaleIntercept = 1, -1024
    hu = np.full((128, 128), -1000)
    hu[40:88, 30:98] = 40 + index
    hu[80:86, 60:68] = 600
    made.PixelData = (hu + 1024).astype("<i2").tobytes()
    return made


def figures(suv: np.ndarray) -> tuple[float, float, float]:
    """Lowest, median and highest SUV inside the phantom."""
    inside = suv[suv > 0]
    return float(inside.min()), float(np.median(inside)), float(inside.max())


def test_every_object_is_listed() -> None:
    listing = OBJECTS / "DRO_list.csv"
    if not listing.is_file():
        pytest.skip("PETCT_DATA: no suv_dro")
    with listing.open(encoding="utf-8") as stream:
        listed = [row["ID"] for row in csv.DictReader(stream)]
    assert listed == list(RULES)
    assert len(listed) == 17


def test_object_passes_validation(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter_project(tmp_path, monkeypatch)
    done = judged(study.raw)
    assert done.exit_code == 0, done.output
    assert "usable studies: 1, of 1 patients" in done.stdout
    assert ("series.suv_as_told" in done.stdout) == bool(RULES[study.name][1])


def test_object_has_its_suv(study: Study) -> None:
    found = figures(study.suv)
    cut = study.name == CUT
    step = 0.01 * suv_conversion([read_pet_header(study.pet[0], study.name)]).factors[0]
    low, high = (-step, 0.0) if cut else (-TO_TWO_DECIMALS, TO_TWO_DECIMALS)
    assert all(low <= one - true <= high for one, true in zip(found, EXPECTED, strict=True)), found


def test_object_says_what_its_suv_rests_on(study: Study) -> None:
    (pet,) = [row for row in study.tables.series if row.role == "pet"]
    rule, assumed = RULES[study.name]
    assert pet.reference_rule == rule
    assert assumed in pet.suv_assumed
    assert bool(assumed) == bool(pet.suv_assumed)
