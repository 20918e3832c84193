"""SUV from PET headers, after QIBA's vendor-neutral pseudo-code, without inventing anything.

SUVbw = activity concentration x weight / dose, both activities at one reference time. Reference:
QIBA, "SUV vendor-neutral pseudo-code" (2012); DICOM PS3.3 C.8.9.1 (Series), C.8.9.4 (Image).

Which reference time? For DecayCorrection START it is the series time. A series that was written
after its acquisition (post-processed) has another series time: there GE's private scan time
(0009,100D) counts, and without it the **earliest acquisition time** of the series. (Back-computing
the frame start from FrameReferenceTime differs by 0.95 % on one published CPS header; we do not.)

SUVlbm and SUVbsa take lean body mass (Janmahasatian et al., Clin Pharmacokinet 44:1051, 2005) and
body surface (Du Bois and Du Bois, Arch Intern Med 17:863, 1916) in the place of the weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Literal

import pydicom
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.tag import BaseTag
from pydicom.valuerep import DA, DT, TM

from petct_uad.core.errors import UnitsError
from petct_uad.ingest.dicom.parsing import remembered, tag_of

_GRAMS_PER_KG = 1000
_CM2_PER_M2 = 10_000
_WEIGHT_KG = (1.0, 400.0)
_HEIGHT_M = (0.3, 2.5)  # above: a height written in cm
_DOSE_BQ = (1e6, 1e11)  # below: a dose written in MBq
_HALF_LIFE_S = (60.0, 1e6)
_HALF_LIVES_TO_SCAN = 5  # a longer uptake leaves no image; dates shifted by de-identification do
# Seconds, from the Decay Data Evaluation Project; the headers' own value is used, this checks it.
_NUCLIDE_HALF_LIFE_S = {
    codes.cid4020._18Fluorine: 6586.2,
    codes.cid4020._11Carbon: 1221.8,
    codes.cid4020._13Nitrogen: 597.9,
    codes.cid4020._15Oxygen: 122.2,
    codes.cid4020._64Copper: 45721.0,
    codes.cid4020._68Gallium: 4062.6,
    codes.cid4020._82Rubidium: 76.3,
    codes.cid4020._89Zirconium: 282280.0,
    codes.cid4020._124Iodine: 360806.0,
}
_HALF_LIFE_TOLERANCE = 0.02
_DECAYED = {"START": True, "ADMIN": True, "NONE": False}
# What SUV Type (0054,1006) calls a kind; plain LBM does not say by which formula.
_SUV_TYPE = {"bw": "BW", "lbm": "LBMJANMA", "bsa": "BSA"}
_LEAN_MASS = {"M": (6680.0, 216.0), "F": (8780.0, 244.0)}

_GE, _PHILIPS = (0x0009, "GEMS_PETD_01"), (0x7053, "Philips PET Private Group")

# What ``read_pet_header`` looks at. A private block may lie anywhere in its group (PS3.5, 7.8.1).
PET_KEYWORDS = (
    "Units", "SUVType", "DecayCorrection", "CorrectedImage", "PatientWeight", "PatientSize",
    "PatientSex", "RadiopharmaceuticalInformationSequence", "SeriesDate", "SeriesTime",
    "AcquisitionDate", "AcquisitionTime", "TimezoneOffsetFromUTC", "ActualFrameDuration",
)  # fmt: skip
PET_PRIVATE_TAGS = tuple(
    group << 16 | element
    for group, offsets in ((_GE[0], (0x0D,)), (_PHILIPS[0], (0x00, 0x09)))
    for block in range(0x10, 0x100)
    for element in (block, *(block << 8 | offset for offset in offsets))
)

SuvKind = Literal["bw", "lbm", "bsa"]


@dataclass(frozen=True, slots=True)
class PetHeader:
    """What one PET file says about its units: texts as in the file, "" where it is silent."""

    subject: str  # the file
    units: str = ""  # (0054,1001)
    suv_type: str = ""  # (0054,1006)
    decay_correction: str = ""  # (0054,1102)
    corrected_image: tuple[str, ...] = ()  # (0028,0051)
    weight_kg: str = ""  # (0010,1030)
    height_m: str = ""  # (0010,1020)
    sex: str = ""  # (0010,0040)
    dose_bq: str = ""  # (0018,1074)
    half_life_s: str = ""  # (0018,1075)
    nuclide_half_life_s: float | None = None  # of the nuclide in (0054,0300)
    injections: int = 1  # items of (0054,0016)
    injection_datetime: str = ""  # (0018,1078)
    injection_time: str = ""  # (0018,1072)
    series_date: str = ""  # (0008,0021)
    series_time: str = ""  # (0008,0031)
    acquisition_date: str = ""  # (0008,0022)
    acquisition_time: str = ""  # (0008,0032)
    timezone: str = ""  # (0008,0201)
    ge_scan_datetime: str = ""  # (0009,100D), GEMS_PETD_01
    frame_duration_ms: str = ""  # (0018,1242)
    philips_suv_factor: str = ""  # (7053,1000)
    philips_activity_factor: str = ""  # (7053,1009)


def suv_factors(headers: Sequence[PetHeader], kind: SuvKind = "bw") -> tuple[float, ...]:
    """What to multiply each instance's rescaled values with to get SUV.

    Args:
        headers: every instance of one series.
        kind: ``bw`` and ``lbm`` give g/ml, ``bsa`` gives cm2/ml.

    Raises:
        UnitsError: the headers disagree, or a value is missing or implausible; names the tag.
    """
    first = headers[0]
    for header in headers:
        _check_same(first, header)
    _check_attenuation(first)
    if first.units in {"GML", "CM2ML"}:
        return (_suv_factor(first, kind),) * len(headers)
    return tuple(factor * _per_body_weight(first, kind) for factor in _bw_factors(headers))


def _bw_factors(headers: Sequence[PetHeader]) -> tuple[float, ...]:
    first = headers[0]
    if first.units == "BQML":
        return _activity_factors(headers)
    if first.units == "CNTS":
        return _philips_factors(headers)
    expected = "GML, BQML or Philips CNTS"
    raise _wrong(first, "Units (0054,1001)", first.units, expected)


def read_pet_header(dataset: Dataset, subject: str) -> PetHeader:
    """Pick out what SUVbw needs."""
    drugs = dataset.get("RadiopharmaceuticalInformationSequence") or [Dataset()]
    drug = drugs[0]
    return PetHeader(
        subject=subject,
        units=_text(dataset, "Units"),
        suv_type=_text(dataset, "SUVType"),
        decay_correction=_text(dataset, "DecayCorrection"),
        corrected_image=tuple(filter(None, _text(dataset, "CorrectedImage").upper().split("\\"))),
        weight_kg=_text(dataset, "PatientWeight"),
        height_m=_text(dataset, "PatientSize"),
        sex=_text(dataset, "PatientSex"),
        dose_bq=_text(drug, "RadionuclideTotalDose"),
        half_life_s=_text(drug, "RadionuclideHalfLife"),
        nuclide_half_life_s=_nuclide_half_life(drug),
        injections=len(drugs),
        injection_datetime=_text(drug, "RadiopharmaceuticalStartDateTime"),
        injection_time=_text(drug, "RadiopharmaceuticalStartTime"),
        series_date=_text(dataset, "SeriesDate"),
        series_time=_text(dataset, "SeriesTime"),
        acquisition_date=_text(dataset, "AcquisitionDate"),
        acquisition_time=_text(dataset, "AcquisitionTime"),
        timezone=_text(dataset, "TimezoneOffsetFromUTC"),
        ge_scan_datetime=_private(dataset, *_GE, 0x0D),
        frame_duration_ms=_text(dataset, "ActualFrameDuration"),
        philips_suv_factor=_private(dataset, *_PHILIPS, 0x00),
        philips_activity_factor=_private(dataset, *_PHILIPS, 0x09),
    )


def _check_same(first: PetHeader, header: PetHeader) -> None:
    """Everything but the acquisition must be constant in a series."""
    alike = replace(
        header,
        subject=first.subject,
        acquisition_date=first.acquisition_date,
        acquisition_time=first.acquisition_time,
        frame_duration_ms=first.frame_duration_ms,
        ge_scan_datetime=first.ge_scan_datetime,
    )
    if alike != first:
        names = [f.name for f in fields(alike) if getattr(alike, f.name) != getattr(first, f.name)]
        found = ", ".join(f"{name} {getattr(header, name)!r}" for name in names)
        raise _wrong(header, "slices that disagree:", found, f"the same as {first.subject}")


def _check_attenuation(header: PetHeader) -> None:
    corrected = header.corrected_image
    if corrected and "ATTN" not in corrected:
        tag, found = "Corrected Image (0028,0051)", "\\".join(corrected)
        raise _wrong(header, tag, found, "ATTN: SUV needs attenuation correction")


def _check_decay(header: PetHeader) -> None:
    corrected, decayed = header.corrected_image, _DECAYED.get(header.decay_correction)
    if corrected and decayed is not None and decayed != ("DECY" in corrected):
        found = "\\".join(corrected) + f" with DecayCorrection {header.decay_correction!r}"
        expected = "DECY exactly when decay is corrected"
        raise _wrong(header, "Corrected Image (0028,0051)", found, expected)


def _suv_factor(header: PetHeader, kind: SuvKind) -> float:
    """From the SUV that the file holds to the kind asked for; an absent type means body weight."""
    held = header.suv_type or ("BSA" if header.units == "CM2ML" else "BW")
    if (held == "BSA") == (header.units == "CM2ML"):
        if held == _SUV_TYPE[kind]:
            return 1.0
        if held == "BW":
            return _per_body_weight(header, kind)
    expected = " or ".join(dict.fromkeys((_SUV_TYPE[kind], "BW")))
    found = f"{header.suv_type or 'missing'} with Units (0054,1001) {header.units}"
    raise _wrong(header, "SUV Type (0054,1006)", found, f"{expected}, for ingest.suv {kind}")


def _per_body_weight(header: PetHeader, kind: SuvKind) -> float:
    """Lean mass (g) or surface (cm2) over body weight (g)."""
    if kind == "bw":
        return 1.0
    weight = _weight(header)
    height = _within(header, "Patient's Size (0010,1020)", header.height_m, _HEIGHT_M, "m")
    if kind == "bsa":
        surface_m2 = 0.007184 * weight**0.425 * (100 * height) ** 0.725
        return float(surface_m2 * _CM2_PER_M2 / (weight * _GRAMS_PER_KG))
    if header.sex not in _LEAN_MASS:
        raise _wrong(header, "Patient's Sex (0010,0040)", header.sex, "M or F, for lean body mass")
    offset, slope = _LEAN_MASS[header.sex]
    return 9270 / (offset + slope * weight / height**2)


def _weight(header: PetHeader) -> float:
    return _within(header, "Patient's Weight (0010,1030)", header.weight_kg, _WEIGHT_KG, "kg")


def _philips_factors(headers: Sequence[PetHeader]) -> tuple[float, ...]:
    """Philips: counts to SUVbw by (7053,1000), or to Bq/ml by (7053,1009)."""
    first = headers[0]
    suv = _optional_factor(first, "(7053,1000)", first.philips_suv_factor)
    if suv is not None:
        return (suv,) * len(headers)
    activity = _optional_factor(first, "(7053,1009)", first.philips_activity_factor)
    if activity is None:
        tag = "Philips factors (7053,1000) and (7053,1009)"
        raise _wrong(first, tag, "", "one of them, since Units (0054,1001) is CNTS")
    return tuple(activity * factor for factor in _activity_factors(headers))


def _optional_factor(header: PetHeader, tag: str, text: str) -> float | None:
    value = _number(header, f"Philips factor {tag}", text, "a positive number") if text else 0.0
    return value if value > 0 else None  # Philips writes 0 where a factor is not known


def _activity_factors(headers: Sequence[PetHeader]) -> tuple[float, ...]:
    first = headers[0]
    _check_decay(first)
    weight = _weight(first)
    if first.injections != 1:
        tag = "Radiopharmaceutical Information Sequence (0054,0016)"
        raise _wrong(first, tag, f"{first.injections} items", "one injection")
    dose = _within(first, "Radionuclide Total Dose (0018,1074)", first.dose_bq, _DOSE_BQ, "Bq")
    grams_per_bq = weight * _GRAMS_PER_KG / dose
    decays = [_decay_to_image(header, headers) for header in headers]
    return tuple(grams_per_bq / decay for decay in decays)


def _decay_to_image(header: PetHeader, headers: Sequence[PetHeader]) -> float:
    """Which fraction of the injected dose the image's values refer to."""
    if header.decay_correction == "ADMIN":
        return 1.0
    half_life = _half_life(header)
    if header.decay_correction == "START":
        return _remaining(header, _series_start(headers), half_life)
    if header.decay_correction == "NONE":
        start = _acquisition(header)
        if start is None:
            raise _wrong(header, "Acquisition Date and Time (0008,0022), (0008,0032)", "",
                         "both, since DecayCorrection is NONE")  # fmt: skip
        return _remaining(header, start, half_life) * _mean_decay(header, half_life)
    expected = "START, ADMIN or NONE"
    raise _wrong(header, "Decay Correction (0054,1102)", header.decay_correction, expected)


