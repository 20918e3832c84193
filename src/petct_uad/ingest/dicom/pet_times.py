"""Two moments of a PET: the injection, and the time to which its values' decay is corrected.

DecayCorrection START says "the start of the acquisition" (PS3.3 C.8.9.1.1.6) and no tag of a
single-frame PET holds that moment. One rule set finds it, in this order:

1. ``decay_correction_datetime``: Decay Correction DateTime (0018,9701), of enhanced PET.
2. ``ge_scan_time``: GE's private scan time (0009,100D).
3. ``series_time``: the series time, if it is not after the first acquisition. Without any
   acquisition time nothing tells whether it is, and a series that was reconstructed hours later
   would give several times its SUV: then the series is refused.
4. The series was written after its acquisition (reconstructed or processed later). Then
   ``back_computed`` is the acquisition time + the time of mean activity in the frame - Frame
   Reference Time (0054,1300), which is counted from the moment that is looked for; after QIBA, "SUV
   vendor-neutral pseudo-code" (2012), and the IBSI manual of SUV computation (2026). Used where
   ``ingest.suv_reference`` is ``back_computed``, the slices agree on it, and it is no later than
   the first acquisition. Not of GE, whose acquisition time is the whole scan's: five beds of one
   real study have it in common, with Frame Reference Times from 0 to 20 minutes.
5. ``earliest_acquisition``: the first acquisition time of the series.

With ADMIN it is the injection (``administration``); with NONE each frame has its own time
(``frame_times``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydicom.valuerep import DA, DT, TM

from petct_uad.core.errors import UnitsError
from petct_uad.ingest.dicom.pet_header import PetHeader, SuvLog, number_or_none, within, wrong

SuvReference = Literal["back_computed", "earliest_acquisition"]

HALF_LIVES_TO_SCAN = 5  # a longer uptake leaves no image; dates shifted by de-identification do
_DAY = timedelta(days=1)
_CLOCK_TICK = timedelta(seconds=1)  # series and acquisition times are rounded differently
_SAME_SUV = 0.005  # two times agree that change the SUV by less
_CONTRADICTION = 0.02  # two times contradict each other that change it by more
_START_TOLERANCE_S = 60.0  # between (0018,1078) and (0018,1072), of which one may lack seconds
_FRAME_MS = (1.0, 1e8)

_SERIES = "Series Date and Time (0008,0021), (0008,0031)"
_ACQUISITION = "Acquisition Date and Time (0008,0022), (0008,0032)"
_START_DATETIME = "Radiopharmaceutical Start DateTime (0018,1078)"
_START_TIME = "Radiopharmaceutical Start Time (0018,1072)"


@dataclass(frozen=True)
class Reference:
    """The moment to which a series' values refer, and which rule found it."""

    moment: datetime
    rule: str


def start_reference(
    headers: Sequence[PetHeader], half_life_s: float, preferred: SuvReference, log: SuvLog
) -> Reference:
    """The time to which DecayCorrection START has corrected the whole series.

    Raises:
        UnitsError: no rule finds it, or two times contradict each other; names the tags.
    """
    first = headers[0]
    if first.decay_datetime:
        tag = "Decay Correction DateTime (0018,9701)"
        moment = date_time_of(first, tag, first.decay_datetime)
        return Reference(moment, "decay_correction_datetime")
    acquired = first_acquisition(headers, log)
    if first.ge_scan_datetime:
        return _ge_reference(headers, acquired, half_life_s, log)
    if acquired is None:
        expected = "one, or (0008,002A), to know that the series time is not one of a later series"
        raise wrong(first, _ACQUISITION, "", expected)
    series = _date_time(first, _SERIES, first.series_date, first.series_time)
    computed = _back_computed(headers, acquired, half_life_s)
    if series <= acquired + _CLOCK_TICK:
        if computed is None:
            _compare_acquired(series, acquired, half_life_s, log)
        else:
            _compare_series(series, computed, half_life_s, log)
        return Reference(series, "series_time")
    log.note(f"the series time is {_minutes(acquired, series):.1f} min after the first acquisition")
    if first.is_ge:
        return Reference(acquired, "earliest_acquisition")
    return _of_later_series(acquired, computed, preferred, log)


