"""SUVbw factors: published vendor headers, and refusal of whatever would need inventing."""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from petct_uad.core.errors import UnitsError
from petct_uad.ingest.dicom.body_size import SuvKind
from petct_uad.ingest.dicom.nuclides import POSITRON_HALF_LIFE_S
from petct_uad.ingest.dicom.pet_header import PetHeader
from petct_uad.ingest.dicom.suv import (
    DEFAULT_OPTIONS,
    SuvBasis,
    SuvOptions,
    suv_conversion,
)

VECTORS = Path(os.environ.get("PETCT_DATA", Path(__file__).parents[4] / "shared" / "data"))
EXPECTED = {
    "PHILIPS_BQML": 0.0007463747013889488,
    "PHILIPS_CNTS_AND_BQML_SUV": 0.000551,
    "PHILIPS_CNTS_AND_SUV": 0.000728,
    "SIEMENS": 0.00042748316187197236,
    "GE_MEDICAL_AND_BQML": 0.0005367387681819742,
    "BQML_AC_DT_lessThan_S_DT_SIEMENS": 0.0004069156854009332,
    "RADIOPHARM_DATETIME_UNDEFINED": 0.0003721089202818729,
    # Its series is later than its acquisition, and Frame Reference Time is 0, which says nothing.
    "CPS_AND_BQML_AC_DT_-_S_DT": 0.00026503312764157046,
}
FIELDS = {
    "units": "Units", "decay_correction": "DecayCorrection", "weight_kg": "PatientWeight",
    "dose_bq": "RadionuclideTotalDose", "half_life_s": "RadionuclideHalfLife",
    "injection_datetime": "RadiopharmaceuticalStartDateTime",
    "injection_time": "RadiopharmaceuticalStartTime", "series_date": "SeriesDate",
    "series_time": "SeriesTime", "acquisition_date": "AcquisitionDate",
    "acquisition_time": "AcquisitionTime", "frame_duration_ms": "ActualFrameDuration",
    "frame_reference_ms": "FrameReferenceTime",
}  # fmt: skip
GOOD = PetHeader(
    "a.dcm", units="BQML", decay_correction="START", corrected_image=("DECY", "ATTN"),
    weight_kg="70", dose_bq="350e6", half_life_s="6586.2", injection_time="090000",
    series_date="20200101", series_time="100000", acquisition_date="20200101",
    acquisition_time="100000", frame_duration_ms="120000",
)  # fmt: skip
HOUR = 2 ** (3600 / 6586.2) * 70_000 / 350e6  # uptake of one hour


def suv_factors(headers: list[PetHeader], kind: SuvKind = "bw") -> tuple[float, ...]:
    return suv_conversion(headers, SuvOptions(kind)).factors


def factor(**changes: Any) -> float:
    return suv_factors([replace(GOOD, **changes)])[0]


def basis(options: SuvOptions = DEFAULT_OPTIONS, **changes: Any) -> SuvBasis:
    return suv_conversion([replace(GOOD, **changes)], options).basis


@pytest.mark.parametrize("reference", ["back_computed", "earliest_acquisition"])
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_published_vendor_headers_give_their_factor(name: str, reference: Any) -> None:
    file = VECTORS / "suv_vectors" / f"{name}-instances.json"
    if not file.is_file():
        pytest.skip("PETCT_DATA: no suv_vectors")
    headers = []
    for instance in json.loads(file.read_text()):
        fields: dict[str, Any] = {
            ours: str(instance.get(dicom, "")).strip() for ours, dicom in FIELDS.items()
        }
        private = instance["PhilipsPETPrivateGroup"]
        headers.append(
            PetHeader(
                name,
                corrected_image=tuple(instance["CorrectedImage"]),
                philips_suv_factor=private.get("SUVScaleFactor", "").strip(),
                philips_activity_factor=private.get("ActivityConcentrationScaleFactor", ""),
                **fields,
            )
        )
    found = suv_conversion(headers, SuvOptions(reference=reference)).factors
    assert found == pytest.approx([EXPECTED[name]] * 3, rel=1e-9)


def test_start_decays_the_dose_to_the_series_time() -> None:
    assert factor() == pytest.approx(HOUR)


def test_start_uses_the_series_time_for_every_bed() -> None:
    beds = [GOOD, replace(GOOD, acquisition_time="102000")]
    assert suv_factors(beds) == pytest.approx([HOUR, HOUR])


