"""Robustness, PET units and time: SUVbw is computed from what stands there, or not at all.

``Patient`` weighs 70 kg, got 350 MBq of a nuclide with a half-life of 6586.2 s at 09:00:00, and was
scanned at 10:00:00; its DecayCorrection is ADMIN, so that its SUV has no decay in it.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.func.ingest.conftest import Edit
from tests.func.ingest.hostile import (
    HALF_LIFE_S,
    SLICES,
    SUV_PER_BQML,
    Arrange,
    Check,
    Outcome,
    as_before,
    both,
    case,
    clean,
    drug,
    gives,
    noted,
    nothing,
    only,
    pet,
    refused,
    replaced,
    run_case,
    scaled,
    sets,
)

HOUR = 3600
WEIGHT, DOSE, HALF_LIFE = "(0010,1030)", "(0018,1074)", "(0018,1075)"
START = sets(DecayCorrection="START")
NO_TIME = drug(RadiopharmaceuticalStartTime=None)


def grown(seconds: float, half_life_s: float = HALF_LIFE_S) -> float:
    """By what SUV is greater when the dose decayed for so long."""
    return float(2 ** (seconds / half_life_s))


def weighs(text: bytes) -> Arrange:
    odd = b"70.00001"
    arrange = pet(sets(PatientWeight=odd.decode()))
    return replaced("PET/*.dcm", odd, text.ljust(8), arrange)


def dosed(text: bytes) -> Arrange:
    odd = b"350000001."
    arrange = pet(drug(RadionuclideTotalDose=odd.decode()))
    return replaced("PET/*.dcm", odd, text.ljust(10), arrange)


def nuclide(value: str, scheme: str, half_life_s: str) -> Edit:
    """DecayCorrection START with a named nuclide and a half-life."""

    def edit(dataset: Dataset, index: int) -> None:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, "nuclide"
        drug(RadionuclideCodeSequence=[code], RadionuclideHalfLife=half_life_s)(dataset, index)
        START(dataset, index)

    return edit


def vendor(group: int, creator: str, offset: int, vr: str, value: str) -> Edit:
    """A private element as the vendor writes it."""
    return lambda dataset, _: dataset.private_block(group, creator, create=True).add_new(
        offset, vr, value
    )


def unowned(tag: int, value: str) -> Edit:
    """A private element as de-identification leaves it: without its creator."""
    return lambda dataset, _: dataset.add_new(tag, "LO", value)


def told(column: str, words: str) -> Check:
    """series.csv says so in the row of the case's PET."""

    def check(done: Outcome, _baseline: Outcome) -> None:
        row = next(row for row in done.series("PT") if row.patient == "Q7")
        assert words in getattr(row, column), row

    return check


def per_bed(dataset: Dataset, index: int) -> None:
    """Each slice of another bed position, three minutes after the one before."""
    START(dataset, index)
    dataset.AcquisitionTime = f"10{3 * index:02d}00"


def undecayed(dataset: Dataset, index: int) -> None:
    """Not corrected for decay, each slice three minutes after the one before, 150 s long."""
    per_bed(dataset, index)
    sets(DecayCorrection="NONE", CorrectedImage=["ATTN", "SCAT"])(dataset, index)
    dataset.ActualFrameDuration = "150000"


def decayed_slice_by_slice(before: np.ndarray) -> np.ndarray:
    rate = math.log(2) / HALF_LIFE_S
    frame = rate * 150 / (1 - math.exp(-rate * 150))  # mean activity over a frame, inverted
    factors = [grown(HOUR + 180 * index) * frame for index in range(SLICES)]
    decayed: np.ndarray = before * np.array(factors)[:, None, None]
    return decayed


def dates(injected: str, scanned: str, clock: str, **more: object) -> Edit:
    """Injected at a full date and time, scanned on a day at a time; decay corrected to START."""
    scan = sets(
        SeriesDate=scanned, AcquisitionDate=scanned, SeriesTime=clock, AcquisitionTime=clock, **more
    )
    return both(START, scan, drug(RadiopharmaceuticalStartDateTime=injected), NO_TIME)


