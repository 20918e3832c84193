"""Lesion masks from DICOM SEG, RTSTRUCT and labels.csv, on the grid of the CT."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from petct_uad.core.errors import LabelError, RejectedInputError
from petct_uad.ingest.dicom.contours import LABEL_ADVICE, LABELS_CSV, Contour, by_roi, parsed
from petct_uad.ingest.dicom.geometry import Grid, Stack
from petct_uad.ingest.dicom.index import Header
from petct_uad.ingest.dicom.parsing import read_dataset, values
from petct_uad.ingest.dicom.series import Series
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.rejections import printable
from petct_uad.ingest.tables import (
    DRAWN_ON,
    DRAWN_ON_CT,
    DRAWN_ON_PET,
    LESION,
    NEGATIVE,
    UNLABELLED,
)

if TYPE_CHECKING:
    import highdicom

Mask = NDArray[np.uint8]

_SAME_PLANE_MM = 0.01
_ON_EDGE = 1e-9  # pixels
_CLOSED = {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"}
_PREFERENCE = {
    "auto": ("SEG", "RTSTRUCT"),
    "seg": ("SEG",),
    "rtstruct": ("RTSTRUCT",),
    "csv": (),
}


@dataclass(frozen=True)
class Label:
    """The lesion mask of one study (uint8, 1 = lesion), and where it comes from."""

    image: sitk.Image  # of voxels that say on which images they were drawn: tables.DRAWN_ON_CT, ...
    headers: tuple[Header, ...]  # of the label objects; none for labels.csv
    kind: str  # seg, rtstruct or csv
    lesions: tuple[str, ...]  # names of the segments or ROIs taken, sorted
    passed_over: tuple[str, ...]  # names that ingest.label_roi does not match, sorted
    notes: tuple[str, ...]
    drawn_on: str  # of tables.DRAWN_ON

    @property
    def finding(self) -> str:
        """Of tables.FINDINGS."""
        if self.drawn_on != "none":
            return LESION
        return NEGATIVE if self.lesions else UNLABELLED


@dataclass(frozen=True)
class _Drawing:
    mask: Mask  # (z, y, x) on the CT grid
    lesions: tuple[str, ...]
    passed_over: tuple[str, ...]
    outside: int  # contours (RTSTRUCT) or voxels (SEG) beyond the CT
    open_contours: int = 0  # points and lines, which enclose nothing


@dataclass(frozen=True)
class _Plane:
    depth_index: float  # along the CT's normal, in CT slices
    mask: NDArray[np.bool_]  # (y, x)


def choose_labels(
    series: Sequence[Series], ct: Stack, pet: Stack, wanted: str
) -> tuple[tuple[Header, ...], str]:
    """The label objects to use, and why.

    SEG goes before RTSTRUCT; an object that references the CT goes before one that references the
    PET, and that before one that references neither. Equals are united.
    """
    for modality in _PREFERENCE[wanted]:
        found = [
            header for item in series for header in item.headers if header.modality == modality
        ]
        if found:
            best = min(_tier(header, ct, pet) for header in found)
            chosen = tuple(h for h in found if _tier(h, ct, pet) == best)
            reason = ("references the CT", "references the PET", "references neither CT nor PET")
            return chosen, reason[best]
    return (), ""


def read_label(
    raw: Path, headers: Sequence[Header], ct: Stack, pet: Stack, params: IngestParams
) -> Label:
    """Draw the chosen label objects, united, on the CT's grid.

    Raises:
        LabelError: an object that cannot be read, lies in another frame of reference, or has
            lesions but none of them inside the CT.
    """
    drawings = [_draw(raw, header, ct, pet, params.label_roi) for header in headers]
    mask = np.bitwise_or.reduce(
        [
            drawing.mask * np.uint8(DRAWN_ON_PET if _tier(header, ct, pet) == 1 else DRAWN_ON_CT)
            for header, drawing in zip(headers, drawings, strict=True)
        ]
    )
    notes = [
        note
        for header, drawing in zip(headers, drawings, strict=True)
        for note in _notes(header, drawing, ct, pet)
    ]
    if len(headers) > 1:
        notes.append(f"the lesion mask unites {len(headers)} label objects")
    return Label(
        image=ct.grid.image(mask),
        headers=tuple(headers),
        kind=headers[0].modality.lower(),
        lesions=_union(drawing.lesions for drawing in drawings),
        passed_over=_union(drawing.passed_over for drawing in drawings),
        notes=tuple(dict.fromkeys(notes)),
        drawn_on=_drawn_on(mask),
    )


def label_from_contours(
    contours: Sequence[Contour], ct: Stack, pet: Stack, params: IngestParams
) -> Label:
    """Draw one study's lines of ``labels.csv`` on the CT's grid.

    Raises:
        LabelError: points that are no contour on their slice, or none of them inside the CT.
    """
    mask, outside = np.zeros(ct.grid.size[::-1], np.uint8), 0
    lesions, passed_over = _split_names((c.roi for c in contours), params.label_roi)
    for (roi, modality), group in by_roi(contours).items():
        if roi in lesions:
            spacing_mm = (pet if modality == "PT" else ct).grid.spacing_mm[2]
            points = [parsed(contour, ct, spacing_mm) for contour in group]
            drawn, beyond = rasterise(points, ct.grid, spacing_mm)
            mask |= drawn * np.uint8(DRAWN_ON_PET if modality == "PT" else DRAWN_ON_CT)
            outside += beyond
    if outside and not mask.any():
        raise LabelError(
            LABELS_CSV,
            found=f"line {contours[0].line}: lesions that lie wholly outside the CT",
            expected="lesions inside the CT",
            advice=LABEL_ADVICE,
        )
    notes = (f"{outside} contours of {LABELS_CSV} lie outside the CT",) if outside else ()
    return Label(
        ct.grid.image(mask), (), "csv", lesions, passed_over, notes, drawn_on=_drawn_on(mask)
    )


def rasterise(
    contours_mm: Sequence[NDArray[np.float64]], grid: Grid, plane_distance_mm: float
) -> tuple[Mask, int]:
    """Fill planar contours of one ROI on a grid, even-odd, so that a contour in another is a hole.

    A slice takes the nearest plane of contours within half the distance between planes, or within
    half a slice where the planes are closer than the slices.

    Args:
        contours_mm: points (n, 3) in the patient frame (LPS, mm), one array per contour.
        plane_distance_mm: slice spacing of the images that the contours were drawn on.

    Returns:
        The mask (z, y, x), and how many contours lie outside the grid.
    """
    mask = np.zeros(grid.size[::-1], np.uint8)
    planes, outside = _planes(contours_mm, grid)
    if not planes:
        return mask, outside
    depths = np.array([plane.depth_index for plane in planes])
    reach = max(1.0, plane_distance_mm / grid.spacing_mm[2]) / 2
    for index in range(grid.size[2]):
        nearest = int(np.abs(depths - index).argmin())
        if abs(depths[nearest] - index) <= reach + 1e-6:
            mask[index] = planes[nearest].mask
    return mask, outside


def _drawn_on(mask: Mask) -> str:
    """Which images the lesions of a mask were drawn on."""
    return DRAWN_ON[int(np.bitwise_or.reduce(mask, axis=None))]


def _tier(header: Header, ct: Stack, pet: Stack) -> int:
    for tier, stack in enumerate((ct, pet)):
        if stack.headers[0].series_instance_uid in header.referenced_series:
            return tier
    return 2


def _draw(raw: Path, header: Header, ct: Stack, pet: Stack, pattern: str) -> _Drawing:
    # highdicom and pydicom raise many types on label objects that break their own rules.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if header.modality == "SEG":
                drawing = _draw_seg(raw / header.file, header, ct, pattern)
            else:
                drawing = _draw_rtstruct(raw / header.file, header, ct, pet, pattern)
    except RejectedInputError:
        raise
    except Exception as error:
        found = printable(f"{type(error).__name__}: {error}")
        raise _wrong(header, found, f"a readable {header.modality}") from error
    if drawing.outside and not drawing.mask.any():
        raise _wrong(header, "lesions that lie wholly outside the CT", "lesions inside the CT")
    return drawing


def _notes(header: Header, drawing: _Drawing, ct: Stack, pet: Stack) -> Iterator[str]:
    tier = _tier(header, ct, pet)
    if tier == 1:
        yield f"the {header.modality} references the PET; drawn on the CT grid in patient space"
    elif tier == 2:
        yield f"the {header.modality} references neither CT nor PET, but shares the CT's frame"
    if drawing.outside:
        unit = "voxels" if header.modality == "SEG" else "contours"
        yield f"{drawing.outside} {unit} of the {header.modality} lie outside the CT"
    if drawing.open_contours:
        yield f"{drawing.open_contours} contours of the {header.modality} enclose nothing"
    if drawing.lesions and not drawing.mask.any():
        yield f"the {header.modality} names lesions but draws none"


def _draw_seg(path: Path, header: Header, ct: Stack, pattern: str) -> _Drawing:
    import highdicom

    segmentation = highdicom.seg.Segmentation.from_dataset(dcmread(path), copy=False)
    _check_frame(header, str(segmentation.get("FrameOfReferenceUID", "")), ct)
    names = {
        int(item.SegmentNumber): printable(str(item.SegmentLabel))
        for item in segmentation.SegmentSequence
    }
    numbers = [number for number, name in names.items() if re.fullmatch(pattern, name)]
    mask = np.zeros(ct.grid.size[::-1], np.uint8)
    outside = 0
    for number in numbers:
        drawn, beyond = _segment_on(segmentation, number, ct.grid)
        mask |= drawn
        outside += beyond
    return _Drawing(mask, *_split_names(names.values(), pattern), outside)


def _segment_on(
    segmentation: highdicom.seg.Segmentation, number: int, grid: Grid
) -> tuple[Mask, int]:
    """One segment resampled by nearest neighbour: exact where it lies on the CT's own voxels."""
    volume = segmentation.get_volume(segment_numbers=[number])
    inside: Mask = (np.squeeze(volume.array, axis=-1) >= 0.5).astype(np.uint8)
    source = sitk.GetImageFromArray(inside)
    source.SetOrigin([float(v) for v in volume.position])
    source.SetSpacing([float(v) for v in reversed(volume.spacing)])
    source.SetDirection(np.asarray(volume.direction)[:, ::-1].ravel().tolist())
    target = grid.image(np.zeros(grid.size[::-1], np.uint8))
    drawn = sitk.Resample(source, target, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    points = np.argwhere(inside)[:, ::-1].astype(np.float64)
    axes = np.asarray(volume.direction)[:, ::-1]
    placed = np.asarray(volume.position) + (points * volume.spacing[::-1]) @ axes.T
    index = grid.indices(placed)
    beyond = (index < -0.5) | (index > np.asarray(grid.size) - 0.5)
    return sitk.GetArrayFromImage(drawn), int(beyond.any(axis=1).sum())


def _draw_rtstruct(path: Path, header: Header, ct: Stack, pet: Stack, pattern: str) -> _Drawing:
    dataset = read_dataset(path)
    names = {
        int(item.ROINumber): (printable(str(item.get("ROIName", ""))), item)
        for item in dataset.get("StructureSetROISequence") or ()
    }
    drawn_on = pet if _tier(header, ct, pet) == 1 else ct
    mask = np.zeros(ct.grid.size[::-1], np.uint8)
    outside = open_contours = 0
    for roi in dataset.get("ROIContourSequence") or ():
        name, item = names[int(roi.ReferencedROINumber)]
        if not re.fullmatch(pattern, name):
            continue
        frame = item.get("ReferencedFrameOfReferenceUID") or dataset.get("FrameOfReferenceUID")
        _check_frame(header, str(frame or ""), ct)
        closed = list(_contours(roi))
        open_contours += len(roi.get("ContourSequence") or ()) - len(closed)
        # The same contour twice would be a hole in itself.
        distinct = list({points.tobytes(): points for points in closed}.values())
        drawn, beyond = rasterise(distinct, ct.grid, drawn_on.grid.spacing_mm[2])
        mask |= drawn
        outside += beyond
    taken, passed_over = _split_names((name for name, _ in names.values()), pattern)
    return _Drawing(mask, taken, passed_over, outside, open_contours)


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


def _planes(contours_mm: Sequence[NDArray[np.float64]], grid: Grid) -> tuple[list[_Plane], int]:
    """Contours as filled planes sorted by depth; and how many lie outside the grid."""
    planes: list[_Plane] = []
    outside = 0
    indexed = sorted((grid.indices(points) for points in contours_mm), key=lambda p: p[:, 2].mean())
    for points in indexed:
        depth = float(points[:, 2].mean())
        if not -0.5 <= depth <= grid.size[2] - 0.5 or _beside(points, grid):
            outside += 1
            continue
        filled = _filled(points[:, :2], (grid.size[1], grid.size[0]))
        if planes and (depth - planes[-1].depth_index) * grid.spacing_mm[2] < _SAME_PLANE_MM:
            planes[-1] = _Plane(planes[-1].depth_index, planes[-1].mask ^ filled)
        else:
            planes.append(_Plane(depth, filled))
    return planes, outside


def _filled(points: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels (rows, columns) whose centres lie in or on a polygon (n, 2) of x and y, even-odd.

    Row by row, each edge inverts what is right of it. (``skimage.draw.polygon``, which gives the
    same, tests every pixel against every edge: seconds, for contours that follow voxel edges.)
    """
    x, y = points.T
    far_x, far_y = np.roll(points, -1, axis=0).T
    low, high = np.minimum(y, far_y), np.maximum(y, far_y)
    first, end = np.clip([np.ceil(low), np.floor(high) + 1], 0, shape[0]).astype(np.intp)
    count = np.maximum(end - first, 0)
    edge = np.repeat(np.arange(len(points)), count)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    level = low[edge] == high[edge]
    rise = np.where(level, 1.0, (far_y - y)[edge])
    crossing = x[edge] + (row - y[edge]) * (far_x - x)[edge] / rise
    inverts = ~level & (row < high[edge])
    column = np.clip(np.ceil(crossing), 0, shape[1]).astype(np.intp)
    inverted = np.zeros((shape[0], shape[1] + 1), np.bool_)
    np.logical_xor.at(inverted, (row[inverts], column[inverts]), True)
    filled = np.logical_xor.accumulate(inverted, axis=1)[:, :-1]
    near = np.rint(crossing)
    on = (np.abs(crossing - near) < _ON_EDGE) & (near >= 0) & (near < shape[1])
    filled[row[on], near[on].astype(np.intp)] = True
    for one in np.flatnonzero(level):
        ends = np.sort((x[edge[one]], far_x[edge[one]]))
        left, right = np.clip([np.ceil(ends[0]), np.floor(ends[1]) + 1], 0, shape[1]).astype(int)
        filled[row[one], left:right] = True
    return filled


def _beside(points: NDArray[np.float64], grid: Grid) -> bool:
    """Does a contour miss the slices, in-plane?"""
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    return bool((high < -0.5).any() or (low > np.asarray(grid.size[:2]) - 0.5).any())


def _check_frame(header: Header, frame: str, ct: Stack) -> None:
    own = ct.headers[0].frame_of_reference_uid
    if frame != own:
        found = f"Frame of Reference UID (0020,0052) {frame or 'missing'}"
        raise _wrong(header, found, f"{own or 'one'}, that of the CT")


def _split_names(names: Iterable[str], pattern: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    every = sorted(set(names))
    taken = tuple(name for name in every if re.fullmatch(pattern, name))
    return taken, tuple(name for name in every if name not in taken)


def _union(groups: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(sorted({name for group in groups for name in group}))


def _wrong(header: Header, found: str, expected: str) -> LabelError:
    return LabelError(
        header.file,
        found=found,
        expected=expected,
        advice=LABEL_ADVICE,
    )
