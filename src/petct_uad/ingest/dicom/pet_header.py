"""What one PET file says about its units, its dose and its times (PS3.3 C.8.9.1, C.8.9.2, C.8.9.4).

Texts as they are in the file: what cannot be read as a number or a time is named where it is
needed, and never where it is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from petct_uad.core.errors import UnitsError
from petct_uad.ingest.dicom.nuclides import nuclide_of_code
from petct_uad.ingest.dicom.parsing import of_element

_FIRST_BLOCK = 0x10


@dataclass(frozen=True)
class _Vendor:
    """Who writes private elements into which group."""

    maker: str  # how Manufacturer (0008,0070) begins, in capitals
    group: int
    creator: str

    def made(self, manufacturer: str) -> bool:
        return manufacturer.upper().startswith(self.maker)


_GE = _Vendor("GE", 0x0009, "GEMS_PETD_01")
_PHILIPS = _Vendor("PHILIPS", 0x7053, "Philips PET Private Group")

# What ``read_pet_header`` looks at. A private block may lie anywhere in its group (PS3.5, 7.8.1).
PET_KEYWORDS = (
    "Units", "SUVType", "DecayCorrection", "CorrectedImage", "PatientWeight", "PatientSize",
    "PatientSex", "Manufacturer", "RadiopharmaceuticalInformationSequence", "SeriesDate",
    "SeriesTime", "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime",
    "DecayCorrectionDateTime", "TimezoneOffsetFromUTC", "ActualFrameDuration", "FrameReferenceTime",
    "CollimatorType", "CollimatorGridName", "NumberOfDetectors", "DetectorInformationSequence",
)  # fmt: skip
PET_PRIVATE_TAGS = tuple(
    group << 16 | element
    for group, offsets in ((_GE.group, (0x0D,)), (_PHILIPS.group, (0x00, 0x09)))
    for block in range(_FIRST_BLOCK, 0x100)
    for element in (block, *(block << 8 | offset for offset in offsets))
)
# Collimator Type (0018,1181): a PET's is NONE or RING (C.8.9.1), the others are a gamma camera's
# (C.8.4.10).
_GAMMA_COLLIMATORS = {"PARA", "PINH", "FANB", "CONE", "SLNT", "ASTG", "DIVG"}


@dataclass(frozen=True, slots=True)
class PetHeader:
    """What one PET file says about its units: texts as in the file, "" where it is silent."""

    subject: str  # the file
    units: str = ""  # (0054,1001)
    suv_type: str = ""  # (0054,1006)
    decay_correction: str = ""  # (0054,1102)
    corrected_image: tuple[str, ...] = ()  # (0028,0051)
    manufacturer: str = ""  # (0008,0070)
    weight_kg: str = ""  # (0010,1030)
    height_m: str = ""  # (0010,1020)
    sex: str = ""  # (0010,0040)
    dose_bq: str = ""  # (0018,1074)
    half_life_s: str = ""  # (0018,1075)
    nuclide: str = ""  # of the code in (0054,0300), such as 18F
    nuclide_meaning: str = ""  # of that code, in words
    drug: str = ""  # (0018,0031)
    injections: int = 1  # items of (0054,0016)
    injection_datetime: str = ""  # (0018,1078)
    injection_time: str = ""  # (0018,1072)
    series_date: str = ""  # (0008,0021)
    series_time: str = ""  # (0008,0031)
    acquisition_date: str = ""  # (0008,0022)
    acquisition_time: str = ""  # (0008,0032)
    acquisition_datetime: str = ""  # (0008,002A)
    decay_datetime: str = ""  # (0018,9701)
    timezone: str = ""  # (0008,0201)
    ge_scan_datetime: str = ""  # (0009,100D), GEMS_PETD_01
    frame_duration_ms: str = ""  # (0018,1242)
    frame_reference_ms: str = ""  # (0054,1300)
    philips_suv_factor: str = ""  # (7053,1000)
    philips_activity_factor: str = ""  # (7053,1009)
    without_creator: tuple[str, ...] = ()  # private tags that were read although nobody owns them
    gamma_camera: str = ""  # what only a SPECT's header has, in words

    @property
    def is_ge(self) -> bool:
        """Was it written by one of GE's scanners?"""
        return _GE.made(self.manufacturer)