def _ge_reference(
    headers: Sequence[PetHeader], acquired: datetime | None, half_life_s: float, log: SuvLog
) -> Reference:
    first, tag = headers[0], "GE scan time (0009,100D)"
    scan = min(date_time_of(header, tag, header.ge_scan_datetime) for header in headers)
    if acquired is not None and _suv_change(acquired, scan, half_life_s) > _CONTRADICTION:
        late = _minutes(acquired, scan)
        expected = f"a scan that starts before its first {_ACQUISITION}"
        raise wrong(first, tag, f"{late:.1f} min after the first acquisition", expected)
    if first.series_time:
        series = _date_time(first, _SERIES, first.series_date, first.series_time)
        early = acquired is None or series <= acquired + _CLOCK_TICK
        if early and abs(_suv_change(series, scan, half_life_s)) > _CONTRADICTION:
            log.assume(
                f"{tag} is {_minutes(series, scan):.1f} min after the series time: it counts"
            )
    return Reference(scan, "ge_scan_time")


def _compare_acquired(
    series: datetime, acquired: datetime, half_life_s: float, log: SuvLog
) -> None:
    """A series may be opened long before its scan; then frame times alone would confirm it."""
    if _suv_change(series, acquired, half_life_s) > _CONTRADICTION:
        early = _minutes(series, acquired)
        log.assume(
            f"the series time is {early:.1f} min before the first acquisition, and no Frame "
            f"Reference Time (0054,1300) confirms it: it counts"
        )


def _compare_series(series: datetime, computed: datetime, half_life_s: float, log: SuvLog) -> None:
    if abs(_suv_change(series, computed, half_life_s)) <= _CONTRADICTION:
        return
    apart = _minutes(series, computed)
    log.assume(
        f"Frame Reference Time (0054,1300) says that the scan started {abs(apart):.1f} min "
        f"{'after' if apart > 0 else 'before'} the series time: the series time counts"
    )


def _of_later_series(
    acquired: datetime, computed: datetime | None, preferred: SuvReference, log: SuvLog
) -> Reference:
    """Of a series that was written after its acquisition."""
    if preferred == "back_computed" and computed is not None:
        return Reference(computed, "back_computed")
    if preferred == "back_computed":
        log.assume(
            "Frame Reference Time (0054,1300) and Actual Frame Duration (0018,1242) do not tell "
            "when the scan started: the first acquisition counts"
        )
    return Reference(acquired, "earliest_acquisition")


def _back_computed(
    headers: Sequence[PetHeader], acquired: datetime, half_life_s: float
) -> datetime | None:
    """From frame times; None where a slice does not tell, two disagree, or it cannot be."""
    if headers[0].is_ge:
        return None
    starts = [_frame_reference(header, half_life_s) for header in headers]
    moments = [start for start in starts if start is not None]
    if len(moments) < len(headers):
        return None
    earliest, latest = min(moments), max(moments)
    alike = _suv_change(earliest, latest, half_life_s) <= _SAME_SUV
    return earliest if alike and _suv_change(acquired, earliest, half_life_s) <= _SAME_SUV else None


def _frame_reference(header: PetHeader, half_life_s: float) -> datetime | None:
    """From which moment a frame counts its Frame Reference Time; 0 there says nothing (QIBA)."""
    acquired = acquisition(header, SuvLog())
    reference_ms = number_or_none(header.frame_reference_ms)
    duration_ms = number_or_none(header.frame_duration_ms) or 0.0
    low_ms, high_ms = _FRAME_MS
    if acquired is None or not reference_ms or not low_ms <= duration_ms <= high_ms:
        return None
    offset_s = mean_activity_s(duration_ms / 1000, half_life_s) - reference_ms / 1000
    if abs(offset_s) > _DAY.total_seconds():
        return None
    return acquired + timedelta(seconds=offset_s)


def mean_activity_s(duration_s: float, half_life_s: float) -> float:
    """When in a frame, from its start, a decaying source has its mean activity."""
    decays = math.log(2) * duration_s / half_life_s
    return math.log(decays / -math.expm1(-decays)) * half_life_s / math.log(2)