def test_admin_needs_no_times() -> None:
    without = factor(decay_correction="ADMIN", series_time="", injection_time="")
    assert without == pytest.approx(70_000 / 350e6)


def test_none_decays_to_the_mean_of_each_frame() -> None:
    raw = {"decay_correction": "NONE", "corrected_image": ("ATTN",)}
    short = factor(**raw, frame_duration_ms="1")
    assert short == pytest.approx(HOUR, rel=1e-6)
    assert factor(**raw) == pytest.approx(HOUR * 2 ** (60 / 6586.2), rel=1e-4)


def test_injection_before_midnight() -> None:
    late = factor(injection_time="233000", series_time="003000", acquisition_time="003000")
    assert late == pytest.approx(HOUR)


def test_post_processed_series_uses_the_ge_scan_time() -> None:
    later = {"series_time": "150000", "acquisition_time": "101500"}
    assert factor(**later, ge_scan_datetime="20200101100000.00") == pytest.approx(HOUR)


def test_series_time_between_two_beds_gives_way_to_the_first_bed() -> None:
    between = replace(GOOD, series_time="100500")
    beds = [replace(between, acquisition_time=time) for time in ("101000", "100000")]
    assert suv_factors(beds) == pytest.approx([HOUR, HOUR])


def test_earliest_ge_scan_time_of_the_beds_counts() -> None:
    later = replace(GOOD, series_time="150000", acquisition_time="101500")
    times = ("20200101101000.00", "20200101100000.00")
    beds = [replace(later, ge_scan_datetime=time) for time in times]
    assert suv_factors(beds) == pytest.approx([HOUR, HOUR])


def test_injection_at_the_start_of_the_scan_is_not_of_the_day_before() -> None:
    assert factor(injection_time="100000") == pytest.approx(70_000 / 350e6)


def test_half_life_may_be_a_rounded_one() -> None:
    rounded = factor(half_life_s="6588", nuclide="18F")  # 109.8 minutes
    assert rounded == pytest.approx(HOUR, rel=1e-3)


def test_datetime_alone_is_enough() -> None:
    assert factor(injection_time="", injection_datetime="20200101090000") == pytest.approx(HOUR)


def test_offset_is_brought_to_the_files_clock() -> None:
    moment = {"injection_datetime": "20200101080000+0000", "timezone": "+0100"}
    assert factor(**moment) == pytest.approx(HOUR)


def test_philips_activity_factor_goes_on_as_becquerel() -> None:
    counts = factor(units="CNTS", philips_suv_factor="0", philips_activity_factor="1.5")
    assert counts == pytest.approx(1.5 * HOUR)


def test_philips_suv_factor_goes_before_the_activity_factor() -> None:
    both = factor(units="CNTS", philips_suv_factor="0.0005", philips_activity_factor="1.5")
    assert both == 0.0005


def test_gml_is_taken_as_body_weight() -> None:
    assert factor(units="GML", suv_type="BW", weight_kg="", dose_bq="") == 1


ADULT: dict[str, Any] = {"weight_kg": "70", "height_m": "1.75", "sex": "M"}


@pytest.mark.parametrize(
    ("sex", "lean_kg"),
    # Janmahasatian et al. 2005: 9270 W / (6680 + 216 BMI) for men, / (8780 + 244 BMI) for women.
    [
        ("M", 9270 * 70 / (6680 + 216 * 70 / 1.75**2)),
        ("F", 9270 * 70 / (8780 + 244 * 70 / 1.75**2)),
    ],
)
def test_lean_body_mass_takes_the_place_of_the_weight(sex: str, lean_kg: float) -> None:
    lean = suv_factors([replace(GOOD, **ADULT | {"sex": sex})], "lbm")[0]
    assert lean == pytest.approx(HOUR * lean_kg / 70)
    assert 40 < lean_kg < 60


def test_body_surface_takes_the_place_of_the_weight() -> None:
    # Du Bois: 1.85 m2 for 70 kg and 175 cm.
    surface = suv_factors([replace(GOOD, **ADULT)], "bsa")[0]
    assert surface == pytest.approx(HOUR * 18_481 / 70_000, rel=1e-3)