@dataclass
class SuvLog:
    """What had to be assumed or decided on the way from counts to SUV."""

    assumed: list[str] = field(default_factory=list)  # validation warns of each
    notes: list[str] = field(default_factory=list)

    def assume(self, text: str) -> None:
        """Something that no tag says, or of which two tags say different things."""
        if text not in self.assumed:
            self.assumed.append(text)

    def note(self, text: str) -> None:
        """Something that follows from the header, though not at first sight."""
        if text not in self.notes:
            self.notes.append(text)


def read_pet_header(dataset: Dataset, subject: str) -> PetHeader:
    """Pick out what SUV needs."""
    drugs = dataset.get("RadiopharmaceuticalInformationSequence") or [Dataset()]
    drug = drugs[0]
    maker = text_of(dataset, "Manufacturer")
    scan_datetime, scan_unowned = _private(dataset, maker, _GE, 0x0D)
    suv_factor, suv_unowned = _private(dataset, maker, _PHILIPS, 0x00)
    activity_factor, activity_unowned = _private(dataset, maker, _PHILIPS, 0x09)
    nuclide, meaning = _nuclide(drug)
    return PetHeader(
        subject=subject,
        units=text_of(dataset, "Units"),
        suv_type=text_of(dataset, "SUVType"),
        decay_correction=text_of(dataset, "DecayCorrection"),
        corrected_image=of_element(dataset, "CorrectedImage", _corrections) or (),
        manufacturer=maker,
        weight_kg=text_of(dataset, "PatientWeight"),
        height_m=text_of(dataset, "PatientSize"),
        sex=text_of(dataset, "PatientSex"),
        dose_bq=text_of(drug, "RadionuclideTotalDose"),
        half_life_s=text_of(drug, "RadionuclideHalfLife"),
        nuclide=nuclide,
        nuclide_meaning=meaning,
        drug=text_of(drug, "Radiopharmaceutical"),
        injections=len(drugs),
        injection_datetime=text_of(drug, "RadiopharmaceuticalStartDateTime"),
        injection_time=text_of(drug, "RadiopharmaceuticalStartTime"),
        series_date=text_of(dataset, "SeriesDate"),
        series_time=text_of(dataset, "SeriesTime"),
        acquisition_date=text_of(dataset, "AcquisitionDate"),
        acquisition_time=text_of(dataset, "AcquisitionTime"),
        acquisition_datetime=text_of(dataset, "AcquisitionDateTime"),
        decay_datetime=text_of(dataset, "DecayCorrectionDateTime"),
        timezone=text_of(dataset, "TimezoneOffsetFromUTC"),
        ge_scan_datetime=scan_datetime,
        frame_duration_ms=text_of(dataset, "ActualFrameDuration"),
        frame_reference_ms=text_of(dataset, "FrameReferenceTime"),
        philips_suv_factor=suv_factor,
        philips_activity_factor=activity_factor,
        without_creator=(*scan_unowned, *suv_unowned, *activity_unowned),
        gamma_camera=", ".join(_gamma_camera(dataset)),
    )


def within(header: PetHeader, tag: str, text: str, bounds: tuple[float, float], unit: str) -> float:
    """A number in ``bounds``, both included.

    Raises:
        UnitsError: it is none, or beyond them; names the tag.
    """
    low, high = bounds
    expected = f"{low:g} to {high:g} {unit}"
    value = number(header, tag, text, expected)
    if not low <= value <= high:
        raise wrong(header, tag, text, expected)
    return value


