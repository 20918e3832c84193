"""SUV from PET headers, after QIBA's vendor-neutral pseudo-code and the IBSI manual.

SUV = activity concentration x body size / dose, both activities at one reference time. Reference:
QIBA, "SUV vendor-neutral pseudo-code" (2012); Vacha et al., "Comprehensive Manual for SUV
Computation" (IBSI, 2026); DICOM PS3.3 C.8.9.1 (Series), C.8.9.4 (Image). Which time that is stands
in :mod:`petct_uad.ingest.dicom.pet_times`, which body size in
:mod:`petct_uad.ingest.dicom.body_size`.

Nothing is invented. What a header tells in another unit than DICOM's (a dose in MBq, a weight in g)
is read in it where the value can be nothing else, and is then in series.csv as assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, Self

from petct_uad.ingest.dicom.body_size import SuvKind, size_of
from petct_uad.ingest.dicom.nuclides import (
    GAMMA_HALF_LIFE_S,
    OTHER_NUCLIDES,
    POSITRON_EMITTERS,
    POSITRON_HALF_LIFE_S,
    nuclide_of_half_life,
    nuclides_in,
    same_half_life,
)
from petct_uad.ingest.dicom.pet_header import (
    PetHeader,
    SuvLog,
    number,
    number_or_none,
    within,
    wrong,
)
from petct_uad.ingest.dicom.pet_times import (
    SuvReference,
    frame_start,
    mean_decay,
    start_reference,
    uptake_if_told,
    uptake_s,
)
from petct_uad.ingest.params import IngestParams

DoseUnit = Literal["auto", "bq", "mbq"]

_BQ_PER_MBQ = 1e6
_GRAMS_PER_KG = 1000
_WEIGHT_KG = (1.0, 400.0)
_DOSE_BQ = (1e6, 1e11)  # below: no dose of which a PET could be made
_HALF_LIFE_S = (60.0, 1e6)
# Doses per body weight that are given, by half-life: water and rubidium in repeated, FDG and PSMA
# in single doses, antibodies that are imaged for days (EANM guidelines; Boellaard et al., Eur J
# Nucl Med Mol Imaging 42:328, 2015, for FDG).
_MBQ_PER_KG = ((1800.0, (1.0, 50.0)), (36_000.0, (1.0, 20.0)), (_HALF_LIFE_S[1], (0.05, 10.0)))
_PHILIPS_FACTOR = (1e-9, 1e9)
_PHILIPS_SUV_FACTOR = (1e-6, 1.0)  # g/ml per count, where the private creator is missing
_PHILIPS_ACTIVITY_FACTOR = (1e-3, 1e4)  # Bq/ml per count
# What SUV Type (0054,1006) calls a kind (PS3.3 C.8.9.1.1.14).
_KIND_OF_TYPE: dict[str, SuvKind] = {
    "BW": "bw",
    "LBM": "lbm_morgan",
    "LBMJANMA": "lbm",
    "LBMJAMES128": "lbm_james",
    "IBW": "ibw",
    "BSA": "bsa",
}

_WEIGHT = "Patient's Weight (0010,1030)"
_DOSE = "Radionuclide Total Dose (0018,1074)"
_HALF_LIFE = "Radionuclide Half Life (0018,1075)"


@dataclass(frozen=True)
class SuvOptions:
    """What params.yaml asks of an SUV."""

    kind: SuvKind = "bw"
    reference: SuvReference = "back_computed"
    dose_unit: DoseUnit = "auto"

    @classmethod
    def of(cls, params: IngestParams) -> Self:
        """Those of the section ``ingest``."""
        return cls(params.suv, params.suv_reference, params.dose_unit)


DEFAULT_OPTIONS = SuvOptions()


@dataclass(frozen=True)
class Decay:
    """A value of Decay Correction (0054,1102).

    Attributes:
        corrected: are the values corrected for decay?
        of_series: keywords that an SUV then needs of the series, beside the acquisition time.
        of_drug: likewise, of the item of the drug beside its dose.
    """

    corrected: bool
    of_series: tuple[str, ...] = ()
    of_drug: tuple[str, ...] = ()


_LIFE = ("RadionuclideHalfLife",)
DECAYS = {
    "START": Decay(True, ("SeriesDate", "SeriesTime"), _LIFE),
    "ADMIN": Decay(True),
    "NONE": Decay(False, ("AcquisitionTime", "ActualFrameDuration"), _LIFE),
}


@dataclass(frozen=True)
class SuvBasis:
    """What a series' SUV rests on, as series.csv tells it."""

    reference_rule: str  # of tables.REFERENCE_RULES
    dose_unit: str = ""  # Bq or MBq, as in the file; "" where no dose was needed
    nuclide: str = ""  # such as 18F, by its code or else its half-life
    half_life_min: float | None = None
    uptake_min: float | None = None  # injection to reference time, or to the scan; None if unknown
    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SuvConversion:
    """What each instance's rescaled values are multiplied with, and why."""

    factors: tuple[float, ...]
    basis: SuvBasis