def _mean_decay(header: PetHeader, half_life_s: float) -> float:
    """Mean activity over a frame, relative to its start."""
    tag = "Actual Frame Duration (0018,1242)"
    duration_s = _within(header, tag, header.frame_duration_ms, (1.0, 1e8), "ms") / 1000
    decays = math.log(2) * duration_s / half_life_s
    return -math.expm1(-decays) / decays


def _half_life(header: PetHeader) -> float:
    tag = "Radionuclide Half Life (0018,1075)"
    value = _within(header, tag, header.half_life_s, _HALF_LIFE_S, "s")
    known = header.nuclide_half_life_s
    if known is not None and abs(value / known - 1) > _HALF_LIFE_TOLERANCE:
        raise _wrong(header, tag, header.half_life_s, f"{known} s, that of the nuclide it names")
    return value


def _remaining(header: PetHeader, scan: datetime, half_life_s: float) -> float:
    uptake_s = (scan - _injection(header, scan)).total_seconds()
    longest_s = _HALF_LIVES_TO_SCAN * half_life_s
    if not 0 <= uptake_s <= longest_s:
        found = (
            f"{header.injection_datetime or header.injection_time}, {uptake_s:.0f} s before the "
            f"scan at {scan}, with Radionuclide Half Life (0018,1075) {half_life_s:g} s"
        )
        expected = f"0 to {longest_s:g} s before it, {_HALF_LIVES_TO_SCAN} half-lives at most"
        raise _wrong(header, "injection (0018,1078), (0018,1072)", found, expected)
    return float(2 ** (-uptake_s / half_life_s))