def mean_decay(header: PetHeader, half_life_s: float) -> float:
    """Mean activity over a frame, relative to its start.

    Raises:
        UnitsError: Actual Frame Duration (0018,1242) is missing.
    """
    tag = "Actual Frame Duration (0018,1242)"
    duration_s = within(header, tag, header.frame_duration_ms, _FRAME_MS, "ms") / 1000
    decays = math.log(2) * duration_s / half_life_s
    return -math.expm1(-decays) / decays


def frame_start(header: PetHeader, log: SuvLog) -> datetime:
    """When a frame's acquisition began.

    Raises:
        UnitsError: the header does not say.
    """
    start = acquisition(header, log)
    if start is None:
        raise wrong(header, _ACQUISITION, "", "both, since DecayCorrection is NONE")
    return start


def first_acquisition(headers: Sequence[PetHeader], log: SuvLog) -> datetime | None:
    """The earliest acquisition of a series; None where no slice tells one."""
    starts = [start for header in headers if (start := acquisition(header, log)) is not None]
    return min(starts, default=None)


def acquisition(header: PetHeader, log: SuvLog) -> datetime | None:
    """Acquisition Date and Time, or Acquisition DateTime (0008,002A) where these are missing.

    Raises:
        UnitsError: a time that is none, or without the date that it needs.
    """
    tag = "Acquisition DateTime (0008,002A)"
    dated = header.acquisition_datetime
    if dated and not (header.acquisition_time and header.acquisition_date):
        log.note(f"the acquisition time is that of {tag}")
        return date_time_of(header, tag, dated)
    if not header.acquisition_time:
        return None
    return _dated_acquisition(header, log)


def _dated_acquisition(header: PetHeader, log: SuvLog) -> datetime:
    date = header.acquisition_date or header.series_date
    acquired = _date_time(header, _ACQUISITION, date, header.acquisition_time)
    # Without a date, an earlier clock may mean before the series or after midnight.
    undated = not header.acquisition_date and bool(header.series_time)
    if undated and acquired < _date_time(header, _SERIES, date, header.series_time):
        found = f"{header.acquisition_time} before the series time, and no date"
        raise wrong(header, _ACQUISITION, found, "an Acquisition Date (0008,0022)")
    if header.acquisition_datetime:
        _compare_acquisition(header, acquired, log)
    return acquired


def _compare_acquisition(header: PetHeader, acquired: datetime, log: SuvLog) -> None:
    tag = "Acquisition DateTime (0008,002A)"
    try:
        other = date_time_of(header, tag, header.acquisition_datetime)
    except UnitsError:  # not needed, and so of no harm
        return
    if abs(other - acquired).total_seconds() > _START_TOLERANCE_S:
        log.assume(f"{tag} contradicts {_ACQUISITION}: these count")


def uptake_s(header: PetHeader, scan: datetime, half_life_s: float, log: SuvLog) -> float:
    """Seconds from the injection to a scan.

    Raises:
        UnitsError: no injection, one after the scan or too long before it, or one of which two
            tags or no tag say the day.
    """
    seconds = (scan - _injection(header, scan, half_life_s, log)).total_seconds()
    longest_s = HALF_LIVES_TO_SCAN * half_life_s
    if not 0 <= seconds <= longest_s:
        found = (
            f"{header.injection_datetime or header.injection_time}, {seconds:.0f} s before the "
            f"scan at {scan}, with Radionuclide Half Life (0018,1075) {half_life_s:g} s"
        )
        expected = f"0 to {longest_s:g} s before it, {HALF_LIVES_TO_SCAN} half-lives at most"
        raise wrong(header, "injection (0018,1078), (0018,1072)", found, expected)
    return seconds


def uptake_if_told(headers: Sequence[PetHeader], half_life_s: float) -> float | None:
    """Seconds from injection to scan, where the SUV does not rest on them; None if unknown."""
    try:
        scan = first_acquisition(headers, SuvLog())
        return uptake_s(headers[0], scan, half_life_s, SuvLog()) if scan else None
    except UnitsError:
        return None