def suv_conversion(
    headers: Sequence[PetHeader], options: SuvOptions = DEFAULT_OPTIONS
) -> SuvConversion:
    """What to multiply each instance's rescaled values with to get SUV.

    Args:
        headers: every instance of one series.
        options: ``bsa`` gives cm2/ml, the other kinds g/ml.

    Raises:
        UnitsError: the headers disagree, or a value is missing or implausible; names the tag.
    """
    first, log = headers[0], SuvLog()
    for header in headers:
        _check_same(first, header)
    _check_positrons(first)
    _check_attenuation(first)
    if _code_contradicts(first):
        log.note(
            f"Radionuclide Code (0054,0300) is that of {first.nuclide} and means "
            f"{first.nuclide_meaning}: the half-life counts"
        )
        headers = [replace(header, nuclide="") for header in headers]
    for tag in first.without_creator:
        log.assume(f"{tag} has no private creator: taken for that of {first.manufacturer}")
    try:
        found = _conversion(headers, options, log)
    except OverflowError as error:  # a date at the end of the calendar
        raise wrong(first, "dates and times", "that cannot be reckoned with", "a scan's") from error
    basis = replace(found.basis, assumed=tuple(log.assumed), notes=tuple(log.notes))
    return replace(found, basis=basis)


def _conversion(headers: Sequence[PetHeader], options: SuvOptions, log: SuvLog) -> SuvConversion:
    first = headers[0]
    if first.units in {"GML", "CM2ML"}:
        factor = _between_kinds(first, _kind_of_file(first, log), options.kind, log)
        return SuvConversion((factor,) * len(headers), _untimed(headers, "stored_suv"))
    if first.units == "CNTS":
        return _philips(headers, options, log)
    if first.units == "BQML":
        return _of_activity(headers, 1.0, options, log)
    expected = "GML, CM2ML, BQML or Philips CNTS"
    raise wrong(first, "Units (0054,1001)", first.units, expected)


def _check_same(first: PetHeader, header: PetHeader) -> None:
    """Everything but the acquisition must be constant in a series."""
    alike = replace(
        header,
        subject=first.subject,
        acquisition_date=first.acquisition_date,
        acquisition_time=first.acquisition_time,
        acquisition_datetime=first.acquisition_datetime,
        frame_duration_ms=first.frame_duration_ms,
        frame_reference_ms=first.frame_reference_ms,
        ge_scan_datetime=first.ge_scan_datetime,
    )
    if alike != first:
        names = [f.name for f in fields(alike) if getattr(alike, f.name) != getattr(first, f.name)]
        found = ", ".join(f"{name} {getattr(header, name)!r}" for name in names)
        raise wrong(header, "slices that disagree:", found, f"the same as {first.subject}")


def _check_positrons(header: PetHeader) -> None:
    """A SPECT that was stored as PET has no SUV of a PET, whatever its values are."""
    advice = "Take it out of the data: a SPECT is no PET, whatever its SOP class says."
    expected = "a nuclide that emits positrons, and no gamma camera"
    if header.gamma_camera:
        raise wrong(header, "a SPECT's tags:", header.gamma_camera, expected, advice)
    named = nuclides_in(header.drug) | nuclides_in(header.nuclide_meaning)
    named |= {header.nuclide} - {""}
    others = sorted(named & OTHER_NUCLIDES)
    if others and not named & POSITRON_EMITTERS:
        found = f"{', '.join(others)}, which emits no positrons"
        raise wrong(header, "Radionuclide (0054,0300), (0018,0031)", found, expected, advice)
    half_life_s = number_or_none(header.half_life_s)
    lives_like = nuclide_of_half_life(half_life_s) if half_life_s and not named else ""
    if lives_like in GAMMA_HALF_LIFE_S:
        found = f"{header.half_life_s} s, that of {lives_like}, which emits no positrons"
        raise wrong(header, _HALF_LIFE, found, expected, advice)


def _code_contradicts(header: PetHeader) -> bool:
    """Is the nuclide of the code another than that which stands beside it in words?"""
    meant = nuclides_in(header.nuclide_meaning)
    return bool(header.nuclide and meant) and header.nuclide not in meant


def _check_attenuation(header: PetHeader) -> None:
    corrected = header.corrected_image
    if corrected and "ATTN" not in corrected:
        tag, found = "Corrected Image (0028,0051)", "\\".join(corrected)
        raise wrong(header, tag, found, "ATTN: SUV needs attenuation correction")