CASES = {
    "GML": case(pet(sets(Units="GML")), scaled(1 / SUV_PER_BQML), clean),
    "GML: of lean body mass": case(
        pet(sets(Units="GML", SUVType="LBM")), refused("units", "(0010,1020)", "missing"), nothing
    ),
    "GML: of lean body mass, with the height": case(
        pet(sets(Units="GML", SUVType="LBMJAMES128", PatientSize="1.75")),
        scaled(70 / (1.07 * 70 - 148 * 0.4**2) / SUV_PER_BQML), clean,
    ),
    "GML: of a sex that has no formula": case(
        pet(sets(Units="GML", SUVType="IBW", PatientSize="1.75", PatientSex="O")),
        scaled(70 / ((48.0 + 1.06 * 23 + 45.5 + 0.91 * 23) / 2) / SUV_PER_BQML), clean,
        noted("(0010,0040) is O", "mean of the formulas"), told("suv_assumed", "(0010,0040)"),
    ),
    "CM2ML": case(
        pet(sets(Units="CM2ML", PatientSize="1.75")),
        scaled(70_000 / (71.84 * 70**0.425 * 175**0.725) / SUV_PER_BQML), clean,
    ),
    "CM2ML: without the height": case(
        pet(sets(Units="CM2ML")), refused("units", "(0010,1020)", "missing"), nothing
    ),
    "BQML": case(pet(), as_before, clean),
    "CNTS": case(
        pet(sets(Units="CNTS"), vendor(0x7053, "Philips PET Private Group", 0, "DS", "0.0005")),
        scaled(0.0005 / SUV_PER_BQML), clean,
    ),
    "CNTS: by the activity factor": case(
        pet(sets(Units="CNTS"), vendor(0x7053, "Philips PET Private Group", 9, "DS", "2")),
        scaled(2), clean,
    ),
    "CNTS: by a factor whose private creator is gone": case(
        pet(sets(Units="CNTS", Manufacturer="Philips Medical Systems"),
            unowned(0x70531000, "0.0005")),
        scaled(0.0005 / SUV_PER_BQML), clean, noted("(7053,1000) has no private creator"),
        told("suv_assumed", "(7053,1000)"), told("reference_rule", "vendor_factor"),
    ),
    "CNTS: by an activity factor whose private creator is gone": case(
        pet(sets(Units="CNTS", Manufacturer="Philips"), unowned(0x70531009, "2")),
        scaled(2), clean, told("suv_assumed", "(7053,1009)"),
    ),
    "CNTS: by a factor that nobody owns": case(
        pet(sets(Units="CNTS"), unowned(0x70531000, "0.0005")),
        refused("units", "(7053,1000)"), nothing,
    ),
    "CNTS: by a factor of somebody else": case(
        pet(sets(Units="CNTS", Manufacturer="Philips"),
            vendor(0x7053, "ACME", 0, "DS", "0.0005")),
        refused("units", "(7053,1000)"), nothing,
    ),
    "CNTS: without factors": case(
        pet(sets(Units="CNTS")), refused("units", "(7053,1000)", "(7053,1009)"), nothing
    ),
    "CNTS: with factors 0": case(
        pet(sets(Units="CNTS"), vendor(0x7053, "Philips PET Private Group", 0, "DS", "0")),
        refused("units", "(7053,1000)"), nothing,
    ),
    "PROPCNTS": case(
        pet(sets(Units="PROPCNTS")), refused("units", "(0054,1001)", "PROPCNTS"), nothing
    ),
    "units missing": case(pet(sets(Units=None)), refused("units", "(0054,1001)"), nothing),
    "units missing: of one slice": case(
        pet(only(2, sets(Units=None))), refused("units", "disagree"), nothing
    ),
    "DecayCorrection NONE": case(pet(undecayed), gives("pet", decayed_slice_by_slice), clean),
    "DecayCorrection NONE: without the frame's duration": case(
        pet(undecayed, sets(ActualFrameDuration=None)), refused("units", "(0018,1242)"), nothing
    ),
    "DecayCorrection NONE: without the time": case(
        pet(undecayed, sets(AcquisitionTime=None)), refused("units", "(0008,0032)"), nothing
    ),
    "DecayCorrection NONE: although corrected": case(
        pet(undecayed, sets(CorrectedImage=["DECY", "ATTN"])), refused("units", "(0028,0051)"),
        nothing,
    ),
    "DecayCorrection START": case(pet(START), scaled(grown(HOUR)), clean),
    "DecayCorrection ADMIN": case(pet(sets(DecayCorrection="ADMIN")), as_before, clean),
    "DecayCorrection NONE: missing altogether": case(
        pet(sets(DecayCorrection=None)), refused("units", "(0054,1102)"), nothing
    ),
    "weight 0": case(pet(sets(PatientWeight="0")), refused("units", WEIGHT), nothing),
    "weight missing": case(pet(sets(PatientWeight=None)), refused("units", WEIGHT), nothing),
    "weight missing: empty": case(weighs(b""), refused("units", WEIGHT), nothing),
    "weight '70 kg'": case(weighs(b"70 kg"), refused("units", WEIGHT, "70 kg"), nothing),
    "weight '70 kg': '70,5'": case(weighs(b"70,5"), refused("units", WEIGHT, "70,5"), nothing),
    "weight '70 kg': NaN": case(weighs(b"NaN"), refused("units", WEIGHT), nothing),
    "weight '70 kg': in grams": case(
        weighs(b"70000"), as_before, clean, noted(WEIGHT, "in g"), told("suv_assumed", WEIGHT)
    ),
    "weight '70 kg': between the units": case(weighs(b"700"), refused("units", WEIGHT), nothing),
    "weight '70 kg': negative": case(weighs(b"-70"), refused("units", WEIGHT), nothing),
    "dose 0": case(dosed(b"0"), refused("units", DOSE), nothing),
    "dose missing": case(
        pet(drug(RadionuclideTotalDose=None)), refused("units", DOSE, "missing"), nothing
    ),
    "dose missing: no radiopharmaceutical": case(
        pet(sets(RadiopharmaceuticalInformationSequence=None)), refused("units", DOSE), nothing
    ),
    "dose missing: two injections": case(
        pet(lambda dataset, _: dataset.RadiopharmaceuticalInformationSequence.append(Dataset())),
        refused("units", "(0054,0016)", "2 items"), nothing,
    ),
    "dose given in MBq": case(
        dosed(b"350"), as_before, clean, noted(DOSE, "in MBq"), told("dose_unit", "MBq"),
        told("suv_assumed", DOSE),
    ),
    "dose given in MBq: but more than anybody is given": case(
        dosed(b"35000"), refused("units", DOSE, "35000"), nothing
    ),
    "dose given in MBq: or in mCi": case(dosed(b"9.5"), refused("units", DOSE, "9.5"), nothing),
    "dose given in MBq: with its unit": case(
        dosed(b"350 MBq"), refused("units", DOSE, "350 MBq"), nothing
    ),
    "dose given in MBq: infinite": case(dosed(b"inf"), refused("units", DOSE), nothing),
    "half-life missing": case(
        pet(START, drug(RadionuclideHalfLife=None)), refused("units", HALF_LIFE, "missing"), nothing
    ),
    "half-life missing: but not needed": case(
        pet(drug(RadionuclideHalfLife=None)), as_before, clean
    ),
    "half-life of another nuclide": case(
        pet(nuclide("C-111A1", "SRT", "1223")), refused("units", HALF_LIFE, "6586.2"), nothing
    ),
    "half-life of another nuclide: by its SNOMED CT code": case(
        pet(nuclide("77004003", "SCT", "1223")), refused("units", HALF_LIFE, "6586.2"), nothing
    ),
    "half-life of another nuclide: in minutes": case(
        pet(START, drug(RadionuclideHalfLife="109.77")), refused("units"), nothing
    ),
    "half-life of another nuclide: the right one": case(
        pet(nuclide("C-105A1", "SRT", "1221.8")), scaled(grown(HOUR, 1221.8)), clean
    ),
    "half-life of another nuclide: which emits no positrons": case(
        pet(nuclide("447553000", "SCT", "574301")),
        refused("units", "177Lu", "emits no positrons"), nothing,
    ),
    "half-life of another nuclide: of a SPECT, without its code": case(
        pet(drug(RadionuclideHalfLife="574300")),
        refused("units", HALF_LIFE, "177Lu", "emits no positrons"), nothing,
    ),
    "half-life of another nuclide: of a SPECT, by its drug": case(
        pet(drug(Radiopharmaceutical="Tc-99m MDP")), refused("units", "99mTc"), nothing
    ),
    "SPECT as PET: by its collimator": case(
        pet(sets(CollimatorType="PARA")), refused("units", "(0018,1181) PARA"), nothing
    ),
    "SPECT as PET: by its detectors": case(
        pet(lambda dataset, _: setattr(dataset, "DetectorInformationSequence", [Dataset()])),
        refused("units", "(0054,0022)"), nothing,
    ),
    "SPECT as PET: a PET's ring is none": case(pet(sets(CollimatorType="RING")), as_before, clean),
    "injection after scan": case(
        pet(dates("20200101113000", "20200101", "100000")),
        refused("units", "(0018,1078)"), nothing,
    ),
    "injection after scan: on another day": case(
        pet(dates("20200102090000", "20200101", "100000")),
        refused("units", "(0018,1078)"), nothing,
    ),
    "injection after scan: by its time alone": case(
        pet(START, drug(RadiopharmaceuticalStartTime="113000")), refused("units", "(0018,1072)"),
        nothing,
    ),
    "injection after scan: a day too early": case(
        pet(dates("20191231090000", "20200101", "100000")),
        refused("units", "(0018,1078)", "half-lives"), nothing,
    ),
    "over midnight": case(
        pet(dates("20191231233000", "20200101", "003000")), scaled(grown(HOUR)), clean
    ),
    "over midnight: the time without a date": case(
        pet(START, drug(RadiopharmaceuticalStartTime="233000"),
            sets(SeriesTime="003000", AcquisitionTime="003000")),
        scaled(grown(HOUR)), clean,
    ),
    "over midnight: between two beds": case(
        pet(START, sets(SeriesTime="235900", AcquisitionTime="235900"),
            drug(RadiopharmaceuticalStartTime="225900"),
            lambda dataset, index: sets(AcquisitionDate="20200102", AcquisitionTime="000200")(
                dataset, index) if index else None),
        scaled(grown(HOUR)), clean,
    ),
    "over midnight: days after the injection, without its date": case(
        pet(nuclide("C-168A4", "SRT", "282280")),
        refused("units", "(0018,1072)", "without a date", "(0018,1078)"), nothing,
    ),
    "over midnight: days after the injection": case(
        pet(nuclide("C-168A4", "SRT", "282280"), NO_TIME,
            drug(RadiopharmaceuticalStartDateTime="20191229100000")),
        scaled(grown(72 * HOUR, 282280)), clean,
    ),
    "(0018,1078) against (0018,1072)": case(
        pet(START, drug(RadiopharmaceuticalStartDateTime="20200101000000",
                        RadiopharmaceuticalStartTime="073000")),
        refused("units", "20200101000000", "073000"), nothing,
    ),
    "(0018,1078) against (0018,1072): but for its seconds": case(
        pet(START, drug(RadiopharmaceuticalStartDateTime="20200101090000",
                        RadiopharmaceuticalStartTime="090015")),
        scaled(grown(HOUR)), clean,
    ),
    "acquisition time: in (0008,002A) alone": case(
        pet(START, sets(SeriesTime="130000", AcquisitionTime=None,
                        AcquisitionDateTime="20200101100000")),
        scaled(grown(HOUR)), clean, told("reference_rule", "earliest_acquisition"),
    ),
    "acquisition time: nowhere": case(
        pet(START, sets(AcquisitionTime=None, AcquisitionDate=None)),
        refused("units", "(0008,0032)", "missing"), nothing,
    ),
    "acquisition time: nowhere, and a series of hours later": case(
        pet(START, sets(AcquisitionTime=None, AcquisitionDate=None, SeriesTime="130000")),
        refused("units", "(0008,0032)", "missing"), nothing,
    ),
    "acquisition time: back-computed from the frame": case(
        pet(START, sets(Manufacturer="SIEMENS", SeriesTime="130000", AcquisitionTime="100500",
                        ActualFrameDuration="600000",
                        FrameReferenceTime="598421")),
        gives("pet", lambda before: before * grown(HOUR)), clean,
        told("reference_rule", "back_computed"),
    ),
    "timezone": case(
        pet(dates("20200101080000+0100", "20200101", "100000", TimezoneOffsetFromUTC="+0200")),
        scaled(grown(HOUR)), clean,
    ),
    "timezone: the same": case(
        pet(dates("20200101090000-0500", "20200101", "100000", TimezoneOffsetFromUTC="-0500")),
        scaled(grown(HOUR)), clean,
    ),
    "timezone: of the injection only": case(
        pet(dates("20200101090000+0100", "20200101", "100000")), refused("units", "(0008,0201)"),
        nothing,
    ),
    "timezone: of the file only": case(
        pet(dates("20200101090000", "20200101", "100000", TimezoneOffsetFromUTC="+0200")),
        scaled(grown(HOUR)), clean,
    ),
    "(0018,1078) only": case(
        pet(dates("20200101090000.000", "20200101", "100000")), scaled(grown(HOUR)), clean
    ),
    "(0018,1078) only: a date without a time": case(
        pet(dates("20200101", "20200101", "100000")), refused("units", "(0018,1078)"), nothing
    ),
    "(0018,1078) only: neither": case(
        pet(START, NO_TIME), refused("units", "(0018,1072)", "(0018,1078)"), nothing
    ),
    "(0018,1078) only: no series time": case(
        pet(START, sets(SeriesTime=None)), refused("units", "(0008,0031)"), nothing
    ),
    "(0018,1078) only: a time that is none": case(
        pet(START, drug(RadiopharmaceuticalStartTime="256199")), refused("units", "(0018,1072)"),
        nothing,
    ),
    "per-bed acquisition times": case(pet(per_bed), scaled(grown(HOUR)), clean),
    "per-bed acquisition times: of a series written later": case(
        pet(per_bed, sets(SeriesTime="150000")), scaled(grown(HOUR)), clean
    ),
    "per-bed acquisition times: with GE's scan time": case(
        pet(per_bed, sets(SeriesTime="150000"),
            vendor(0x0009, "GEMS_PETD_01", 0x0D, "DT", "20200101095000.00")),
        scaled(grown(HOUR - 600)), clean, told("reference_rule", "ge_scan_time"),
    ),
    "per-bed acquisition times: GE's scan time against an earlier series time": case(
        pet(START, sets(SeriesTime="095000"),
            vendor(0x0009, "GEMS_PETD_01", 0x0D, "DT", "20200101100000.00")),
        scaled(grown(HOUR)), clean, noted("(0009,100D)", "10.0 min after the series time"),
        told("reference_rule", "ge_scan_time"),
    ),
    "per-bed acquisition times: GE's scan time whose creator is gone": case(
        pet(per_bed, sets(SeriesTime="150000"), unowned(0x0009100D, "20200101095000.00")),
        scaled(grown(HOUR - 600)), clean, told("suv_assumed", "(0009,100D)"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_units(name: str, tmp_path: Path) -> None:
    run_case(CASES[name], tmp_path)