def test_suv_in_the_file_is_converted_from_body_weight_alone() -> None:
    stored = replace(GOOD, units="GML", dose_bq="", **ADULT)
    ratio = suv_factors([replace(GOOD, **ADULT)], "lbm")[0] / HOUR
    assert suv_factors([stored], "lbm")[0] == pytest.approx(ratio)
    assert suv_factors([replace(stored, suv_type="LBMJANMA")], "lbm") == (1.0,)
    assert suv_factors([replace(stored, units="CM2ML", suv_type="BSA")], "bsa") == (1.0,)


@pytest.mark.parametrize(
    ("changes", "kind", "tag"),
    [
        ({"height_m": ""}, "lbm", "(0010,1020) missing"),
        ({"height_m": "175"}, "bsa", "(0010,1020) 175"),
        ({"height_m": "nan"}, "bsa", "(0010,1020) nan"),
        ({"sex": ""}, "lbm", "(0010,0040) missing"),
        ({"sex": "X"}, "ibw", "(0010,0040) X"),
        ({"weight_kg": ""}, "bsa", "(0010,1030) missing"),
        ({"weight_kg": "220", "height_m": "1.5"}, "lbm_james", "(0010,1030) 220 kg with"),
        ({"units": "GML", "suv_type": "SUL"}, "lbm", "(0054,1006) SUL"),
        ({"units": "GML", "suv_type": "BSA"}, "bsa", "(0054,1006) BSA with Units"),
        ({"units": "CM2ML", "suv_type": "BW"}, "bw", "(0054,1006) BW with Units"),
        ({"units": "GML", "suv_type": "LBM", "height_m": ""}, "bw", "(0010,1020) missing"),
        ({"units": "GML", "suv_type": "IBW", "sex": ""}, "bw", "(0010,0040) missing"),
        ({"units": "CM2ML", "suv_type": "BSA", "weight_kg": ""}, "bw", "(0010,1030) missing"),
    ],
)
def test_body_sizes_are_never_invented(changes: dict[str, Any], kind: SuvKind, tag: str) -> None:
    with pytest.raises(UnitsError) as caught:
        suv_factors([replace(GOOD, **ADULT | changes)], kind)
    assert tag in caught.value.found


def test_scan_over_midnight_keeps_the_series_time() -> None:
    evening: dict[str, Any] = {"injection_time": "225500", "series_time": "235500"}
    beds = [
        replace(GOOD, **evening, acquisition_time="235500"),
        replace(GOOD, **evening, acquisition_time="000500", acquisition_date="20200102"),
    ]
    assert suv_factors(beds) == pytest.approx([HOUR, HOUR])


def test_scan_over_midnight_without_a_date_is_refused() -> None:
    with pytest.raises(UnitsError, match=r"expected an Acquisition Date \(0008,0022\)"):
        factor(
            injection_time="225500",
            series_time="235500",
            acquisition_time="000500",
            acquisition_date="",
        )


@pytest.mark.parametrize(
    ("changes", "tag", "value"),
    [
        ({"units": ""}, "(0054,1001)", "missing"),
        ({"units": "PROPCNTS"}, "(0054,1001)", "PROPCNTS"),
        ({"units": "CNTS"}, "(7053,1000)", "missing"),
        ({"units": "GML", "suv_type": "LBM"}, "(0010,1020)", "missing"),
        ({"decay_correction": "SOMETIMES"}, "(0054,1102)", "SOMETIMES"),
        ({"corrected_image": ("DECY",)}, "(0028,0051)", "DECY"),
        ({"corrected_image": ("ATTN",)}, "(0028,0051)", "START"),
        ({"units": "CNTS", "philips_activity_factor": "2", "corrected_image": ("ATTN",)},
         "(0028,0051)", "START"),
        ({"weight_kg": ""}, "(0010,1030)", "missing"),
        ({"weight_kg": "0"}, "(0010,1030)", "0"),
        ({"weight_kg": "70 kg"}, "(0010,1030)", "70 kg"),
        ({"weight_kg": "nan"}, "(0010,1030)", "nan"),
        ({"dose_bq": ""}, "(0018,1074)", "missing"),
        ({"dose_bq": "0"}, "(0018,1074)", "0"),
        ({"dose_bq": "35000"}, "(0018,1074)", "35000"),
        ({"half_life_s": ""}, "(0018,1075)", "missing"),
        ({"half_life_s": "109.8"}, "(0018,1075)", "109.8"),
        ({"half_life_s": "1223", "nuclide": "18F"}, "(0018,1075)", "1223"),
        ({"half_life_s": "6900", "nuclide": "18F"}, "(0018,1075)", "6900"),
        ({"injection_time": ""}, "(0018,1072)", "missing"),
        ({"injection_time": "25:00"}, "(0018,1072)", "25:00"),
        ({"injection_time": "110000"}, "(0018,1072)", "110000"),
        ({"injection_datetime": "20200101110000"}, "(0018,1078)", "20200101110000"),
        ({"injection_datetime": "20190101090000"}, "(0018,1078)", "20190101090000"),
        ({"injection_datetime": "20200101080000+0000"}, "(0018,1078)", "+0000"),
        ({"series_time": ""}, "(0008,0031)", "20200101"),
        ({"injections": 2}, "(0054,0016)", "2 items"),
    ],
)  # fmt: skip
def test_nothing_is_invented(changes: dict[str, Any], tag: str, value: str) -> None:
    with pytest.raises(UnitsError) as caught:
        factor(**changes)
    assert tag in caught.value.found
    assert value in caught.value.found