def _check_decay(header: PetHeader) -> None:
    corrected, decay = header.corrected_image, DECAYS.get(header.decay_correction)
    if corrected and decay is not None and decay.corrected != ("DECY" in corrected):
        found = "\\".join(corrected) + f" with DecayCorrection {header.decay_correction!r}"
        expected = "DECY exactly when decay is corrected"
        raise wrong(header, "Corrected Image (0028,0051)", found, expected)


def _kind_of_file(header: PetHeader, log: SuvLog) -> SuvKind:
    """The kind of SUV that a file holds; an absent SUV Type means body weight (C.8.9.1)."""
    held = header.suv_type or ("BSA" if header.units == "CM2ML" else "BW")
    if held in _KIND_OF_TYPE and (held == "BSA") == (header.units == "CM2ML"):
        if held == "LBM":
            log.assume("SUV Type (0054,1006) LBM says no formula: Morgan's, as DICOM defines it")
        return _KIND_OF_TYPE[held]
    expected = "BSA with CM2ML; BW, LBM, LBMJAMES128, LBMJANMA or IBW with GML"
    found = f"{header.suv_type or 'missing'} with Units (0054,1001) {header.units}"
    raise wrong(header, "SUV Type (0054,1006)", found, expected)


def _between_kinds(header: PetHeader, held: SuvKind, asked: SuvKind, log: SuvLog) -> float:
    if held == asked:
        return 1.0
    weight_kg = _weight(header, log)
    return size_of(header, asked, weight_kg, log) / size_of(header, held, weight_kg, log)


def _weight(header: PetHeader, log: SuvLog) -> float:
    value = number_or_none(header.weight_kg)
    low, high = (_GRAMS_PER_KG * bound for bound in _WEIGHT_KG)
    if value is not None and low < value <= high:
        log.assume(f"{_WEIGHT} {value:g} is in g: nobody weighs so much in kg")
        return value / _GRAMS_PER_KG
    return within(header, _WEIGHT, header.weight_kg, _WEIGHT_KG, "kg")


def _philips(headers: Sequence[PetHeader], options: SuvOptions, log: SuvLog) -> SuvConversion:
    """Counts to SUVbw by (7053,1000), or to Bq/ml by (7053,1009)."""
    first = headers[0]
    suv = _philips_factor(first, "(7053,1000)", first.philips_suv_factor, _PHILIPS_SUV_FACTOR)
    if suv is not None:
        factor = suv * _between_kinds(first, "bw", options.kind, log)
        return SuvConversion((factor,) * len(headers), _untimed(headers, "vendor_factor"))
    activity = _philips_factor(
        first, "(7053,1009)", first.philips_activity_factor, _PHILIPS_ACTIVITY_FACTOR
    )
    if activity is None:
        tag = "Philips factors (7053,1000) and (7053,1009)"
        raise wrong(first, tag, "", "one of them, since Units (0054,1001) is CNTS")
    return _of_activity(headers, activity, options, log)


def _philips_factor(
    header: PetHeader, tag: str, text: str, plausible: tuple[float, float]
) -> float | None:
    if not text:
        return None
    name = f"Philips factor {tag}"
    value = number(header, name, text, "a positive number")
    if value <= 0:  # Philips writes 0 where a factor is not known
        return None
    if tag in header.without_creator:
        return within(header, f"{name} without its private creator", text, plausible, "per count")
    return within(header, name, text, _PHILIPS_FACTOR, "per count")


def _of_activity(
    headers: Sequence[PetHeader], bqml_per_value: float, options: SuvOptions, log: SuvLog
) -> SuvConversion:
    first = headers[0]
    _check_decay(first)
    weight_kg = _weight(first, log)
    if first.injections != 1:
        tag = "Radiopharmaceutical Information Sequence (0054,0016)"
        raise wrong(first, tag, f"{first.injections} items", "one injection")
    dose_bq, unit = _dose(first, weight_kg, options.dose_unit, log)
    remaining, basis = _remaining(headers, options, log)
    size = size_of(first, options.kind, weight_kg, log)
    factors = tuple(bqml_per_value * size / dose_bq / part for part in remaining)
    return SuvConversion(factors, replace(basis, dose_unit=unit))