def _injection(header: PetHeader, scan: datetime) -> datetime:
    if header.injection_datetime:
        return _datetime(header, "Radiopharmaceutical Start DateTime (0018,1078)",
                         header.injection_datetime)  # fmt: skip
    tag = "Radiopharmaceutical Start Time (0018,1072)"
    if not header.injection_time:
        raise _wrong(header, f"{tag} and Start DateTime (0018,1078)", "", "one of them")
    injected = _date_time(header, tag, scan.strftime("%Y%m%d"), header.injection_time)
    # The time has no date: an injection "after" the scan was before midnight.
    return injected if injected <= scan else injected - timedelta(days=1)


def _series_start(headers: Sequence[PetHeader]) -> datetime:
    """The time to which DecayCorrection START has corrected the whole series."""
    first = headers[0]
    tag = "Series Date and Time (0008,0021), (0008,0031)"
    series = _date_time(first, tag, first.series_date, first.series_time)
    starts = [start for start in map(_acquisition, headers) if start is not None]
    if not starts or series <= min(starts):
        return series
    if first.ge_scan_datetime:
        return min(_datetime(h, "GE scan time (0009,100D)", h.ge_scan_datetime) for h in headers)
    return min(starts)


def _acquisition(header: PetHeader) -> datetime | None:
    tag = "Acquisition Date and Time (0008,0022), (0008,0032)"
    if not header.acquisition_time:
        return None
    date = header.acquisition_date or header.series_date
    acquired = _date_time(header, tag, date, header.acquisition_time)
    series = "Series Date and Time (0008,0021), (0008,0031)"
    # Without a date, an earlier clock may mean before the series or after midnight.
    undated = not header.acquisition_date and bool(header.series_time)
    if undated and acquired < _date_time(header, series, date, header.series_time):
        found = f"{header.acquisition_time} before the series time, and no date"
        raise _wrong(header, tag, found, "an Acquisition Date (0008,0022)")
    return acquired


