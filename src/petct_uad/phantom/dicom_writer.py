"""Writes a patient's images as CT, PET and Segmentation objects (DICOM PS3.3 A.3, A.21, A.51)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    PositronEmissionTomographyImageStorage,
)

from petct_uad.phantom.identity import Identity, uid
from petct_uad.phantom.patient import Patient
from petct_uad.phantom.physics import CtImage, PetImage, Volume
from petct_uad.phantom.scanners import Scanner

F18_HALF_LIFE_S = 6586.2
_CT_INTERCEPT = -1024


@dataclass(frozen=True)
class PhantomStudy:
    """What every object of a patient shares."""

    patient: Patient
    identity: Identity
    seed: int

    @property
    def scanner(self) -> Scanner:
        """The scanner that made the study."""
        return self.patient.plan.scanner

    def uid(self, *parts: object) -> str:
        """A UID of this study's own."""
        visit = (f"visit {self.patient.visit}",) if self.patient.visit else ()
        return str(uid("petct-uad phantom", self.seed, self.patient.patient_id, *visit, *parts))

    @property
    def region(self) -> str:
        """What is in view, as a console calls it."""
        return "thorax" if self.patient.body is None else "whole body"


def write_ct(study: PhantomStudy, image: CtImage, folder: Path) -> list[Dataset]:
    """Write one file per slice, feet first, and return the data sets."""
    written = []
    for index, plane in enumerate(image.volume.voxels):
        dataset = _image(study, "CT", CTImageStorage, index, image.volume)
        _describe_ct(dataset, study, index, image.volume)
        _set_pixels(dataset, (plane - _CT_INTERCEPT).astype("<i2"))
        _save(dataset, folder / f"CT.{index + 1:04d}.dcm")
        written.append(dataset)
    return written


def write_pet(
    study: PhantomStudy, image: PetImage, folder: Path, *, corrected: bool = True
) -> list[Dataset]:
    """Write one file per slice in Bq/ml, each with its own rescale slope.

    A series that is not ``corrected`` for attenuation says so in Corrected Image (0028,0051).
    """
    written = []
    scale = bq_per_suv(study)
    for index, plane in enumerate(image.volume.voxels):
        dataset = _image(study, "PT", PositronEmissionTomographyImageStorage, index, image.volume)
        _describe_pet(dataset, study, index, image.volume)
        if not corrected:
            _describe_uncorrected(dataset, study, index)
        _set_activity(dataset, plane * scale, study.scanner.pet_signed)
        _save(dataset, folder / f"PT.{index + 1:04d}.dcm")
        written.append(dataset)
    return written


def bq_per_suv(study: PhantomStudy) -> float:
    """Stored Bq/ml at SUVbw 1: dose over weight, decayed to the scan unless corrected to ADMIN."""
    identity = study.identity
    dose = identity.dose_bq
    if study.scanner.decay_correction == "START":
        waited = (identity.pet_start - identity.injection).total_seconds()
        dose *= 0.5 ** (waited / F18_HALF_LIFE_S)
    return float(dose / (study.patient.anatomy.weight_kg * 1000.0))


