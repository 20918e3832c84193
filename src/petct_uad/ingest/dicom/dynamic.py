"""What is taken of a dynamic or gated PET: nothing, its last image, or the mean over a window.

SUV of every frame refers to one time, that of the whole series. So the mean of frames, weighted by
Actual Frame Duration (0018,1242), is the mean activity of the window with its decay corrected: what
one frame as long as the window would hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.valuerep import DT

from petct_uad.core.errors import FramesError, GeometryError, UnitsError
from petct_uad.ingest.dicom.frames import moment
from petct_uad.ingest.dicom.geometry import SAME_PLACE_MM, Grid, Stack, stack_slices
from petct_uad.ingest.dicom.header import Header
from petct_uad.ingest.dicom.pet_header import PetHeader, number_or_none
from petct_uad.ingest.dicom.series import Series, StackKey, stack_key
from petct_uad.ingest.dicom.timing import PetKind
from petct_uad.ingest.dicom.volumes import Volume, pet_headers
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.tables import PET_IS

# Reads one frame, given what the other files of its series say of their times.
ReadFrame = Callable[..., Volume]  # of a path, a stack, and ``others`` by keyword

_EPOCH = datetime(1970, 1, 1)  # the clocks of one file have one zone
_TELLING_DECAY = 0.02  # natural logarithm; less than that is in no frame's factor to see
_WORDS = {"dynamic": "frame", "gated": "gate"}
_COUNT = {
    "dynamic": "Number of Time Slices (0054,0101)",
    "gated": "Number of Time Slots (0054,0071)",
}


@dataclass(frozen=True)
class PetScan:
    """The images of one scan in their order; a plain PET has one."""

    images: tuple[Series, ...]

    @property
    def kind(self) -> PetKind:
        """Of its frames."""
        frame = self.images[0].frame
        return frame.kind if frame else "static"

    @property
    def said(self) -> int:
        """How many frames or gates its header speaks of; 0 where it does not."""
        return self.images[0].first.timing.frames

    @property
    def keys(self) -> tuple[StackKey, ...]:
        """Of all its stacks."""
        return tuple(item.key for item in self.images)

    @property
    def name(self) -> str:
        """``a dynamic PET of 6 frames``."""
        count = len(self.images) if len(self.images) > 1 else max(self.said, 1)
        return f"a {self.kind} PET of {count} {_WORDS[self.kind]}{'s' if count > 1 else ''}"


@dataclass(frozen=True)
class TakenPet:
    """The images of a scan that make the PET volume, on one grid."""

    scan: PetScan
    stacks: tuple[Stack, ...]
    note: str = ""  # what was taken of how much; "" for a plain PET

    @property
    def keys(self) -> tuple[StackKey, ...]:
        """Of the stacks that were taken."""
        return tuple(stack_key(stack.headers[0]) for stack in self.stacks)


def pet_scans(series: Iterable[Series]) -> list[PetScan]:
    """Series by the scan that they are images of.

    Frames of one series belong together, and so do series of one study that are a frame each of as
    many as their headers speak of.
    """
    scans: dict[tuple[object, ...], list[Series]] = {}
    for item in series:
        scans.setdefault(_scan_of(item), []).append(item)
    return [PetScan(tuple(sorted(items, key=_order))) for items in scans.values()]


def take_images(scan: PetScan, params: IngestParams) -> TakenPet:
    """What ``ingest.dynamic`` asks for.

    Raises:
        FramesError: it is ``refuse`` and the scan has frames or gates; no frame lies in the window.
        GeometryError: the images that are asked for make no regular grid, or not the same one.
        UnitsError: frames do not say how long they took.
    """
    if scan.kind == "static":
        return TakenPet(scan, (_stack(scan.images[0], params),))
    if params.dynamic == "refuse":
        raise _unnamed(scan)
    if params.dynamic == "last":
        return TakenPet(scan, (_stack(scan.images[-1], params),), f"the last of {_told(scan)}")
    return _take_window(scan, params)


def read_images(raw: Path, taken: TakenPet, read: ReadFrame) -> Volume:
    """The volume of a plain PET, of one frame, or the mean of several.

    Raises:
        UnitsError, PixelError: see :func:`petct_uad.ingest.dicom.volumes.read_pet`.
    """
    told = _headers_by_stack(raw, taken.scan) if taken.scan.kind != "static" else {}
    _check_one_reference(taken.scan, told)
    volumes = (read(raw, stack, others=_others(told, stack)) for stack in taken.stacks)
    if len(taken.stacks) > 1:
        return _mean(taken, volumes)
    volume = next(volumes)
    said = (f"{PET_IS}{taken.note}",) if taken.note else ()
    return replace(volume, notes=(*said, *volume.notes))


def _mean(taken: TakenPet, volumes: Iterable[Volume]) -> Volume:
    """Weighted by duration, slice by slice; one frame at a time is in memory."""
    grid = taken.stacks[0].grid
    total, weights = np.zeros(grid.size[::-1]), np.zeros((grid.size[2], 1, 1))
    notes, bases = {f"{PET_IS}{taken.note}": None}, []
    for volume in volumes:
        bases.append(volume.suv)
        weight = _durations_s(volume.stack)[:, None, None]
        total += sitk.GetArrayViewFromImage(volume.image) * weight
        weights += weight
        notes |= dict.fromkeys(volume.notes)
    image = grid.image((total / weights).astype(np.float32))
    return Volume(taken.stacks[0], image, tuple(notes), bases[0], taken.stacks)


def _scan_of(item: Series) -> tuple[object, ...]:
    if item.frame is None:
        return item.key
    if item.frame.of > 1:  # the stacks of one series are numbered one after the other
        return item.uid, item.first.stack - item.frame.number
    first = item.first
    return (
        item.frame.kind, first.timing.frames, first.rows, first.columns, first.pixel_spacing_mm,
        first.image_type, first.corrected_image, first.frame_of_reference_uid, len(item.headers),
    )  # fmt: skip


def _order(item: Series) -> tuple[tuple[float, ...], StackKey]:
    return moment(item.headers), item.key


def _stack(item: Series, params: IngestParams) -> Stack:
    return stack_slices(item.headers, params.max_gap_mm)


def _told(scan: PetScan) -> str:
    found = len(scan.images)
    missing = f", and {_COUNT[scan.kind]} says {scan.said}" if scan.said not in {0, found} else ""
    return f"{found} {_WORDS[scan.kind]}s of a {scan.kind} PET{missing}"


def _unnamed(scan: PetScan) -> FramesError:
    there = len(scan.images)
    first = scan.images[0].first
    kind = f"Series Type (0054,1000) {first.timing.series_type or 'missing'}"
    found = f"{scan.name} ({kind}; {_COUNT[scan.kind]} {scan.said or 'missing'}"
    window = " and a `dynamic_window_s`" if scan.kind == "dynamic" else ""
    return FramesError(
        first.series_instance_uid,
        found=f"{found}; {there} of them there)",
        expected="one image of the whole scan, or to be told which of these is meant",
        advice=f"Set `ingest.dynamic: last`, or `sum`{window} for their mean weighted by duration, "
        "or export a static reconstruction.",
    )


def _take_window(scan: PetScan, params: IngestParams) -> TakenPet:
    for item in scan.images:
        _check_durations(item)
    images, span = scan.images, ""
    if scan.kind == "dynamic":
        spans = _spans_s(scan.images)
        low, high = params.dynamic_window_s
        inside = [low <= start and end <= high for start, end in spans]
        images = tuple(item for item, ok in zip(scan.images, inside, strict=True) if ok)
        if not images:
            raise _none_inside(scan, spans, params)
        ends = [ends for ends, ok in zip(spans, inside, strict=True) if ok]
        span = f", {ends[0][0]:g} to {ends[-1][1]:g} s from the first one's start"
    stacks = tuple(_stack(item, params) for item in images)
    for stack in stacks:
        _check_same_grid(stack, stacks[0].grid)
    taken = f"{len(stacks)} of {_told(scan)}{span}"
    return TakenPet(scan, stacks, f"the mean, weighted by duration, of {taken}")


def _check_durations(item: Series) -> None:
    for header in item.headers:
        if not (header.timing.duration_ms or 0) > 0:
            raise UnitsError(
                header.file,
                found=f"Actual Frame Duration (0018,1242) {header.timing.duration_ms or 'missing'}",
                expected="how long each frame took, in ms: `ingest.dynamic: sum` weighs by it",
                advice="Export the PET again with this tag kept, or set `ingest.dynamic: last`.",
            )


def _durations_s(stack: Stack) -> NDArray[np.float64]:
    return np.array([(header.timing.duration_ms or 0) / 1000 for header in stack.headers])


def _spans_s(images: Sequence[Series]) -> list[tuple[float, float]]:
    """When each frame began and ended, in s after the first began; whole milliseconds."""
    spans = next(filter(None, (_spans_by(images, key) for key in (_clock_s, _by_reference_s))), [])
    if spans:
        return spans
    raise UnitsError(
        images[0].first.file,
        found="neither Acquisition Date and Time (0008,0022), (0008,0032) nor Frame Reference Time "
        "(0054,1300) that differ from frame to frame",
        expected="one of them, to know which frames lie in ingest.dynamic_window_s",
        advice="Export the PET again with these tags kept, or set `ingest.dynamic: last`.",
    )


def _spans_by(
    images: Sequence[Series], start_s: Callable[[Header], float | None]
) -> list[tuple[float, float]]:
    spans = []
    for item in images:
        told = [(start_s(header), (header.timing.duration_ms or 0) / 1000)
                for header in item.headers]  # fmt: skip
        known = [(start, start + lasts) for start, lasts in told if start is not None]
        if len(known) < len(told):
            return []
        spans.append((min(start for start, _ in known), max(end for _, end in known)))
    zero = spans[0][0]
    spans = [(round(start - zero, 3), round(end - zero, 3)) for start, end in spans]
    return spans if len({start for start, _ in spans}) == len(spans) else []


def _clock_s(header: Header) -> float | None:
    """When a slice's frame began, by Acquisition Date and Time."""
    try:
        clock = DT(header.acquisition_time) if len(header.acquisition_time) >= 14 else None
    except ValueError:
        return None
    return (clock.replace(tzinfo=None) - _EPOCH).total_seconds() if clock else None