def test_slices_must_agree() -> None:
    with pytest.raises(UnitsError, match="dose_bq"):
        suv_factors([GOOD, replace(GOOD, dose_bq="360e6")])


# --- kinds ---

# 70 kg, 1.75 m, a man: what takes the place of the weight, kg (the surface: 1e-3 m2).
SIZES: dict[SuvKind, float] = {
    "bw": 70,
    "lbm": 9270 * 70 / (6680 + 216 * 70 / 1.75**2),
    "lbm_james": 1.10 * 70 - 128 * (70 / 175) ** 2,
    "lbm_morgan": 1.10 * 70 - 120 * (70 / 175) ** 2,
    "ibw": 48.0 + 1.06 * (175 - 152),
    "bsa": 10 * 0.007184 * 70**0.425 * 175**0.725,
}
TYPES: dict[SuvKind, str] = {
    "bw": "BW", "lbm": "LBMJANMA", "lbm_james": "LBMJAMES128", "lbm_morgan": "LBM", "ibw": "IBW",
    "bsa": "BSA",
}  # fmt: skip


@pytest.mark.parametrize("asked", SIZES)
@pytest.mark.parametrize("held", SIZES)
def test_every_kind_of_suv_is_converted_to_every_other(held: SuvKind, asked: SuvKind) -> None:
    units = "CM2ML" if held == "bsa" else "GML"
    stored = replace(GOOD, units=units, suv_type=TYPES[held], dose_bq="", **ADULT)
    assert suv_factors([stored], asked)[0] == pytest.approx(SIZES[asked] / SIZES[held])


@pytest.mark.parametrize("asked", SIZES)
def test_every_kind_of_suv_is_computed_from_activity(asked: SuvKind) -> None:
    computed = suv_factors([replace(GOOD, **ADULT)], asked)[0]
    assert computed == pytest.approx(HOUR * SIZES[asked] / 70)


@pytest.mark.parametrize("kind", ["lbm", "lbm_james", "lbm_morgan", "ibw"])
def test_other_sex_is_the_mean_of_both_formulas_and_said(kind: SuvKind) -> None:
    man, woman, other = (
        suv_conversion([replace(GOOD, **ADULT | {"sex": sex})], SuvOptions(kind))
        for sex in ("M", "F", "O")
    )
    assert other.factors[0] == pytest.approx((man.factors[0] + woman.factors[0]) / 2)
    assert man.factors[0] != woman.factors[0]
    assert "(0010,0040) is O" in other.basis.assumed[0]
    assert not man.basis.assumed


def test_surface_asks_for_no_sex() -> None:
    assert suv_factors([replace(GOOD, **ADULT | {"sex": ""})], "bsa")[0] > 0


def test_plain_lean_body_mass_is_morgans_and_said() -> None:
    told = basis(units="GML", suv_type="LBM", **ADULT)
    assert "Morgan" in told.assumed[0]


# --- dose and weight ---


def test_dose_that_cannot_be_becquerels_is_megabecquerels_and_said() -> None:
    assert factor(dose_bq="350") == pytest.approx(HOUR)
    told = basis(dose_bq="350")
    assert told.dose_unit == "MBq"
    assert "(0018,1074) 350 is in MBq" in told.assumed[0]


