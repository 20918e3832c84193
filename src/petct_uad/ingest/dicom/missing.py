"""Every tag that a refused series lacks, at once: nobody mends one only to hear of the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydicom import uid
from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset

from petct_uad.core.errors import RejectedInputError
from petct_uad.ingest.dicom.index import Header
from petct_uad.ingest.dicom.multiframe import frame_attributes
from petct_uad.ingest.dicom.parsing import read_dataset, tag_of, values

_GEOMETRY = {
    "ImagePositionPatient": "position_mm",
    "ImageOrientationPatient": "orientation",
    "PixelSpacing": "pixel_spacing_mm",
}
_IMAGE = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation",
    "PhotometricInterpretation", "RescaleSlope", "RescaleIntercept",
)  # fmt: skip
_DRUG = "RadiopharmaceuticalInformationSequence"
# What DecayCorrection (0054,1102) needs beside the dose; unknown, it may need what START does.
_DECAY = {
    "ADMIN": ((), ()),
    "NONE": (("AcquisitionTime", "ActualFrameDuration"), ("RadionuclideHalfLife",)),
    "START": (("SeriesDate", "SeriesTime"), ("RadionuclideHalfLife",)),
}
_START = ("RadiopharmaceuticalStartDateTime", "RadiopharmaceuticalStartTime")


def with_all_missing(
    error: RejectedInputError, raw: Path, headers: Sequence[Header], suv: str
) -> RejectedInputError:
    """The same refusal, which also names every tag that its series needs and lacks.

    Args:
        error: of a CT or PET series.
        raw: the data set.
        headers: of the series.
        suv: ``ingest.suv``.
    """
    lacking = Counter(name for header in headers for name in _lacking(raw, header, suv))
    told = error.found + error.expected
    new = {name: count for name, count in lacking.items() if name.rpartition("(")[2] not in told}
    if not new:
        return error
    also = ", ".join(f"{name} in {count} of {len(headers)} slices" for name, count in new.items())
    return type(error)(
        error.subject,
        found=f"{error.found}; missing too: {also}",
        expected=error.expected,
        advice=error.advice,
    )


def _lacking(raw: Path, header: Header, suv: str) -> Iterator[str]:
    yield from (_named(k) for k, name in _GEOMETRY.items() if getattr(header, name) is None)
    # Whatever cannot be read has been named by what refused it.
    try:
        dataset = read_dataset(raw / header.file)
        if header.frame is not None:
            dataset = frame_attributes(dataset, header.frame)
        needed = list(_needed(dataset, suv))
    except Exception:
        return
    yield from needed


def _needed(dataset: Dataset, suv: str) -> Iterator[str]:
    yield from _absent(dataset, _IMAGE)
    # An Enhanced PET says all this elsewhere; read_as_single_frame_pet names what it lacks.
    if dataset.Modality != "PT" or dataset.SOPClassUID == uid.EnhancedPETImageStorage:
        return
    units = str(dataset.get("Units") or "")
    yield from _absent(dataset, ("Units",))
    if suv != "bw":
        yield from _absent(dataset, ("PatientWeight", "PatientSize"))
        yield from _absent(dataset, ("PatientSex",) if suv != "bsa" else ())
    if units in {"", "BQML"}:
        yield from _activity(dataset, suv)


def _activity(dataset: Dataset, suv: str) -> Iterator[str]:
    """What turns Bq/ml into SUV (QIBA, SUV vendor-neutral pseudo-code)."""
    decay = str(dataset.get("DecayCorrection") or "")
    of_series, of_drug = _DECAY.get(decay, _DECAY["START"])
    weight = ("PatientWeight",) if suv == "bw" else ()
    yield from _absent(dataset, (*weight, "DecayCorrection", *of_series))
    if "SeriesTime" in of_series and not values(dataset, "AcquisitionDateTime"):
        yield from _absent(dataset, ("AcquisitionTime",))
    drug = (dataset.get(_DRUG) or [Dataset()])[0]
    yield from _absent(drug, ("RadionuclideTotalDose", *of_drug))
    if of_drug and not any(values(drug, name) for name in _START):
        yield " or ".join(map(_named, _START))


def _absent(dataset: Dataset, keywords: Iterable[str]) -> Iterator[str]:
    return (_named(name) for name in keywords if not values(dataset, name))


def _named(keyword: str) -> str:
    tag = tag_of(keyword)
    return f"{dictionary_description(tag)} ({tag.group:04X},{tag.element:04X})"