def _by_reference_s(header: Header) -> float | None:
    """The same by Frame Reference Time, which is near the middle of the frame."""
    timing = header.timing
    if timing.reference_ms is None:
        return None
    return (timing.reference_ms - (timing.duration_ms or 0) / 2) / 1000


def _headers_by_stack(raw: Path, scan: PetScan) -> dict[StackKey, tuple[PetHeader, ...]]:
    """What the slices of each image of a scan say of their units and times."""
    return {item.key: tuple(pet_headers(raw, item.headers)) for item in scan.images}


def _others(told: Mapping[StackKey, tuple[PetHeader, ...]], stack: Stack) -> tuple[PetHeader, ...]:
    """Those of the other images of a stack's series."""
    own = stack_key(stack.headers[0])
    return tuple(pet for key, pets in told.items() if key[0] == own[0] and key != own
                 for pet in pets)  # fmt: skip


def _check_one_reference(scan: PetScan, told: Mapping[StackKey, tuple[PetHeader, ...]]) -> None:
    """Refuse frames that are corrected for decay to their own start each.

    By Decay Factor (0054,1321) of the first and the last frame: with one reference time they
    differ by the decay between the two, and beside that only as their durations do.
    """
    first, last = (item.first for item in (scan.images[0], scan.images[-1]))
    factors = [header.timing.decay_factor or 0.0 for header in (first, last)]
    half_life_s = _half_life_s(told.get(scan.images[0].key, ()))
    spans = _spans_by(scan.images, _clock_s) if scan.kind == "dynamic" else []
    if min(factors) <= 0 or half_life_s <= 0 or len(spans) < 2:
        return
    decay = math.log(2) / half_life_s
    within = [decay * (end - start) / 2 for start, end in (spans[0], spans[-1])]
    between = decay * spans[-1][0]
    apart = math.log(factors[1] / factors[0]) - (within[1] - within[0])
    fitting = factors[0] * math.exp(between + within[1] - within[0])
    if between > _TELLING_DECAY and apart < between / 2:
        raise UnitsError(
            last.file,
            found=f"Decay Factor (0054,1321) {factors[1]:g}, and {factors[0]:g} in a frame that "
            f"began {spans[-1][0]:g} s before: each is corrected to its own start",
            expected=f"{fitting:.4g} there, for one reference time",
            advice="Export the PET with all frames corrected to the start of the scan.",
        )