def _date_time(header: PetHeader, tag: str, date: str, time: str) -> datetime:
    try:
        day, clock = DA(date), TM(time)
    except ValueError:
        day = clock = None
    if day is None or clock is None:
        raise _wrong(header, tag, f"{date} {time}".strip(), "YYYYMMDD and HHMMSS")
    return datetime.combine(day, clock)


def _datetime(header: PetHeader, tag: str, text: str) -> datetime:
    """A DT value in the clock of the file, whose offset (0008,0201) is needed if DT has one."""
    try:
        moment = DT(text)
    except ValueError:
        moment = None
    if moment is None or len(text) < len("YYYYMMDDHHMM"):
        raise _wrong(header, tag, text, "YYYYMMDDHHMMSS")
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
        raise _wrong(header, tag, text, expected)
    return timedelta(seconds=offset.total_seconds())


def _within(
    header: PetHeader, tag: str, text: str, bounds: tuple[float, float], unit: str
) -> float:
    low, high = bounds
    expected = f"{low:g} to {high:g} {unit}"
    value = _number(header, tag, text, expected)
    if not low <= value <= high:
        raise _wrong(header, tag, text, expected)
    return value


def _number(header: PetHeader, tag: str, text: str, expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _wrong(header, tag, text, expected)
    return value


def _wrong(header: PetHeader, tag: str, found: str, expected: str) -> UnitsError:
    return UnitsError(
        header.subject,
        found=f"{tag} {found or 'missing'}",
        expected=expected,
        advice="Export the PET again with this tag kept, or correct it from the scan's protocol.",
    )


def _nuclide_half_life(drug: Dataset) -> float | None:
    for item in drug.get("RadionuclideCodeSequence") or ():
        # 99SDM and SNM3 are older names of the SNOMED codes that DICOM now calls SRT.
        scheme = _text(item, "CodingSchemeDesignator")
        scheme = "SRT" if scheme in {"99SDM", "SNM3"} else scheme
        code = Code(_text(item, "CodeValue"), scheme, _text(item, "CodeMeaning"))
        for known, half_life_s in _NUCLIDE_HALF_LIFE_S.items():
            if code == known:
                return half_life_s
    return None


def _text(dataset: Dataset, keyword: str) -> str:
    """An element's text as it stands in the file, even where it is no valid value."""
    tag = tag_of(keyword)
    return remembered(dataset, tag, _element_text) if tag in dataset else ""


def _element_text(dataset: Dataset, tag: BaseTag) -> str:
    element = dataset.get_item(tag)
    try:
        value = dataset[tag].value
    except (ValueError, TypeError):
        value = element.value if element is not None else ""
    return _plain(value)


def _private(dataset: Dataset, group: int, creator: str, offset: int) -> str:
    keys = dataset.keys()  # iterating over the data set itself would convert all of it
    if all(tag >> 16 != group for tag in keys):  # pydicom takes ten times as long to find out
        return ""
    try:
        return _plain(dataset.private_block(group, creator)[offset].value)
    except KeyError:
        return ""


def _plain(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if isinstance(value, (list, pydicom.multival.MultiValue)):
        return "\\".join(map(_plain, value))
    return str(value).strip(" \0")