def test_dose_in_becquerels_is_no_assumption() -> None:
    assert basis().dose_unit == "Bq"
    assert basis().assumed == ()


@pytest.mark.parametrize(
    ("dose", "half_life_s", "weight_kg"),
    [
        ("10", "6586.2", "70"),  # mCi
        ("35000", "6586.2", "70"),
        ("350000", "6586.2", "70"),  # kBq
        ("2", "282280", "70"),  # mCi of 89Zr
        ("350", "6586.2", "5"),  # of a baby
        ("-350", "6586.2", "70"),
    ],
)
def test_dose_that_nobody_is_given_in_megabecquerels_is_refused(
    dose: str, half_life_s: str, weight_kg: str
) -> None:
    with pytest.raises(UnitsError, match=r"\(0018,1074\)") as caught:
        factor(dose_bq=dose, half_life_s=half_life_s, weight_kg=weight_kg)
    assert "ingest.dose_unit" in caught.value.advice


def test_dose_of_a_nuclide_that_nobody_names_stays_refused() -> None:
    admin = {"decay_correction": "ADMIN", "half_life_s": ""}
    with pytest.raises(UnitsError, match=r"\(0018,1074\)"):
        factor(**admin, dose_bq="350")
    assert factor(**admin, dose_bq="350", nuclide="18F") == pytest.approx(70_000 / 350e6)


def test_dose_unit_may_be_told() -> None:
    mbq, bq = SuvOptions(dose_unit="mbq"), SuvOptions(dose_unit="bq")
    in_mbq = replace(GOOD, dose_bq="350")
    assert suv_conversion([in_mbq], mbq).factors[0] == pytest.approx(HOUR)
    assert "ingest.dose_unit" in suv_conversion([in_mbq], mbq).basis.assumed[0]
    with pytest.raises(UnitsError, match=r"\(0018,1074\) 350"):
        suv_conversion([in_mbq], bq)
    with pytest.raises(UnitsError, match=r"ingest\.dose_unit mbq makes of it"):
        suv_conversion([GOOD], mbq)


def test_weight_above_a_thousand_is_in_grams_and_said() -> None:
    assert factor(weight_kg="70000") == pytest.approx(HOUR)
    assert "(0010,1030) 70000 is in g" in basis(weight_kg="70000").assumed[0]


@pytest.mark.parametrize("weight", ["500", "1000", "500000"])
def test_weight_of_nobody_is_refused_in_both_units(weight: str) -> None:
    with pytest.raises(UnitsError, match=r"\(0010,1030\)"):
        factor(weight_kg=weight)


@pytest.mark.parametrize(
    ("tag", "changes"),
    [
        ("(7053,1000)", {"philips_suv_factor": "70"}),
        ("(7053,1009)", {"philips_activity_factor": "1e-9"}),
    ],
)
def test_factor_without_its_creator_must_be_plausible(tag: str, changes: dict[str, Any]) -> None:
    unowned = {"units": "CNTS", "without_creator": (tag,), "manufacturer": "Philips"}
    with pytest.raises(UnitsError, match="without its private creator"):
        factor(**unowned, **changes)


# --- nuclides ---


@pytest.mark.parametrize("nuclide", POSITRON_HALF_LIFE_S)
def test_every_positron_emitter_in_use_is_known(nuclide: str) -> None:
    half_life_s = POSITRON_HALF_LIFE_S[nuclide]
    uptake = timedelta(seconds=min(half_life_s, 3600))
    injected = f"{datetime(2020, 1, 1, 10) - uptake:%Y%m%d%H%M%S.%f}"
    told = basis(half_life_s=f"{half_life_s:g}", nuclide=nuclide, injection_datetime=injected,
                 injection_time="")  # fmt: skip
    assert told.nuclide == nuclide
    assert told.half_life_min == pytest.approx(half_life_s / 60, rel=1e-4)
    assert told.assumed == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nuclide": "177Lu"}, "177Lu, which emits no positrons"),
        ({"nuclide": "99mTc", "units": "GML"}, "99mTc, which emits no positrons"),
        ({"drug": "177Lu-PSMA-617"}, "177Lu, which emits no positrons"),
        ({"drug": "Tc-99m sestamibi"}, "99mTc, which emits no positrons"),
        ({"drug": "Ga-67 citrate", "half_life_s": "281800"}, "67Ga, which emits no positrons"),
        ({"half_life_s": "574300"}, "(0018,1075) 574300 s, that of 177Lu"),
        ({"half_life_s": "21624"}, "(0018,1075) 21624 s, that of 99mTc"),
        ({"gamma_camera": "Collimator Type (0018,1181) PARA"}, "(0018,1181) PARA"),
    ],
)
def test_nuclide_without_positrons_is_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UnitsError) as caught:
        factor(**changes)
    assert words in caught.value.found
    assert "SPECT" in caught.value.advice


