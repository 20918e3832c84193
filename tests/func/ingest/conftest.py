"""Small hand-made DICOM studies, each with one thing wrong where a test wants it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes

from petct_uad.ingest.found import FoundTables
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.reader import Reading
from petct_uad.ingest.run import ingest_dataset
from petct_uad.phantom.cohort import make_cohort
from petct_uad.phantom.params import PhantomParams

Edit = Callable[[Dataset, int], None]

_SOP_CLASS = {
    "CT": pydicom.uid.CTImageStorage,
    "PT": pydicom.uid.PositronEmissionTomographyImageStorage,
    "RTSTRUCT": pydicom.uid.RTStructureSetStorage,
}


def item(**values: object) -> Dataset:
    """A data set of these elements, by keyword."""
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def no_edit(_dataset: Dataset, _index: int) -> None:
    """Leave the slice as it is."""


def save(dataset: Dataset, path: Path, syntax: str = pydicom.uid.ExplicitVRLittleEndian) -> None:
    """Write a dataset with its file meta information."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta = meta
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def draw_roi(
    dataset: Dataset, contours_mm: Iterable[np.ndarray], series_uid: str, name: str
) -> None:
    """Make the data set's structure set (PS3.3 A.19) one ROI, (n, 3) each, drawn on a series."""
    frame = dataset.FrameOfReferenceUID
    dataset.StructureSetROISequence = [
        item(ROINumber=1, ROIName=name, ReferencedFrameOfReferenceUID=frame)
    ]
    study = item(RTReferencedSeriesSequence=[item(SeriesInstanceUID=series_uid)])
    dataset.ReferencedFrameOfReferenceSequence = [
        item(FrameOfReferenceUID=frame, RTReferencedStudySequence=[study])
    ]
    drawn = [
        item(
            ContourGeometricType="CLOSED_PLANAR",
            NumberOfContourPoints=len(points),
            ContourData=[f"{value:.4f}" for value in points.ravel()],
        )
        for points in contours_mm
    ]
    dataset.ROIContourSequence = [item(ReferencedROINumber=1, ContourSequence=drawn)]


