"""Files to stacks of slices, series and studies."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from petct_uad.core.errors import IdentityError
from petct_uad.ingest.dicom.frames import TimeFrame, in_time, split_frames
from petct_uad.ingest.dicom.geometry import COSINE_TOLERANCE, SAME_PLACE_MM, SPACING_TOLERANCE_MM
from petct_uad.ingest.dicom.header import Header
from petct_uad.ingest.found import FoundRejection
from petct_uad.ingest.rejections import rejected_row

StackKey = tuple[str, int]

# What tells stacks of one geometry apart where slices crowd each other.
_TELLING = (
    "slice_thickness_mm", "acquisition_number", "acquisition_time", "timing.trigger_ms",
    "timing.reference_ms",
)  # fmt: skip


@dataclass(frozen=True)
class Series:
    """The files of one SeriesInstanceUID, or one stack of its slices; sorted by file."""

    headers: tuple[Header, ...]
    frame: TimeFrame | None = None  # of a dynamic or gated PET

    @property
    def first(self) -> Header:
        """The header that speaks for what all files share."""
        return self.headers[0]

    @property
    def uid(self) -> str:
        """SeriesInstanceUID."""
        return self.first.series_instance_uid

    @property
    def key(self) -> StackKey:
        """What tells it from every other stack."""
        return stack_key(self.first)


@dataclass(frozen=True)
class DicomStudy:
    """The series of one StudyInstanceUID, with the label objects drawn on them."""

    uid: str
    series: tuple[Series, ...]

    def of(self, *modalities: str) -> tuple[Series, ...]:
        """The series of some modalities."""
        return tuple(item for item in self.series if item.first.modality in modalities)

    @property
    def headers(self) -> list[Header]:
        """Of all its files."""
        return [header for item in self.series for header in item.headers]

    @property
    def frames(self) -> set[str]:
        """Frame of Reference UIDs (0020,0052)."""
        return {header.frame_of_reference_uid for header in self.headers} - {""}

    @property
    def patient(self) -> str:
        """PatientID of the images."""
        return (self.of("CT", "PT") or self.series)[0].first.patient


def group_studies(headers: Iterable[Header]) -> tuple[list[DicomStudy], list[FoundRejection]]:
    """Group headers by series and study; refuse what shares a UID or a PatientID and must not.

    A label object belongs to the study whose series it references, whatever its own study is; one
    that references none of those that are there to its own study, and where that has no images, to
    the one study of its patient in its frame of reference.
    """
    by_series: dict[str, list[Header]] = {}
    for header in sorted(headers):
        by_series.setdefault(header.series_instance_uid, []).append(header)
    series, rejected = _consistent_series(by_series.values())
    home = {item.uid: item.first.study_instance_uid for item in series}
    images = [item.first for item in series if item.first.modality in {"CT", "PT"}]
    by_study: dict[str, list[Series]] = {}
    for item in series:
        own = _study_of(item.first, home, images)
        by_study.setdefault(own, []).extend(split_into_stacks(item))
    studies = [DicomStudy(uid, tuple(items)) for uid, items in sorted(by_study.items())]
    return studies, rejected


def _study_of(header: Header, home: Mapping[str, str], images: Sequence[Header]) -> str:
    referenced = [home[uid] for uid in header.referenced_series if uid in home]
    own = header.study_instance_uid
    if referenced or any(image.study_instance_uid == own for image in images):
        return (referenced or [own])[0]
    place = header.patient, header.frame_of_reference_uid
    shared = {image.study_instance_uid for image in images
              if (image.patient, image.frame_of_reference_uid) == place and place[1]}  # fmt: skip
    return shared.pop() if len(shared) == 1 else own


def split_into_stacks(series: Series) -> list[Series]:
    """Tell apart the stacks of slices that share one SeriesInstanceUID.

    Slices of another matrix, PixelSpacing, ImageOrientationPatient or ImageType never belong
    together. Slices that lie closer than their own spacing are distinguished by SliceThickness,
    AcquisitionNumber or acquisition time if that leaves whole stacks of the same anatomy: a bed of
    a PET, or one slice of a step-and-shoot CT, is no stack of its own. Frames and gates of a PET
    are stacks in the order of their time, whatever the order of the files.
    """
    if series.first.modality not in {"CT", "PT"}:
        return [series]
    slices = [item for header in series.headers for item in header.frames or (header,)]
    looks = _grouped(slices, _alike)
    stacks = [stack for look in looks for stack in _stacks(look)]
    return [
        Series(tuple(_in_stack(header, number) for header in stack.headers), stack.frame)
        for number, stack in enumerate(stacks, start=1)
    ]


def _in_stack(header: Header, number: int) -> Header:
    return header if header.stack == number else replace(header, stack=number)


def stack_key(header: Header) -> StackKey:
    """SeriesInstanceUID and the number of the stack in it."""
    return header.series_instance_uid, header.stack


def _grouped(
    slices: Sequence[Header], alike: Callable[[Header, Header], bool]
) -> list[list[Header]]:
    """Groups in the order of their first slices; each slice is like the first of its group."""
    groups: list[list[Header]] = []
    for item in slices:
        home = next((group for group in groups if alike(group[0], item)), None)
        if home is None:
            groups.append([item])
        else:
            home.append(item)
    return groups


def _alike(one: Header, other: Header) -> bool:
    return (
        (one.rows, one.columns, one.image_type) == (other.rows, other.columns, other.image_type)
        and _close(one.pixel_spacing_mm, other.pixel_spacing_mm, SPACING_TOLERANCE_MM)
        and _close(one.orientation, other.orientation, COSINE_TOLERANCE)
    )


def _close(
    one: tuple[float, ...] | None, other: tuple[float, ...] | None, tolerance: float
) -> bool:
    # A missing tag tells nothing apart: stack_slices will name it.
    if one is None or other is None or one == other:
        return True
    return all(abs(x - y) <= tolerance for x, y in zip(one, other, strict=True))


def _stacks(look: list[Header]) -> list[Series]:
    if look[0].modality != "PT":
        return [Series(tuple(stack)) for stack in _by_acquisition(look)]
    parts = split_frames(look) or _by_acquisition(look)
    told = in_time(parts, crowded=any(map(_crowded, parts)))
    return [Series(stack, frame) for stack, frame in told]


def _by_acquisition(slices: list[Header]) -> list[list[Header]]:
    if not _crowded(slices):
        return [slices]
    for name in _TELLING:
        parts = _grouped(slices, functools.partial(_same, get=attrgetter(name)))
        if len(parts) > 1 and not any(map(_crowded, parts)) and _same_anatomy(parts):
            return parts
    return [slices]


def _same(one: Header, other: Header, get: Callable[[Header], object]) -> bool:
    return get(one) == get(other)


def _crowded(slices: Sequence[Header]) -> bool:
    """Do slices lie much closer than the usual distance between them?"""
    depths = _depths(slices)
    if depths is None or len(depths) < 2:
        return False
    gaps = np.diff(depths)
    return bool(gaps.min() < SAME_PLACE_MM or gaps.min() < 0.5 * np.median(gaps))


def _same_anatomy(parts: Sequence[Sequence[Header]]) -> bool:
    """Does each part have two slices, and lie by more than half within the largest?"""
    spans = [(depths[0], depths[-1]) for depths in map(_depths, parts) if depths is not None]
    low, high = max(spans, key=lambda span: span[1] - span[0])
    shared = [min(high, end) - max(low, start) - (end - start) / 2 for start, end in spans]
    return min(map(len, parts)) > 1 and min(shared) > 0


def _depths(slices: Sequence[Header]) -> NDArray[np.float64] | None:
    """Sorted positions along the normal of the first slice."""
    cosines = slices[0].orientation
    positions = [item.position_mm for item in slices if item.position_mm is not None]
    if cosines is None or len(positions) < len(slices):
        return None
    normal = np.cross(cosines[:3], cosines[3:])
    depths: NDArray[np.float64] = np.sort(np.asarray(positions) @ normal)
    return depths


def _consistent_series(
    groups: Iterable[list[Header]],
) -> tuple[list[Series], list[FoundRejection]]:
    kept, rejected = [], []
    for group in groups:
        found = {(h.study_instance_uid, h.modality, h.patient) for h in group}
        if len(found) == 1:
            kept.append(Series(tuple(group)))
        else:
            rejected.append(_mixed_series(group[0].series_instance_uid, sorted(found)))
    return sorted(kept, key=lambda item: item.uid), rejected


def _mixed_series(uid: str, found: list[tuple[str, str, str]]) -> FoundRejection:
    return rejected_row(
        IdentityError(
            uid,
            found=" and ".join(f"study {s}, {m}, patient {p}" for s, m, p in found[:2]),
            expected="one study, modality and PatientID per SeriesInstanceUID (0020,000E)",
            advice="Give each series its own UID.",
        )
    )