@pytest.mark.parametrize("drug", ["18F-FDG", "[68Ga]Ga-PSMA-11", "FDG for 177Lu, 18F", "PSMA 1007"])
def test_drug_of_a_positron_emitter_is_no_spect(drug: str) -> None:
    assert factor(drug=drug) == pytest.approx(HOUR)


def test_half_life_decides_where_code_and_words_of_a_nuclide_differ() -> None:
    told = basis(half_life_s="4062.6", nuclide="66Ga", nuclide_meaning="^68^Gallium")
    assert told.nuclide == "68Ga"
    assert "66Ga" in told.notes[0]


def test_half_life_of_no_known_nuclide_is_said() -> None:
    assert "of no nuclide" in basis(half_life_s="7500").assumed[0]


# --- times ---

LATER: dict[str, Any] = {"series_time": "130000"}
FRAME: dict[str, Any] = {"frame_duration_ms": "600000", "acquisition_time": "100500"}
# A frame of 10 min has its mean activity 298.4 s after its start (18F), which is 598.4 s after ten.
AVERAGE_MS = "598421"


def test_reference_is_back_computed_where_the_series_is_later() -> None:
    told = basis(**LATER, **FRAME, frame_reference_ms=AVERAGE_MS)
    assert told.reference_rule == "back_computed"
    assert told.uptake_min == pytest.approx(60, abs=1e-3)
    assert told.assumed == ()
    assert "180" not in told.notes[0]
    assert "175.0 min after the first acquisition" in told.notes[0]


def test_earliest_acquisition_counts_on_request() -> None:
    told = basis(
        SuvOptions(reference="earliest_acquisition"),
        **LATER, **FRAME, frame_reference_ms=AVERAGE_MS,
    )  # fmt: skip
    assert told.reference_rule == "earliest_acquisition"
    assert told.uptake_min == pytest.approx(65)
    assert told.assumed == ()


@pytest.mark.parametrize("reference_ms", ["", "0", "1000", "abc", "1e12", "-600000"])
def test_frame_times_that_tell_no_start_give_way_to_the_first_acquisition(
    reference_ms: str,
) -> None:
    told = basis(**LATER, **FRAME, frame_reference_ms=reference_ms)
    assert told.reference_rule == "earliest_acquisition"
    assert "(0054,1300)" in told.assumed[0]


def test_frames_that_disagree_on_the_start_give_way_to_the_first_acquisition() -> None:
    frames = [
        replace(GOOD, **LATER, **FRAME, frame_reference_ms=time) for time in (AVERAGE_MS, "900000")
    ]
    assert suv_conversion(frames).basis.reference_rule == "earliest_acquisition"


def test_beds_that_agree_on_the_start_give_it() -> None:
    later = replace(GOOD, **LATER, **FRAME, frame_reference_ms=AVERAGE_MS)
    second = replace(later, acquisition_time="101500", frame_reference_ms="1198421")
    found = suv_conversion([second, later])
    assert found.basis.reference_rule == "back_computed"
    assert found.factors == pytest.approx([HOUR, HOUR], rel=1e-5)


def test_acquisition_time_of_a_whole_ge_scan_is_no_frames() -> None:
    told = basis(manufacturer="GE MEDICAL SYSTEMS", **LATER, **FRAME, frame_reference_ms="1098000")
    assert told.reference_rule == "earliest_acquisition"
    assert told.assumed == ()


def test_series_time_long_before_its_acquisition_is_said() -> None:
    told = basis(series_time="093000")
    assert told.reference_rule == "series_time"
    assert "30.0 min before the first acquisition" in told.assumed[0]
    assert basis(series_time="095900").assumed == ()