def _image(
    study: PhantomStudy, modality: str, sop_class: str, index: int, volume: Volume
) -> FileDataset:
    """The modules that CT and PET share: patient, study, series, equipment, frame, plane."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = study.uid(modality, index)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = study.uid(modality, index)
    dataset.StudyInstanceUID = study.uid("study")
    dataset.SeriesInstanceUID = study.uid(modality)
    dataset.FrameOfReferenceUID = study.uid("frame of reference")
    dataset.Modality = modality
    dataset.InstanceNumber = index + 1
    _describe_visit(dataset, study)
    _describe_plane(dataset, index, volume)
    return dataset


def _describe_visit(dataset: Dataset, study: PhantomStudy) -> None:
    identity, anatomy, scanner = study.identity, study.patient.anatomy, study.scanner
    dataset.PatientName = identity.name
    dataset.PatientID = study.patient.patient_id
    # True of an invented person, and what lets ingest take its public pseudonyms (PS3.3 C.7.1.1).
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "invented by petct-uad; no person was scanned"
    dataset.PatientBirthDate = f"{identity.birth_date:%Y%m%d}"
    dataset.PatientSex = anatomy.sex
    dataset.PatientAge = f"{anatomy.age:03d}Y"
    dataset.PatientSize = f"{anatomy.height_m:.2f}"
    dataset.PatientWeight = f"{anatomy.weight_kg:.1f}"
    dataset.StudyDate, dataset.StudyTime = _da_tm(identity.study)
    dataset.StudyID = identity.accession_number[-4:]
    dataset.AccessionNumber = identity.accession_number
    dataset.StudyDescription = f"PET/CT {study.region} FDG"
    dataset.ReferringPhysicianName = identity.referring_physician
    dataset.OperatorsName = identity.operator
    dataset.Manufacturer = scanner.manufacturer
    dataset.ManufacturerModelName = scanner.model_name
    dataset.SoftwareVersions = scanner.software
    dataset.DeviceSerialNumber = scanner.serial
    dataset.InstitutionName = scanner.institution
    dataset.InstitutionAddress = scanner.institution_address
    dataset.StationName = scanner.station
    dataset.BodyPartExamined = "CHEST" if study.patient.body is None else "WHOLEBODY"
    dataset.PositionReferenceIndicator = ""


def _describe_plane(dataset: Dataset, index: int, volume: Volume) -> None:
    x, y, z = volume.origin_mm
    height = z + index * volume.spacing_mm[2]
    dataset.ImagePositionPatient = [_ds(x), _ds(y), _ds(height)]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [_ds(volume.spacing_mm[1]), _ds(volume.spacing_mm[0])]
    dataset.SliceThickness = _ds(volume.spacing_mm[2])
    dataset.SliceLocation = _ds(height)
    dataset.BurnedInAnnotation = "NO"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"


def _describe_ct(dataset: Dataset, study: PhantomStudy, index: int, volume: Volume) -> None:
    """CT Image module, PS3.3 C.8.2.1."""
    dataset.PatientPosition = "HFS"
    begin = study.identity.study
    _stamp(dataset, begin, begin + timedelta(milliseconds=500 * index))
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SeriesNumber = 2
    dataset.SeriesDescription = f"CT AC {study.region} {volume.spacing_mm[2]:.1f}"
    dataset.AcquisitionNumber = 1
    dataset.KVP = "120"
    dataset.XRayTubeCurrent = 80
    dataset.ExposureTime = 500
    dataset.Exposure = 40
    dataset.ScanOptions = "HELICAL MODE"
    dataset.ConvolutionKernel = study.scanner.ct_kernel
    dataset.GantryDetectorTilt = "0"
    dataset.TableHeight = "155"
    dataset.RotationDirection = "CW"
    dataset.DataCollectionDiameter = "500"
    dataset.ReconstructionDiameter = "500"
    dataset.RescaleIntercept = str(_CT_INTERCEPT)
    dataset.RescaleSlope = "1"
    dataset.RescaleType = "HU"
    dataset.WindowCenter = "40"
    dataset.WindowWidth = "400"
    if study.patient.body is not None and study.patient.body.contrast:
        dataset.ContrastBolusAgent = "iodinated, intravenous"
        dataset.ContrastBolusRoute = "IV"


def _describe_pet(dataset: Dataset, study: PhantomStudy, index: int, volume: Volume) -> None:
    """PET Series, Isotope and Image modules, PS3.3 C.8.9.1, C.8.9.2 and C.8.9.4."""
    scanner, begin = study.scanner, study.identity.pet_start
    bed = int(index * volume.spacing_mm[2] // scanner.bed_mm)
    waited = bed * scanner.bed_seconds
    _stamp(dataset, begin, begin + timedelta(seconds=waited))
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.SeriesNumber = 4
    dataset.SeriesDescription = f"PET AC {study.region}"
    dataset.Units = "BQML"
    dataset.CountsSource = "EMISSION"
    dataset.SeriesType = ["WHOLE BODY", "IMAGE"]
    dataset.NumberOfSlices = len(volume.voxels)
    dataset.ImageIndex = index + 1
    dataset.CorrectedImage = list(scanner.corrections)
    dataset.DecayCorrection = scanner.decay_correction
    dataset.DecayFactor = _ds(_decay_factor(study, waited))
    dataset.DoseCalibrationFactor = "1"
    dataset.ScatterFractionFactor = "0.31"
    dataset.RandomsCorrectionMethod = "DLYD"
    dataset.AttenuationCorrectionMethod = "CT-derived mu-map"
    dataset.ScatterCorrectionMethod = "Model-based"
    dataset.ReconstructionMethod = scanner.reconstruction
    dataset.ReconstructionDiameter = _ds(scanner.pet_matrix * scanner.pet_pixel_mm)
    dataset.CollimatorType = "NONE"
    dataset.ActualFrameDuration = scanner.bed_seconds * 1000
    dataset.FrameReferenceTime = _ds(1000.0 * (waited + scanner.bed_seconds / 2))
    dataset.RescaleIntercept = "0"
    dataset.LossyImageCompression = "00"
    dataset.RadiopharmaceuticalInformationSequence = [_fdg(study)]
    # Type 2 in PET, and their items rule out Patient Position (0018,5100): PS3.3 C.7.3.1.1.2.
    dataset.PatientOrientationCodeSequence = [_supine()]
    dataset.PatientGantryRelationshipCodeSequence = [_code("102540001", "SCT", "headfirst")]


def _describe_uncorrected(dataset: Dataset, study: PhantomStudy, index: int) -> None:
    """What sets the second PET of a study apart, its UIDs first."""
    dataset.SeriesInstanceUID = study.uid("NAC")
    dataset.SOPInstanceUID = study.uid("NAC", index)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.SeriesNumber = 5
    dataset.SeriesDescription = f"PET NAC {study.region}"
    dataset.CorrectedImage = [
        name for name in study.scanner.corrections if name not in ("ATTN", "SCAT")
    ]
    del dataset.AttenuationCorrectionMethod, dataset.ScatterCorrectionMethod
    del dataset.ScatterFractionFactor


def _supine() -> Dataset:
    item = _code("102538003", "SCT", "recumbent")
    item.PatientOrientationModifierCodeSequence = [_code("40199007", "SCT", "supine")]
    return item


def _decay_factor(study: PhantomStudy, waited_s: int) -> float:
    """What a slice's counts were multiplied by, to the instant that DecayCorrection names."""
    identity = study.identity
    middle = waited_s + study.scanner.bed_seconds / 2
    if study.scanner.decay_correction == "ADMIN":
        middle += (identity.pet_start - identity.injection).total_seconds()
    return float(2.0 ** (middle / F18_HALF_LIFE_S))


