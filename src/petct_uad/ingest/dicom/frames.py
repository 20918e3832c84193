"""Which slices of a PET series are one frame in time, or one gate.

Neither file names nor Instance Number (0020,0013) say so. The slices that lie at one place are put
in the order of their time, or of their gates; the n-th of every place make the n-th frame. So beds
that were scanned one after the other, several times over, stay together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from petct_uad.ingest.dicom.geometry import SAME_PLACE_MM
from petct_uad.ingest.dicom.header import Header
from petct_uad.ingest.dicom.pet_header import number_or_none
from petct_uad.ingest.dicom.timing import PetKind

Slices = tuple[Header, ...]
_Key = Callable[[Header], float | None]


@dataclass(frozen=True)
class TimeFrame:
    """Which of the frames or gates of its series a stack is."""

    kind: PetKind
    number: int  # from 1, in the order of time or of the cycle
    of: int  # how many were found


def reference(header: Header) -> float | None:
    """Frame Reference Time (0054,1300) in ms."""
    return header.timing.reference_ms


def acquired(header: Header) -> float | None:
    """Acquisition date and time as one number that rises with time."""
    return number_or_none(header.acquisition_time)


def _position(header: Header) -> float | None:
    return header.timing.temporal_position


def _trigger(header: Header) -> float | None:
    return header.timing.trigger_ms


def _index(header: Header) -> float | None:
    # Two reconstructions of one scan are numbered on, too: only where the series says what it is.
    return None if header.timing.kind == "static" else header.timing.image_index


_ORDER: dict[PetKind, tuple[_Key, ...]] = {
    "static": (reference, acquired, _position, _trigger),
    "dynamic": (reference, acquired, _position, _index),
    "gated": (_trigger, _position, _index, reference, acquired),
}


def split_frames(slices: Sequence[Header]) -> list[Slices]:
    """Whole frames in their order; none where each place is there once, or nothing tells them."""
    places = _places(slices)
    if not places or len(set(map(len, places))) > 1 or len(places[0]) == 1:
        return []
    ranked = (_ranked(places, key) for key in _ORDER[slices[0].timing.kind])
    return next(filter(None, ranked), [])


def in_time(
    parts: Iterable[Sequence[Header]], crowded: bool
) -> list[tuple[Slices, TimeFrame | None]]:
    """Stacks of one look in the order of their time, and which frame each is; None for no frame.

    Args:
        parts: what the slices of a PET were split into.
        crowded: some part has several slices at one place, which nothing could tell apart.
    """
    stacks = [tuple(part) for part in parts]
    timing = stacks[0][0].timing
    if len(stacks) == 1:
        lone = timing.kind != "static" and (timing.frames > 1 or crowded)
        return [(stacks[0], TimeFrame(timing.kind, 1, 1) if lone else None)]
    moments = [moment(stack) for stack in stacks]
    if timing.kind == "static" and len(set(moments)) < len(stacks):
        return [(stack, None) for stack in stacks]
    kind = _unsaid(moments) if timing.kind == "static" else timing.kind
    ordered = sorted(zip(moments, stacks, strict=True), key=lambda pair: pair[0])
    return [
        (stack, TimeFrame(kind, number, len(stacks)))
        for number, (_, stack) in enumerate(ordered, start=1)
    ]


def _unsaid(moments: Sequence[tuple[float, ...]]) -> PetKind:
    """The kind of frames whose series does not say it: those of one time, each with its trigger."""
    times = {told[:2] for told in moments}  # reference, acquired
    triggers = {told[-1] for told in moments}
    return "gated" if len(times) == 1 and len(triggers) == len(moments) else "dynamic"


def moment(stack: Sequence[Header]) -> tuple[float, ...]:
    """When a frame began, by whatever says so: what orders the frames of one scan."""
    keys = _ORDER[stack[0].timing.kind]
    told = ([key(header) for header in stack] for key in keys)
    return tuple(min((v for v in found if v is not None), default=-np.inf) for found in told)


def _ranked(places: Sequence[Sequence[Header]], key: _Key) -> list[Slices]:
    ordered = []
    for place in places:
        told = [(value, header) for header in place if (value := key(header)) is not None]
        if len({value for value, _ in told}) < len(place):
            return []
        ordered.append([header for _, header in sorted(told, key=lambda pair: pair[0])])
    return list(zip(*ordered, strict=True))


def _places(slices: Sequence[Header]) -> list[list[Header]]:
    """Slices by their position along the normal of the first; none where one says no position."""
    cosines = slices[0].orientation
    positions = [header.position_mm for header in slices if header.position_mm is not None]
    if cosines is None or len(positions) < len(slices):
        return []
    depth = np.asarray(positions) @ np.cross(cosines[:3], cosines[3:])
    order = np.argsort(depth, kind="stable")
    starts = np.flatnonzero(np.diff(depth[order]) > SAME_PLACE_MM) + 1
    return [[slices[index] for index in group] for group in np.split(order, starts)]