def _dose(header: PetHeader, weight_kg: float, unit: DoseUnit, log: SuvLog) -> tuple[float, str]:
    """The injected dose in Bq, and the unit in which the file has it."""
    value = number(header, _DOSE, header.dose_bq, f"{_DOSE_BQ[0]:g} to {_DOSE_BQ[1]:g} Bq")
    dose_bq = value * _BQ_PER_MBQ
    if unit == "mbq":
        log.assume(f"{_DOSE} {value:g} is in MBq: ingest.dose_unit says so")
        return _plausible_dose(header, dose_bq, "Bq, as ingest.dose_unit mbq makes of it"), "MBq"
    if unit == "auto" and 0 < value < _DOSE_BQ[0] and _is_given(header, value / weight_kg):
        log.assume(f"{_DOSE} {value:g} is in MBq: it cannot be in Bq")
        return dose_bq, "MBq"
    return _plausible_dose(header, value, "Bq"), "Bq"


def _plausible_dose(header: PetHeader, dose_bq: float, unit: str) -> float:
    low, high = _DOSE_BQ
    if low <= dose_bq <= high:
        return dose_bq
    advice = (
        "Correct it from the scan's protocol; where all doses of the data set are in one unit, "
        "ingest.dose_unit can tell which: bq or mbq."
    )
    raise wrong(header, _DOSE, header.dose_bq, f"{low:g} to {high:g} {unit}", advice)


def _is_given(header: PetHeader, mbq_per_kg: float) -> bool:
    """Is so much of this nuclide given to anybody?"""
    half_life_s = _likely_half_life(header)
    if half_life_s is None:
        return False
    low, high = next((given for longest, given in _MBQ_PER_KG if half_life_s <= longest), (0, 0))
    return low <= mbq_per_kg <= high


def _likely_half_life(header: PetHeader) -> float | None:
    told = number_or_none(header.half_life_s)
    if told is not None and _HALF_LIFE_S[0] <= told <= _HALF_LIFE_S[1]:
        return told
    return POSITRON_HALF_LIFE_S.get(header.nuclide)


def _remaining(
    headers: Sequence[PetHeader], options: SuvOptions, log: SuvLog
) -> tuple[list[float], SuvBasis]:
    """Which fraction of the injected dose each instance's values refer to."""
    first = headers[0]
    if first.decay_correction == "ADMIN":
        return [1.0] * len(headers), _untimed(headers, "administration")
    if first.decay_correction not in DECAYS:
        expected = "START, ADMIN or NONE"
        raise wrong(first, "Decay Correction (0054,1102)", first.decay_correction, expected)
    half_life_s = _half_life(first, log)
    if first.decay_correction == "NONE":
        return _of_frames(headers, half_life_s, log)
    reference = start_reference(headers, half_life_s, options.reference, log)
    seconds = uptake_s(first, reference.moment, half_life_s, log)
    basis = _timed(first, reference.rule, half_life_s, seconds)
    return [_left(seconds, half_life_s)] * len(headers), basis


def _of_frames(
    headers: Sequence[PetHeader], half_life_s: float, log: SuvLog
) -> tuple[list[float], SuvBasis]:
    """Without decay correction each frame has its own time, and its mean activity."""
    starts = [frame_start(header, log) for header in headers]
    seconds = [
        uptake_s(header, start, half_life_s, log)
        for header, start in zip(headers, starts, strict=True)
    ]
    remaining = [
        _left(uptake, half_life_s) * mean_decay(header, half_life_s)
        for header, uptake in zip(headers, seconds, strict=True)
    ]
    return remaining, _timed(headers[0], "frame_times", half_life_s, min(seconds))


def _left(seconds: float, half_life_s: float) -> float:
    return float(2 ** (-seconds / half_life_s))


def _half_life(header: PetHeader, log: SuvLog) -> float:
    value = within(header, _HALF_LIFE, header.half_life_s, _HALF_LIFE_S, "s")
    known = POSITRON_HALF_LIFE_S.get(header.nuclide)
    if known is not None and not same_half_life(value, known):
        expected = f"{known} s, that of the nuclide it names, {header.nuclide}"
        raise wrong(header, _HALF_LIFE, header.half_life_s, expected)
    if known is None and not nuclide_of_half_life(value):
        log.assume(f"{_HALF_LIFE} {value:g} s is of no nuclide that is known here")
    return value


def _timed(header: PetHeader, rule: str, half_life_s: float, uptake: float | None) -> SuvBasis:
    return SuvBasis(
        rule,
        nuclide=header.nuclide or nuclide_of_half_life(half_life_s),
        half_life_min=half_life_s / 60,
        uptake_min=None if uptake is None else uptake / 60,
    )


def _untimed(headers: Sequence[PetHeader], rule: str) -> SuvBasis:
    """Of an SUV that no time enters; its uptake time is told all the same where it is known."""
    first, half_life_s = headers[0], _likely_half_life(headers[0])
    if half_life_s is None:
        return SuvBasis(rule, nuclide=first.nuclide)
    return _timed(first, rule, half_life_s, uptake_if_told(headers, half_life_s))