def _fdg(study: PhantomStudy) -> Dataset:
    """Radiopharmaceutical Information Sequence item (0054,0016)."""
    identity = study.identity
    item = Dataset()
    item.Radiopharmaceutical = "Fluorodeoxyglucose F18"
    item.RadiopharmaceuticalStartTime = _da_tm(identity.injection)[1]
    item.RadiopharmaceuticalStartDateTime = "".join(_da_tm(identity.injection))
    item.RadionuclideTotalDose = _ds(identity.dose_bq)
    item.RadionuclideHalfLife = str(F18_HALF_LIFE_S)
    item.RadionuclidePositronFraction = "0.97"
    item.RadionuclideCodeSequence = [_code("C-111A1", "SRT", "^18^Fluorine")]
    item.RadiopharmaceuticalCodeSequence = [_code("C-B1031", "SRT", "Fluorodeoxyglucose F^18^")]
    return item


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _stamp(dataset: Dataset, series: datetime, acquired: datetime) -> None:
    dataset.SeriesDate, dataset.SeriesTime = _da_tm(series)
    dataset.AcquisitionDate, dataset.AcquisitionTime = _da_tm(acquired)
    dataset.ContentDate, dataset.ContentTime = _da_tm(acquired + timedelta(minutes=9))


def _set_activity(dataset: Dataset, bq_ml: npt.NDArray[np.float32], signed: bool) -> None:
    """Scale a slice to use all bits; the slope (0028,1053) is what fits its 16 characters."""
    full = 32767 if signed else 65535
    slope = _ds(max(float(bq_ml.max()), 1.0) / full * 1.000001)
    dataset.RescaleSlope = slope
    stored = np.clip(np.rint(bq_ml / float(slope)), 0, full)
    _set_pixels(dataset, stored.astype("<i2" if signed else "<u2"))


def _set_pixels(dataset: Dataset, plane: npt.NDArray[np.int16] | npt.NDArray[np.uint16]) -> None:
    dataset.Rows, dataset.Columns = plane.shape
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = int(plane.dtype.kind == "i")
    dataset.PixelData = plane.tobytes()
    dataset["PixelData"].VR = "OW"


def _da_tm(moment: datetime) -> tuple[str, str]:
    """DICOM date and time, to the millisecond."""
    return f"{moment:%Y%m%d}", f"{moment:%H%M%S}.{moment.microsecond // 1000:03d}"


def _ds(value: float) -> str:
    """A decimal string of at most 16 characters."""
    return f"{value:.10g}"


def _save(dataset: FileDataset, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