@dataclass
class Patient:
    """One study under ``root/patient``; CT 12 slices of 24x24 at 4 mm, PET of 12x12 at 8 mm."""

    root: Path
    patient: str = "P1"
    slices: int = 12
    study: str = ""
    frame: str = ""
    datasets: dict[str, list[Dataset]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.study = self.study or self.uid("study")
        self.frame = self.frame or self.uid("frame")

    def uid(self, name: str) -> str:
        return str(pydicom.uid.generate_uid(entropy_srcs=[self.patient, name]))

    def ct(self, folder: str = "CT", edit: Edit = no_edit) -> list[Dataset]:
        return self._write(folder, edit, lambda index: self._image("CT", folder, 24, 4.0, index))

    def pet(self, folder: str = "PET", edit: Edit = no_edit) -> list[Dataset]:
        return self._write(folder, edit, lambda index: self._pet(folder, index))

    def both(self) -> Patient:
        self.ct()
        self.pet()
        return self

    def rtstruct(
        self, contours_mm: list[np.ndarray], on: str = "CT", name: str = "GTV", edit: Edit = no_edit
    ) -> Dataset:
        dataset = self._common("RTSTRUCT", f"RS-{on}-{name}", 0)
        draw_roi(dataset, contours_mm, self.uid(on), name)
        edit(dataset, 0)
        save(dataset, self.root / self.patient / f"RS-{on}-{name}.dcm")
        return dataset

    def seg(
        self,
        mask: np.ndarray,
        *labels: str,
        on: str = "CT",
        kind: str = "BINARY",
        name: str = "SEG",
        edit: Edit = no_edit,
        **more: Any,
    ) -> None:
        """A SEG on the slices of a series, in the order in which they were written.

        Its mask is (z, y, x), or (z, y, x, segments) where there is more than one label.
        """
        segments = [
            highdicom.seg.SegmentDescription(
                segment_number=number,
                segment_label=label,
                segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
                segmented_property_type=codes.SCT.Neoplasm,
                algorithm_type="MANUAL",
            )
            for number, label in enumerate(labels or ("adenocarcinoma",), start=1)
        ]
        segmentation = highdicom.seg.Segmentation(
            source_images=self.datasets[on],
            pixel_array=mask.astype(np.uint8),
            segmentation_type=kind,
            segment_descriptions=segments,
            series_instance_uid=self.uid(name),
            series_number=9,
            sop_instance_uid=self.uid(f"{name}-1"),
            instance_number=1,
            manufacturer="test",
            manufacturer_model_name="test",
            software_versions="1",
            device_serial_number="1",
            **more,
        )
        edit(segmentation, 0)
        segmentation.save_as(self.root / self.patient / f"{name.lower()}.dcm")

    def write_big_endian(self, folder: str) -> None:
        """Write a series again in the retired big-endian transfer syntax."""
        for index, dataset in enumerate(self.datasets[folder]):
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
            dataset["PixelData"].VR = "OW"
            file = self.root / self.patient / folder / f"{99 - index}.dcm"
            save(dataset, file, pydicom.uid.ExplicitVRBigEndian)

    def _write(self, folder: str, edit: Edit, make: Callable[[int], Dataset]) -> list[Dataset]:
        made = []
        for index in range(self.slices):
            dataset = make(index)
            edit(dataset, index)
            # File names run against the positions: neither they nor InstanceNumber may matter.
            save(dataset, self.root / self.patient / folder / f"{99 - index}.dcm")
            made.append(dataset)
        self.datasets[folder] = made
        return made

    def _common(self, modality: str, series: str, index: int) -> Dataset:
        return item(
            SOPClassUID=_SOP_CLASS[modality],
            SOPInstanceUID=self.uid(f"{series}-{index}"),
            SeriesInstanceUID=self.uid(series),
            StudyInstanceUID=self.study,
            FrameOfReferenceUID=self.frame,
            Modality=modality,
            PatientID=self.patient,
            PatientName="Secret^Name",
            PatientIdentityRemoved="YES",
            BurnedInAnnotation="NO",
            PatientBirthDate="19500101",
            PatientSex="F",
            PatientWeight="70",
            StudyID="1",
            StudyDate="20200101",
            StudyTime="090000",
            AccessionNumber="1",
            ReferringPhysicianName="",
            SeriesDate="20200101",
            SeriesTime="100000",
            AcquisitionDate="20200101",
            AcquisitionTime="100000",
            Manufacturer="GE MEDICAL SYSTEMS",
            ManufacturerModelName="Discovery STE",
        )

    def _image(self, modality: str, series: str, matrix: int, mm: float, index: int) -> Dataset:
        dataset = self._common(modality, series, index)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.InstanceNumber = 1000 - index
        dataset.Rows = dataset.Columns = matrix
        dataset.PixelSpacing = [mm, mm]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        corner = -mm * (matrix - 1) / 2
        dataset.ImagePositionPatient = [corner, corner, 4.0 * index]
        dataset.SliceThickness = 4.0
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit = 15
        dataset.PixelRepresentation = 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        pixels = np.arange(matrix * matrix, dtype=np.int16).reshape(matrix, matrix) + index
        pixels[-1, -1] = sum(self.patient.encode())  # no two people have the same image
        dataset.PixelData = pixels.tobytes()
        return dataset

    def _pet(self, series: str, index: int) -> Dataset:
        dataset = self._image("PT", series, 12, 8.0, index)
        dataset.RescaleSlope, dataset.RescaleIntercept = 10 + index, 0
        dataset.CorrectedImage = ["DECY", "ATTN", "SCAT"]
        dataset.Units, dataset.DecayCorrection = "BQML", "ADMIN"
        dataset.RadiopharmaceuticalInformationSequence = [
            item(
                RadionuclideTotalDose="350000000",
                RadionuclideHalfLife="6586.2",
                RadiopharmaceuticalStartTime="090000",
            )
        ]
        return dataset


@dataclass(frozen=True)
class Run:
    """What one ingest wrote, and its tables with the files' own identifiers."""

    out: Path
    tables: FoundTables

    def codes(self) -> list[str]:
        return sorted(row.code for row in self.tables.rejected)


def in_clear(reading: Reading) -> FoundTables:
    """The tables of DICOM files as these have it, which is how the owner's screen shows them."""
    assert isinstance(reading.shown, FoundTables)
    return reading.shown


def ingest_params(**changes: object) -> IngestParams:
    values: dict[str, object] = {
        "labels": "auto",
        "label_roi": ".*",
        "suv": "bw",
        "pseudonyms": "public",
        "on_reject": "report",
        "max_gap_mm": 0.1,
    }
    return IngestParams.model_validate(values | changes)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty git and DVC repository, which is the working directory."""
    root = tmp_path / "repository"
    (root / "data" / "raw").mkdir(parents=True)
    monkeypatch.chdir(root)
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True)
    (root / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    return root


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "raw"


@pytest.fixture
def patient(raw: Path) -> Callable[..., Patient]:
    """Make a patient below the data set's folder."""
    return lambda name="P1", **values: Patient(raw, name, **values)


@pytest.fixture
def run(raw: Path, tmp_path: Path) -> Callable[..., Run]:
    """Ingest the data set into a fresh folder."""

    def ingest(source: Path = raw, workers: int = 1, **changes: object) -> Run:
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        return Run(out, in_clear(ingest_dataset(source, out, ingest_params(**changes), workers)))

    return ingest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development data; absent on most machines."""
    folder = Path(os.environ.get("PETCT_DATA", Path(__file__).parents[4] / "shared" / "data"))
    if not (folder / "sts").is_dir():
        pytest.skip(f"PETCT_DATA: no development data in {folder}")
    return folder


@pytest.fixture(scope="session")
def phantom_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small digital patients as DICOM; read-only."""
    folder = tmp_path_factory.mktemp("phantom")
    asked = {"patients": 4, "seed": 7, "extent_mm": 80.0, "ct_matrix": 64}
    params = PhantomParams.model_validate({**asked, "max_shift_mm": 8.0, "max_rotation_deg": 2.0})
    make_cohort(params, folder / "raw", folder / "truth", workers=1)
    return folder / "raw"