def test_series_time_that_the_frames_confirm_is_no_assumption() -> None:
    told = basis(series_time="093000", frame_duration_ms="120000", frame_reference_ms="1859900")
    assert told.reference_rule == "series_time"
    assert told.assumed == ()


def test_series_time_against_the_frames_is_said() -> None:
    told = basis(series_time="095000", frame_duration_ms="120000", frame_reference_ms="59900")
    assert told.reference_rule == "series_time"
    assert "10.0 min after the series time" in told.assumed[0]


def test_ge_scan_time_goes_before_an_earlier_series_time_and_that_is_said() -> None:
    ge: dict[str, Any] = {"ge_scan_datetime": "20200101100000.00", "series_time": "095000"}
    assert factor(**ge) == pytest.approx(HOUR)
    assert basis(**ge).reference_rule == "ge_scan_time"
    assert "10.0 min after the series time" in basis(**ge).assumed[0]


def test_ge_scan_time_after_its_own_acquisition_is_refused() -> None:
    with pytest.raises(UnitsError, match=r"\(0009,100D\) 20.0 min after the first acquisition"):
        factor(ge_scan_datetime="20200101102000.00")


def test_acquisition_datetime_stands_for_a_missing_time() -> None:
    dated = {**LATER, "acquisition_time": "", "acquisition_datetime": "20200101100000"}
    assert factor(**dated) == pytest.approx(HOUR)
    assert basis(**dated).reference_rule == "earliest_acquisition"


def test_acquisition_datetime_dates_an_undated_time() -> None:
    dated = {"acquisition_date": "", "acquisition_datetime": "20200102000500"}
    evening = {"injection_time": "225500", "series_time": "235500", "acquisition_time": "000500"}
    assert factor(**dated, **evening) == pytest.approx(HOUR)


def test_acquisition_times_that_contradict_are_said() -> None:
    told = basis(acquisition_datetime="20200101103000")
    assert "(0008,002A)" in told.assumed[0]


@pytest.mark.parametrize("series_time", ["100000", "130000"])
def test_no_acquisition_time_at_all_is_refused(series_time: str) -> None:
    """The second series was reconstructed three hours later, and would have three times its SUV."""
    with pytest.raises(UnitsError, match=r"\(0008,0032\) missing"):
        factor(acquisition_time="", acquisition_date="", series_time=series_time)


def test_a_scan_time_of_the_vendor_needs_no_acquisition_time() -> None:
    told = basis(acquisition_time="", acquisition_date="", ge_scan_datetime="20200101100000")
    assert told.reference_rule == "ge_scan_time"


def test_decay_correction_datetime_goes_before_everything() -> None:
    told = basis(decay_datetime="20200101093000", ge_scan_datetime="20200101100000")
    assert told.reference_rule == "decay_correction_datetime"
    assert told.uptake_min == pytest.approx(30)


def test_start_datetime_and_start_time_that_contradict_are_refused_with_both() -> None:
    with pytest.raises(UnitsError) as caught:
        factor(injection_datetime="20200101000000", injection_time="073000")
    assert "(0018,1078) 20200101000000" in caught.value.found
    assert "(0018,1072) 073000" in caught.value.found


@pytest.mark.parametrize("time", ["090000", "0900", "090030", "085945.5"])
def test_start_datetime_and_start_time_may_be_rounded_apart(time: str) -> None:
    told = factor(injection_datetime="20200101090000", injection_time=time)
    assert told == pytest.approx(HOUR)


def test_start_times_around_midnight_are_near() -> None:
    late = {"series_time": "005930", "acquisition_time": "005930"}
    told = factor(**late, injection_datetime="20191231235950", injection_time="000010")
    assert told == pytest.approx(HOUR, rel=1e-2)


@pytest.mark.parametrize("nuclide", ["64Cu", "86Y", "89Zr", "124I", "52Mn"])
def test_day_of_an_injection_is_not_guessed_where_the_nuclide_allows_several(nuclide: str) -> None:
    half_life_s = f"{POSITRON_HALF_LIFE_S[nuclide]:g}"
    with pytest.raises(UnitsError) as caught:
        factor(half_life_s=half_life_s, nuclide=nuclide)
    assert "(0018,1072) 090000 without a date" in caught.value.found
    assert "(0018,1078)" in caught.value.expected


