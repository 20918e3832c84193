"""The contours of an RT Structure Set (PS3.3 A.19) on the voxels of the CT."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from petct_uad.core.errors import OtherFrameError
from petct_uad.ingest.dicom.contours import LABEL_ADVICE
from petct_uad.ingest.dicom.drawing import (
    Drawing,
    Mask,
    PairedImages,
    empty_between,
    rasterise,
    wrong_label,
)
from petct_uad.ingest.dicom.geometry import Stack
from petct_uad.ingest.dicom.header import Header
from petct_uad.ingest.dicom.label_names import NamedObject
from petct_uad.ingest.dicom.parsing import read_dataset, values

_CLOSED = {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"}


def draw_structures(path: Path, named: NamedObject, images: PairedImages) -> Drawing:
    """Draw the ROIs of an RTSTRUCT that are lesions on the CT's grid.

    Raises:
        LabelError: an ROI in another frame of reference, or lesions that are points and lines only.
        Exception: whatever pydicom raises on objects that break its rules.
    """
    dataset = read_dataset(path)
    items = {int(item.ROINumber): item for item in dataset.StructureSetROISequence}
    mask = np.zeros(images.ct.grid.size[::-1], np.uint8)
    outside = left_open = 0
    notes: list[str] = []
    for roi in dataset.get("ROIContourSequence") or ():
        item = items[int(roi.ReferencedROINumber)]
        if int(item.ROINumber) not in named.lesion_numbers:
            continue
        drawn, beyond = _draw(roi, images)
        notes += _check_frame(named.header, dataset, item, images, whole=not beyond)
        left_open += len(roi.get("ContourSequence") or ()) - len(list(_contours(roi)))
        gap = empty_between(drawn)
        notes += [f"the RTSTRUCT {named.header.file}: {gap}"] if gap else []
        mask |= drawn
        outside += beyond
    if left_open and not mask.any() and not outside:
        raise wrong_label(named.header, f"{left_open} contours that enclose nothing, and no other",
                          "closed contours of the lesions")  # fmt: skip
    if left_open:
        notes.append(f"{left_open} contours of the RTSTRUCT enclose nothing")
    return Drawing(mask, outside, tuple(notes))


def _draw(roi: Dataset, images: PairedImages) -> tuple[Mask, int]:
    # The same contour twice would be a hole in itself.
    distinct = list({points.tobytes(): points for points in _contours(roi)}.values())
    return rasterise(distinct, images.ct.grid, images.drawn_on.grid.spacing_mm[2])


def _contours(roi: Dataset) -> Iterator[NDArray[np.float64]]:
    for contour in roi.get("ContourSequence") or ():
        if contour.get("ContourGeometricType") in _CLOSED:
            points = _points(contour)
            if len(points) >= 3:
                yield points


def _points(contour: Dataset) -> NDArray[np.float64]:
    """Contour Data (3006,0050) as (n, 3)."""
    data = contour.get_item("ContourData")
    # pydicom makes an object of each of a hundred thousand numbers, in seconds.
    as_stored = isinstance(data, RawDataElement) and isinstance(data.value, bytes)
    found = data.value.rstrip(b"\0 ").split(b"\\") if as_stored else values(contour, "ContourData")
    return np.array(found, np.float64).reshape(-1, 3)


def _check_frame(
    header: Header, dataset: Dataset, item: Dataset, images: PairedImages, whole: bool
) -> list[str]:
    """A note where the frame of an ROI is another, but its slices are those of the images.

    Args:
        whole: every contour of the ROI lies in the CT.
    """
    tag, frame = (
        "Referenced Frame of Reference UID (3006,0024)",
        item.get("ReferencedFrameOfReferenceUID"),
    )
    if not frame:
        tag, frame = "Frame of Reference UID (0020,0052)", dataset.get("FrameOfReferenceUID")
    if frame and str(frame) in images.frames:
        return []
    found = f"{tag} {frame or 'missing'} of {item.get('ROIName', '')}"
    if whole and _names_slices_of(dataset, images.drawn_on):
        return [f"the RTSTRUCT has {found}, but references the slices that its contours lie on"]
    raise OtherFrameError(
        header.file,
        found=found,
        expected=f"{' or '.join(filter(None, images.frames)) or 'one'}, that of its images",
        advice=LABEL_ADVICE,
    )


def _names_slices_of(dataset: Dataset, stack: Stack) -> bool:
    """Does an RTSTRUCT reference the stack's series, and its slices and no others?"""
    slices = {item.sop_instance_uid for item in stack.headers}
    named = set(_referenced_slices(dataset))
    series = {str(item.SeriesInstanceUID) for item in _referenced_series(dataset)}
    own = stack.headers[0].series_instance_uid
    return own in series and bool(named) and named <= slices


def _referenced_series(dataset: Dataset) -> Iterator[Dataset]:
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            yield from study.get("RTReferencedSeriesSequence") or ()


def _referenced_slices(dataset: Dataset) -> Iterator[str]:
    """SOPInstanceUIDs in Contour Image Sequence (3006,0016), of the set and of its contours."""
    for series in _referenced_series(dataset):
        yield from _images(series)
    for roi in dataset.get("ROIContourSequence") or ():
        for contour in roi.get("ContourSequence") or ():
            yield from _images(contour)


def _images(item: Dataset) -> Iterator[str]:
    for image in item.get("ContourImageSequence") or ():
        yield str(image.ReferencedSOPInstanceUID)
