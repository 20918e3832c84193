"""What one DICOM file says about itself: a frozen header, read without pixels."""

from __future__ import annotations

import hashlib
import math
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import AfterValidator
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import BaseTag

from petct_uad.core.errors import (
    IdentityError,
    PixelError,
    RejectedInputError,
    UnreadableFileError,
    UnsupportedObjectError,
)
from petct_uad.ingest.dicom.identity import (
    IDENTITY_TAGS,
    NOBODY,
    Identity,
    read_identity,
    shared,
)
from petct_uad.ingest.dicom.multiframe import (
    FUNCTIONAL_GROUPS,
    MULTIFRAME_MODALITIES,
    PET_FRAME_KEYWORDS,
    frame_attributes,
    frame_count,
    read_as_single_frame_pet,
)
from petct_uad.ingest.dicom.native import IMAGE_KEYWORDS, NativePixels, find_native
from petct_uad.ingest.dicom.parsing import (
    element_values,
    of_element,
    opened,
    read_meta,
    read_tags,
    tag_of,
    values,
)
from petct_uad.ingest.dicom.pet_header import (
    PET_KEYWORDS,
    PET_PRIVATE_TAGS,
    PetHeader,
    read_pet_header,
)
from petct_uad.ingest.dicom.timing import NO_TIMING, TIMING_KEYWORDS, Timing, read_timing
from petct_uad.ingest.reader import is_uid
from petct_uad.ingest.rejections import NOTHING_LOST, printable

LABEL_MAP_STORAGE = uid.UID("1.2.840.10008.5.1.4.1.1.66.7")  # Supplement 243; not in pydicom 3.0
MODALITIES = {
    uid.CTImageStorage: "CT",
    uid.PositronEmissionTomographyImageStorage: "PT",
    uid.SegmentationStorage: "SEG",
    LABEL_MAP_STORAGE: "SEG",
    uid.RTStructureSetStorage: "RTSTRUCT",
    **MULTIFRAME_MODALITIES,
}
MAX_MATRIX = 4096
UID_EXPECTED = "a UID of digits and dots, at most 64 characters"

_KEYWORDS = [
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID",
    "StudyInstanceUID", "Modality", "PatientID", "PatientBirthDate", "PatientSex", "Manufacturer",
    "ManufacturerModelName", "SeriesDescription", "ImageType", "CorrectedImage",
    "FrameOfReferenceUID", "NumberOfSlices", "NumberOfFrames", "Rows", "Columns", "PixelSpacing",
    "ImagePositionPatient", "ImageOrientationPatient", "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence", "SliceThickness", "AcquisitionNumber", "AcquisitionDate",
    "AcquisitionTime", "AcquisitionDateTime", *FUNCTIONAL_GROUPS, *IDENTITY_TAGS, *IMAGE_KEYWORDS,
    *PET_KEYWORDS, *PET_FRAME_KEYWORDS, *TIMING_KEYWORDS,
]  # fmt: skip
_TAGS = [*map(tag_of, dict.fromkeys(_KEYWORDS)), *PET_PRIVATE_TAGS]
_META_START = 144  # preamble, DICM, and the element that tells the length of the rest
_MOST_INFLATED = 1 << 28
_PIECE = 1 << 16


@dataclass(frozen=True, order=True, slots=True)
class Header:
    """What one CT, PET, SEG or RTSTRUCT file says about itself; "" or None where it is silent."""

    file: str  # POSIX path below the data set
    sha256: str
    modality: str  # CT, PT, SEG or RTSTRUCT, after the SOP class
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    frame_of_reference_uid: str
    patient: str
    birth_date: str  # compared between files, never written
    sex: str
    manufacturer: str
    model_name: str
    description: str
    image_type: tuple[str, ...]
    corrected_image: tuple[str, ...]
    number_of_slices: int | None  # (0054,0081)
    rows: int
    columns: int
    pixel_spacing_mm: tuple[float, ...] | None  # row spacing (y), column spacing (x)
    position_mm: tuple[float, ...] | None  # (0020,0032), LPS
    orientation: tuple[float, ...] | None  # (0020,0037)
    referenced_series: tuple[str, ...]  # of a label object
    # What no output may hold; files of a patient share one object, also those from the store.
    identity: Annotated[Identity, AfterValidator(shared)] = NOBODY
    slice_thickness_mm: float | None = None
    acquisition_number: str = ""
    acquisition_time: str = ""  # date and time
    stack: int = 1  # which stack of its series a slice belongs to; series.split_into_stacks
    frame: int | None = None  # index in an enhanced multi-frame file, from 0
    frames: tuple[Header, ...] = ()  # of an enhanced multi-frame file, one header each
    # Where its pixels lie; None where the file must be parsed again, with its pixels.
    native: NativePixels | None = field(default=None, compare=False)
    pet: PetHeader | None = field(default=None, compare=False)  # of a PET; None if unreadable
    timing: Timing = field(default=NO_TIMING, compare=False)  # of a PET


