"""When in its scan a PET slice was measured: what tells frames in time, and gates, apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydicom.dataset import Dataset

from petct_uad.ingest.dicom.parsing import values
from petct_uad.ingest.dicom.pet_header import number_or_none, text_of

PetKind = Literal["static", "dynamic", "gated"]

_KINDS: dict[str, PetKind] = {"GATED": "gated", "DYNAMIC": "dynamic"}
TIMING_KEYWORDS = (
    "SeriesType", "NumberOfTimeSlices", "NumberOfTimeSlots", "FrameReferenceTime",
    "ActualFrameDuration", "DecayFactor", "TriggerTime", "TemporalPositionIdentifier", "ImageIndex",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Timing:
    """What a PET slice says of its place in time (PS3.3 C.8.9.1 and C.8.9.4); None where silent."""

    series_type: str = ""  # first value of (0054,1000)
    time_slices: int = 0  # (0054,0101): frames of a dynamic series
    time_slots: int = 0  # (0054,0071): gates of a gated series
    reference_ms: float | None = None  # (0054,1300), after the series' reference time
    duration_ms: float | None = None  # (0018,1242)
    trigger_ms: float | None = None  # (0018,1060), after the start of the cycle
    temporal_position: float | None = None  # (0020,0100), or (0020,9128) of an enhanced object
    decay_factor: float | None = None  # (0054,1321), by which the image was multiplied
    image_index: float | None = None  # (0054,1330), which runs through slices, then frames

    @property
    def kind(self) -> PetKind:
        """What the header calls the series. WHOLE BODY and STATIC are one image of one time.

        Numbers of time slices and slots decide nothing: GE's whole-body PET has one for each bed.
        """
        return _KINDS.get(self.series_type, "static")

    @property
    def frames(self) -> int:
        """How many frames or gates the series is said to have; 0 where that is not said."""
        return {"gated": self.time_slots, "dynamic": self.time_slices}.get(self.kind, 0)


NO_TIMING = Timing()


def read_timing(dataset: Dataset) -> Timing:
    """Pick it out of a header; a value that is no number counts as absent."""

    def told(keyword: str) -> float | None:
        return number_or_none(text_of(dataset, keyword))

    return Timing(
        series_type=str((values(dataset, "SeriesType") or ("",))[0]).strip().upper(),
        time_slices=int(told("NumberOfTimeSlices") or 0),
        time_slots=int(told("NumberOfTimeSlots") or 0),
        reference_ms=told("FrameReferenceTime"),
        duration_ms=told("ActualFrameDuration"),
        trigger_ms=told("TriggerTime"),
        temporal_position=told("TemporalPositionIdentifier"),
        decay_factor=told("DecayFactor"),
        image_index=told("ImageIndex"),
    )