def number(header: PetHeader, tag: str, text: str, expected: str) -> float:
    """A finite number.

    Raises:
        UnitsError: it is none; names the tag.
    """
    value = number_or_none(text)
    if value is None:
        raise wrong(header, tag, text, expected)
    return value


def number_or_none(text: str) -> float | None:
    """A finite number, or None where the text is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def wrong(header: PetHeader, tag: str, found: str, expected: str, advice: str = "") -> UnitsError:
    """The refusal of what a tag says, or does not say."""
    return UnitsError(
        header.subject,
        found=f"{tag} {found or 'missing'}",
        expected=expected,
        advice=advice
        or "Export the PET again with this tag kept, or correct it from the scan's protocol.",
    )


def _gamma_camera(dataset: Dataset) -> Iterator[str]:
    """What a SPECT's header has and a PET's has not (NM modules, PS3.3 C.8.4)."""
    collimator = text_of(dataset, "CollimatorType")
    if collimator in _GAMMA_COLLIMATORS:
        yield f"Collimator Type (0018,1181) {collimator}"
    grid = text_of(dataset, "CollimatorGridName")
    if grid and grid.upper() != "NONE":
        yield f"Collimator/grid Name (0018,1180) {grid}"
    detectors = text_of(dataset, "NumberOfDetectors")
    if detectors:
        yield f"Number of Detectors (0054,0021) {detectors}"
    if dataset.get("DetectorInformationSequence"):
        yield "Detector Information Sequence (0054,0022)"


def _nuclide(drug: Dataset) -> tuple[str, str]:
    """Which nuclide the code sequence (0054,0300) names, and in which words."""
    meanings = []
    for item in drug.get("RadionuclideCodeSequence") or ():
        meanings.append(text_of(item, "CodeMeaning"))
        name = nuclide_of_code(text_of(item, "CodeValue"), text_of(item, "CodingSchemeDesignator"))
        if name:
            return name, " ".join(meanings)
    return "", " ".join(meanings)


def text_of(dataset: Dataset, keyword: str) -> str:
    """An element's text as it is in the file, even where it is no valid value."""
    return of_element(dataset, keyword, _element_text) or ""


def _element_text(dataset: Dataset, tag: BaseTag) -> str:
    element = dataset.get_item(tag)
    try:
        value = dataset[tag].value
    except (ValueError, TypeError, OverflowError):
        value = element.value if element is not None else ""
    return _plain(value)


def _corrections(dataset: Dataset, tag: BaseTag) -> tuple[str, ...]:
    return tuple(filter(None, _element_text(dataset, tag).upper().split("\\")))


def _private(
    dataset: Dataset, manufacturer: str, vendor: _Vendor, offset: int
) -> tuple[str, tuple[str, ...]]:
    """A private value, and its tag where nobody owns its block.

    De-identification often drops the creator (gggg,0010) and keeps the value. Where the
    manufacturer is the one who writes it there, it is taken; where another creator stands, not.
    """
    keys = dataset.keys()  # iterating over the data set itself would convert all of it
    if all(tag >> 16 != vendor.group for tag in keys):  # pydicom takes ten times as long
        return "", ()
    try:
        return _plain(dataset.private_block(vendor.group, vendor.creator)[offset].value), ()
    except KeyError:
        return _without_creator(dataset, manufacturer, vendor, offset)


def _without_creator(
    dataset: Dataset, manufacturer: str, vendor: _Vendor, offset: int
) -> tuple[str, tuple[str, ...]]:
    group = vendor.group << 16
    place = group | _FIRST_BLOCK << 8 | offset
    owned = (group | _FIRST_BLOCK) in dataset
    if owned or place not in dataset or not vendor.made(manufacturer):
        return "", ()
    return _plain(dataset[place].value), (f"({vendor.group:04X},{place & 0xFFFF:04X})",)


def _plain(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if isinstance(value, (list, pydicom.multival.MultiValue)):
        return "\\".join(map(_plain, value))
    return str(value).strip(" \0")