def read_header(raw: Path, file: str) -> Header:
    """Hash one file and read its header.

    Raises:
        UnreadableFileError: not DICOM, cut short, or without a transfer syntax.
        UnsupportedObjectError: DICOM, but not a CT, a PET, a SEG or an RTSTRUCT.
        IdentityError: a UID or the PatientID is missing or not valid.
    """
    # pydicom answers broken files with a dozen exception types, RecursionError among them.
    try:
        with opened(raw / file) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            meta = read_meta(stream)
            syntax = str(meta.get("TransferSyntaxUID", ""))
            if syntax == uid.DeflatedExplicitVRLittleEndian:
                _check_inflates(stream, file, meta)
            dataset = read_tags(stream, meta, _TAGS)
            native = find_native(dataset, stream, syntax)
            header = _with_frames(_header(dataset, file, _sha256(stream)), dataset)
            header = _with_pixels(header, dataset, native)
    except RejectedInputError:
        raise
    except Exception as error:
        no_dicom = isinstance(error, InvalidDicomError)
        raise UnreadableFileError(
            file,
            found=_one_line(error),
            expected="a DICOM file with its 128-byte preamble"
            if no_dicom
            else "a header that can be read to its end",
            advice="Export it again, or remove it if it is no DICOM file.",
        ) from error
    if not syntax:
        raise UnreadableFileError(
            file,
            found="no Transfer Syntax UID (0002,0010)",
            expected="one that says how the file is encoded",
            advice="Repair the file meta information or export it again.",
        )
    return header


def _header(dataset: Dataset, file: str, sha256: str) -> Header:
    modality = _modality(dataset, file)
    rows, columns = _whole(dataset, "Rows") or 0, _whole(dataset, "Columns") or 0
    if max(rows, columns) > MAX_MATRIX:
        raise PixelError(
            file,
            found=f"Rows (0028,0010) {rows}, Columns (0028,0011) {columns}",
            expected=f"at most {MAX_MATRIX}",
            advice="Export the file again.",
        )
    return Header(
        file=file,
        sha256=sha256,
        modality=modality,
        sop_instance_uid=_identity(dataset, "SOPInstanceUID", "(0008,0018)", file),
        series_instance_uid=_identity(dataset, "SeriesInstanceUID", "(0020,000E)", file),
        study_instance_uid=_identity(dataset, "StudyInstanceUID", "(0020,000D)", file),
        frame_of_reference_uid=_text(dataset, "FrameOfReferenceUID"),
        patient=_patient(dataset, file),
        birth_date=_text(dataset, "PatientBirthDate"),
        sex=_text(dataset, "PatientSex"),
        manufacturer=_text(dataset, "Manufacturer"),
        model_name=_text(dataset, "ManufacturerModelName"),
        description=_text(dataset, "SeriesDescription"),
        image_type=of_element(dataset, "ImageType", _capitals) or (),
        corrected_image=of_element(dataset, "CorrectedImage", _capitals) or (),
        number_of_slices=_whole(dataset, "NumberOfSlices"),
        rows=rows,
        columns=columns,
        pixel_spacing_mm=_numbers(dataset, "PixelSpacing", 2),
        position_mm=_numbers(dataset, "ImagePositionPatient", 3),
        orientation=_numbers(dataset, "ImageOrientationPatient", 6),
        referenced_series=tuple(sorted(_referenced_series(dataset))),
        slice_thickness_mm=(_numbers(dataset, "SliceThickness", 1) or (None,))[0],
        acquisition_number=_text(dataset, "AcquisitionNumber"),
        acquisition_time=_text(dataset, "AcquisitionDate") + _text(dataset, "AcquisitionTime")
        or _text(dataset, "AcquisitionDateTime"),
        identity=read_identity(dataset),
        timing=read_timing(dataset) if modality == "PT" else NO_TIMING,
    )


def _with_frames(header: Header, dataset: Dataset) -> Header:
    if dataset.SOPClassUID not in MULTIFRAME_MODALITIES:
        return header
    flat = [frame_attributes(dataset, index) for index in range(frame_count(dataset, header.file))]
    frames = (_frame(item, header, index) for index, item in enumerate(flat))
    return replace(header, frames=tuple(frames))