def _half_life_s(told: Sequence[PetHeader]) -> float:
    """Radionuclide Half Life (0018,1075); 0 where it is no number."""
    return (number_or_none(told[0].half_life_s) or 0.0) if told else 0.0


def _check_same_grid(stack: Stack, grid: Grid) -> None:
    own = stack.grid
    alike = own.size == grid.size and np.allclose(
        (*own.origin_mm, *own.spacing_mm, *own.direction),
        (*grid.origin_mm, *grid.spacing_mm, *grid.direction),
        rtol=0, atol=SAME_PLACE_MM,
    )  # fmt: skip
    if not alike:
        raise GeometryError(
            stack.headers[0].file,
            found=f"a frame of {own.size} voxels from {own.origin_mm} mm",
            expected=f"{grid.size} from {grid.origin_mm} mm, as the first frame of the window",
            advice="Export all frames on one grid, or set `ingest.dynamic: last`.",
        )


def _none_inside(
    scan: PetScan, spans: Sequence[tuple[float, float]], params: IngestParams
) -> FramesError:
    low, high = params.dynamic_window_s
    return FramesError(
        scan.images[0].uid,
        found=f"{scan.name}, none of them wholly within {low:g} to {high:g} s: they lie at "
        + ", ".join(f"{start:g} to {end:g}" for start, end in spans),
        expected="a frame within ingest.dynamic_window_s, in s after the first frame's start",
        advice="Widen `ingest.dynamic_window_s`.",
    )
