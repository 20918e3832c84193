"""Every tag that a refused series lacks, at once: nobody fixes one only to hear of the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydicom import uid
from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset

from petct_uad.core.errors import RejectedInputError
from petct_uad.ingest.dicom.body_size import SuvKind, keywords_of
from petct_uad.ingest.dicom.header import Header
from petct_uad.ingest.dicom.multiframe import frame_attributes
from petct_uad.ingest.dicom.parsing import read_dataset, tag_of, values
from petct_uad.ingest.dicom.suv import DECAYS

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
_START = ("RadiopharmaceuticalStartDateTime", "RadiopharmaceuticalStartTime")


def with_all_missing(
    error: RejectedInputError, raw: Path, headers: Sequence[Header], suv: SuvKind
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


def _lacking(raw: Path, header: Header, suv: SuvKind) -> Iterator[str]:
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


def _needed(dataset: Dataset, suv: SuvKind) -> Iterator[str]:
    yield from _absent(dataset, _IMAGE)
    # An Enhanced PET says all this elsewhere; read_as_single_frame_pet names what it lacks.
    if dataset.Modality != "PT" or dataset.SOPClassUID == uid.EnhancedPETImageStorage:
        return
    units = str(dataset.get("Units") or "")
    yield from _absent(dataset, ("Units",))
    in_activity = units in {"", "BQML"}
    if in_activity or suv != "bw":
        yield from _absent(dataset, keywords_of(suv))
    if in_activity:
        yield from _activity(dataset)


def _activity(dataset: Dataset) -> Iterator[str]:
    """What turns Bq/ml into SUV, beside the body's size."""
    told = str(dataset.get("DecayCorrection") or "")
    decay = DECAYS.get(told, DECAYS["START"])  # unknown, it may need what START does
    yield from _absent(dataset, ("DecayCorrection", *decay.of_series))
    if "SeriesTime" in decay.of_series and not values(dataset, "AcquisitionDateTime"):
        yield from _absent(dataset, ("AcquisitionTime",))
    drug = (dataset.get(_DRUG) or [Dataset()])[0]
    yield from _absent(drug, ("RadionuclideTotalDose", *decay.of_drug))
    if decay.of_drug and not any(values(drug, name) for name in _START):
        yield " or ".join(map(_named, _START))


def _absent(dataset: Dataset, keywords: Iterable[str]) -> Iterator[str]:
    return (_named(name) for name in keywords if not values(dataset, name))


def _named(keyword: str) -> str:
    tag = tag_of(keyword)
    return f"{dictionary_description(tag)} ({tag.group:04X},{tag.element:04X})"