def _frame(attributes: Dataset, whole: Header, index: int) -> Header:
    frame = _header(attributes, whole.file, whole.sha256)
    return replace(frame, frame=index, pet=_pet_or_none(attributes, frame))


def _with_pixels(header: Header, dataset: Dataset, native: NativePixels | None) -> Header:
    if header.frames or header.modality not in {"CT", "PT"}:
        return header
    pet = _pet_or_none(dataset, header)
    unreadable = header.modality == "PT" and pet is None
    return replace(header, native=None if unreadable else native, pet=pet)


def _pet_or_none(attributes: Dataset, header: Header) -> PetHeader | None:
    """None for a CT, and where the PET's modules cannot be read: its volume's reader says why."""
    if header.modality != "PT":
        return None
    try:
        if attributes.SOPClassUID == uid.EnhancedPETImageStorage:
            read_as_single_frame_pet(attributes, header.file)
        return read_pet_header(attributes, header.file)
    except Exception:
        return None


def _modality(dataset: Dataset, file: str) -> str:
    sop_class = uid.UID(_text(dataset, "SOPClassUID"))
    modality = MODALITIES.get(sop_class)
    if modality is None:
        raise _unsupported(file, f"SOP Class UID (0008,0016) {sop_class.name or 'missing'}")
    said = _text(dataset, "Modality")
    # What a label object is, its SOP class says; some anonymisers empty the modality.
    if said != modality and (said or modality in {"CT", "PT"}):
        raise _unsupported(file, f"Modality (0008,0060) {said or 'missing'} in a {sop_class.name}")
    return modality


def _sha256(stream: BinaryIO) -> str:
    stream.seek(0)
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def _check_inflates(stream: BinaryIO, file: str, meta: Dataset) -> None:
    """Inflate piece by piece and keep nothing: pydicom would inflate a bomb whole."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = 0
    stream.seek(_META_START + int(meta.FileMetaInformationGroupLength))
    while not inflate.eof and (piece := inflate.unconsumed_tail or stream.read(_PIECE)):
        inflated += len(inflate.decompress(piece, _PIECE))
        if inflated > _MOST_INFLATED:
            raise _unsupported(file, f"a deflated data set of over {_MOST_INFLATED} bytes")


def _unsupported(file: str, found: str) -> UnsupportedObjectError:
    return UnsupportedObjectError(
        file,
        found=found,
        expected="CT or PET Image Storage (enhanced or not), Segmentation or RT Structure Set",
        advice=f"{NOTHING_LOST} if this is no CT, PET or label; else convert it.",
    )


def _identity(dataset: Dataset, keyword: str, tag: str, file: str) -> str:
    value = _text(dataset, keyword)
    if is_uid(value):
        return value
    raise IdentityError(
        file,
        found=f"{keyword} {tag} {value!r}",
        expected=UID_EXPECTED,
        advice="Export the file again; without its UIDs it belongs to no series.",
    )


def _patient(dataset: Dataset, file: str) -> str:
    patient = _text(dataset, "PatientID")
    if 0 < len(patient) <= 64:
        return patient
    raise IdentityError(
        file,
        found=f"PatientID (0010,0020) {patient or 'missing'!r}",
        expected="1 to 64 characters",
        advice="Give every patient a pseudonym: without one, splits could leak patients.",
    )


def _text(dataset: Dataset, keyword: str) -> str:
    return of_element(dataset, keyword, _printable) or ""


def _printable(dataset: Dataset, tag: BaseTag) -> str:
    return printable("\\".join(str(item) for item in element_values(dataset, tag)))


def _capitals(dataset: Dataset, tag: BaseTag) -> tuple[str, ...]:
    return tuple(str(item).upper() for item in element_values(dataset, tag))


def _whole(dataset: Dataset, keyword: str) -> int | None:
    found = values(dataset, keyword)
    return int(found[0]) if found else None


def _numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """``count`` finite numbers, or None where missing or malformed; geometry.py names the tag."""
    found = of_element(dataset, keyword, _floats) or ()
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def _floats(dataset: Dataset, tag: BaseTag) -> tuple[float, ...]:
    try:
        return tuple(float(item) for item in element_values(dataset, tag))
    except (TypeError, ValueError):
        return ()


def _referenced_series(dataset: Dataset) -> Iterator[str]:
    """Series that a SEG (C.8.20) or an RTSTRUCT (C.8.8.5) says it was drawn on."""
    for series in dataset.get("ReferencedSeriesSequence") or ():
        yield str(series.SeriesInstanceUID)
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            for series in study.get("RTReferencedSeriesSequence") or ():
                yield str(series.SeriesInstanceUID)


def _one_line(error: Exception) -> str:
    return printable(f"{type(error).__name__}: {error}")