def _injection(header: PetHeader, scan: datetime, half_life_s: float, log: SuvLog) -> datetime:
    dated, timed = header.injection_datetime, header.injection_time
    if not dated and not timed:
        raise wrong(header, f"{_START_TIME} and Start DateTime (0018,1078)", "", "one of them")
    if len(dated) == len("YYYYMMDD") and timed:
        return _date_time(header, f"{_START_DATETIME} and {_START_TIME}", dated, timed)
    if not dated:
        return _undated_injection(header, scan, half_life_s, log)
    injected = date_time_of(header, _START_DATETIME, dated)
    if timed:
        _check_same_start(header, injected, half_life_s)
    elif not (injected.hour or injected.minute or injected.second):
        log.assume(f"{_START_DATETIME} is midnight to the second: a time, or none that was kept?")
    return injected


def _check_same_start(header: PetHeader, injected: datetime, half_life_s: float) -> None:
    """The two tags of the injection must tell one time of the day."""
    clock = _date_time(header, _START_TIME, f"{injected:%Y%m%d}", header.injection_time)
    apart = abs(clock - injected)
    apart_s = min(apart, _DAY - apart).total_seconds()
    if apart_s > min(_START_TOLERANCE_S, HALF_LIVES_TO_SCAN / 100 * half_life_s):
        found = f"{header.injection_datetime} and {_START_TIME} {header.injection_time}"
        expected = "the same time of the day in both"
        advice = "Correct the wrong one from the scan's protocol, or take it away."
        raise wrong(header, _START_DATETIME, found, expected, advice)


def _undated_injection(
    header: PetHeader, scan: datetime, half_life_s: float, log: SuvLog
) -> datetime:
    """On the last day on which it can have been, if the nuclide leaves no other day."""
    time = header.injection_time
    injected = _date_time(header, _START_TIME, f"{scan:%Y%m%d}", time)
    # The time has no date: an injection "after" the scan was before midnight.
    injected = injected if injected <= scan else injected - _DAY
    longest = timedelta(seconds=HALF_LIVES_TO_SCAN * half_life_s)
    days = (longest - (scan - injected)) // _DAY + 1
    if days > 1:
        found = (
            f"{time} without a date: with Radionuclide Half Life (0018,1075) {half_life_s:g} s it "
            f"may have been on any of {days} days"
        )
        raise wrong(header, _START_TIME, found, f"{_START_DATETIME} with the day of the injection")
    log.note(f"{_START_TIME} has no date: the half-life allows one day only")
    return injected


def _suv_change(one: datetime, other: datetime, half_life_s: float) -> float:
    """By which fraction the SUV grows when the later of two times counts; negative if earlier."""
    half_lives = (other - one).total_seconds() / half_life_s
    return math.expm1(math.log(2) * min(half_lives, 100.0))


def _minutes(one: datetime, other: datetime) -> float:
    return (other - one).total_seconds() / 60


def _date_time(header: PetHeader, tag: str, date: str, time: str) -> datetime:
    try:
        day, clock = DA(date), TM(time)
    except ValueError:
        day = clock = None
    if day is None or clock is None:
        raise wrong(header, tag, f"{date} {time}".strip(), "YYYYMMDD and HHMMSS")
    return datetime.combine(day, clock)


def date_time_of(header: PetHeader, tag: str, text: str) -> datetime:
    """A DT value in the clock of the file, whose offset (0008,0201) is needed if DT has one.

    Raises:
        UnitsError: it is none; names the tag.
    """
    try:
        moment = DT(text)
    except ValueError:
        moment = None
    if moment is None or len(text) < len("YYYYMMDDHHMM"):
        raise wrong(header, tag, text, "YYYYMMDDHHMMSS")
    plain = datetime.combine(moment.date(), moment.time())
    offset: timedelta | None = moment.utcoffset()
    if offset is None:
        return plain
    return plain - offset + _timezone(header, tag, text)


def _timezone(header: PetHeader, tag: str, text: str) -> timedelta:
    try:
        offset = DT(f"20000101000000{header.timezone}").utcoffset()
    except ValueError:
        offset = None
    if offset is None:
        expected = "Timezone Offset From UTC (0008,0201) beside a time with an offset"
        raise wrong(header, tag, text, expected)
    return timedelta(seconds=offset.total_seconds())
