"""SUVbw factors: published vendor headers, and refusal of whatever would need inventing."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from petct_uad.core.errors import UnitsError
from petct_uad.ingest.dicom.suv import PetHeader, SuvKind, suv_factors

VECTORS = Path(os.environ.get("PETCT_DATA", Path(__file__).parents[4] / "shared" / "data"))
EXPECTED = {
    "PHILIPS_BQML": 0.0007463747013889488,
    "PHILIPS_CNTS_AND_BQML_SUV": 0.000551,
    "PHILIPS_CNTS_AND_SUV": 0.000728,
    "SIEMENS": 0.00042748316187197236,
    "GE_MEDICAL_AND_BQML": 0.0005367387681819742,
    "BQML_AC_DT_lessThan_S_DT_SIEMENS": 0.0004069156854009332,
    "RADIOPHARM_DATETIME_UNDEFINED": 0.0003721089202818729,
    # Convention: the series time is after the acquisition, so the earliest acquisition counts.
    "CPS_AND_BQML_AC_DT_-_S_DT": 0.00026503312764157046,
}
FIELDS = {
    "units": "Units", "decay_correction": "DecayCorrection", "weight_kg": "PatientWeight",
    "dose_bq": "RadionuclideTotalDose", "half_life_s": "RadionuclideHalfLife",
    "injection_datetime": "RadiopharmaceuticalStartDateTime",
    "injection_time": "RadiopharmaceuticalStartTime", "series_date": "SeriesDate",
    "series_time": "SeriesTime", "acquisition_date": "AcquisitionDate",
    "acquisition_time": "AcquisitionTime", "frame_duration_ms": "ActualFrameDuration",
}  # fmt: skip
GOOD = PetHeader(
    "a.dcm", units="BQML", decay_correction="START", corrected_image=("DECY", "ATTN"),
    weight_kg="70", dose_bq="350e6", half_life_s="6586.2", injection_time="090000",
    series_date="20200101", series_time="100000", acquisition_date="20200101",
    acquisition_time="100000", frame_duration_ms="120000",
)  # fmt: skip
HOUR = 2 ** (3600 / 6586.2) * 70_000 / 350e6  # uptake of one hour


def factor(**changes: Any) -> float:
    return suv_factors([replace(GOOD, **changes)])[0]


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_published_vendor_headers_give_their_factor(name: str) -> None:
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
    assert suv_factors(headers) == pytest.approx([EXPECTED[name]] * 3, rel=1e-9)


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
    rounded = factor(half_life_s="6588", nuclide_half_life_s=6586.2)  # 109.8 minutes
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
        ({"sex": "O"}, "lbm", "(0010,0040) O"),
        ({"sex": ""}, "lbm", "(0010,0040) missing"),
        ({"weight_kg": ""}, "bsa", "(0010,1030) missing"),
        ({"units": "GML", "suv_type": "LBM"}, "lbm", "(0054,1006) LBM"),
        ({"units": "GML", "suv_type": "LBMJAMES128"}, "lbm", "(0054,1006) LBMJAMES128"),
        ({"units": "GML", "suv_type": "BSA"}, "bsa", "(0054,1006) BSA with Units"),
        ({"units": "CM2ML", "suv_type": "BSA"}, "lbm", "(0054,1006) BSA with Units"),
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
        ({"units": "GML", "suv_type": "LBM"}, "(0054,1006)", "LBM"),
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
        ({"dose_bq": "350"}, "(0018,1074)", "350"),
        ({"half_life_s": ""}, "(0018,1075)", "missing"),
        ({"half_life_s": "109.8"}, "(0018,1075)", "109.8"),
        ({"half_life_s": "1223", "nuclide_half_life_s": 6586.2}, "(0018,1075)", "1223"),
        ({"half_life_s": "6900", "nuclide_half_life_s": 6586.2}, "(0018,1075)", "6900"),
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