@pytest.mark.parametrize("nuclide", ["18F", "68Ga", "61Cu", "44Sc"])
def test_day_of_an_injection_follows_where_the_nuclide_allows_one(nuclide: str) -> None:
    told = basis(half_life_s=f"{POSITRON_HALF_LIFE_S[nuclide]:g}", nuclide=nuclide)
    assert told.uptake_min == pytest.approx(60)
    assert "one day only" in told.notes[0]
    assert told.assumed == ()


def test_day_of_an_injection_may_stand_in_the_datetime_alone() -> None:
    zirconium: dict[str, Any] = {
        "half_life_s": "282280",
        "nuclide": "89Zr",
        "injection_time": "100000",
    }
    told = basis(**zirconium, injection_datetime="20191229")
    assert told.uptake_min == pytest.approx(72 * 60)


def test_injection_at_midnight_to_the_second_is_said() -> None:
    told = basis(injection_datetime="20200101000000", injection_time="", series_time="013000",
                 acquisition_time="013000")  # fmt: skip
    assert "midnight" in told.assumed[0]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"decay_correction": "ADMIN"}, "administration"),
        ({"units": "GML"}, "stored_suv"),
        ({"units": "CNTS", "philips_suv_factor": "0.0005"}, "vendor_factor"),
        ({"decay_correction": "NONE", "corrected_image": ("ATTN",)}, "frame_times"),
    ],
)
def test_uptake_time_is_told_where_the_suv_does_not_need_it(
    changes: dict[str, Any], rule: str
) -> None:
    told = basis(**changes)
    assert (told.reference_rule, told.nuclide) == (rule, "18F")
    assert told.uptake_min == pytest.approx(60)


def test_uptake_time_that_is_not_told_is_left_open() -> None:
    told = basis(decay_correction="ADMIN", injection_time="", acquisition_time="")
    assert told.uptake_min is None


# --- whatever a header says ---

NUMBERS = ("", "0", "-1", "1e308", "1e-308", "nan", "inf", "70", "350", "1000", "6586.2", "7e4")
DAYS = ("", "00010101", "99991231", "20200101", "20191231", "x")
CLOCKS = ("", "000000", "235959.999999", "100000", "9", "x")
MOMENTS = ("", "00010101000000", "99991231235959", "20200101090000", "20200101090000+1400", "2020")
HOSTILE: dict[str, tuple[str, ...]] = {
    "units": ("BQML", "BQML", "GML", "CM2ML", "CNTS", ""),
    "suv_type": ("", *TYPES.values(), "x"),
    "decay_correction": ("START", "START", "NONE", "ADMIN", ""),
    "manufacturer": ("", "SIEMENS", "GE MEDICAL SYSTEMS", "Philips"),
    "sex": ("M", "F", "O", ""),
    "nuclide": ("", "18F", "89Zr", "177Lu", "66Ga"),
    "nuclide_meaning": ("", "^18^Fluorine", "^("),
    "drug": ("", "FDG", "Lu-177", "\0" * 64),
    "timezone": ("", "+0100", "-9999", "x"),
    **dict.fromkeys(("weight_kg", "height_m", "dose_bq", "half_life_s"), NUMBERS),
    **dict.fromkeys(("frame_duration_ms", "frame_reference_ms"), NUMBERS),
    **dict.fromkeys(("philips_suv_factor", "philips_activity_factor"), NUMBERS),
    **dict.fromkeys(("series_date", "acquisition_date"), DAYS),
    **dict.fromkeys(("series_time", "acquisition_time", "injection_time"), CLOCKS),
    **dict.fromkeys(("injection_datetime", "acquisition_datetime", "decay_datetime"), MOMENTS),
    "ge_scan_datetime": MOMENTS,
}


@pytest.mark.parametrize("seed", range(20))
def test_any_header_gives_a_finite_factor_or_a_refusal(seed: int) -> None:
    draw = Random(seed)
    found: list[float] = []
    sound = replace(GOOD, corrected_image=(), **ADULT)
    for _ in range(200):
        names = draw.sample(sorted(HOSTILE), draw.randint(1, 6))
        changes: dict[str, Any] = {name: draw.choice(HOSTILE[name]) for name in names}
        options = SuvOptions(draw.choice(list(SIZES)), "back_computed", "auto")
        with suppress(UnitsError):
            found += suv_conversion([replace(sound, **changes)], options).factors
    assert len(found) > 20
    assert all(0 < factor < math.inf for factor in found)
