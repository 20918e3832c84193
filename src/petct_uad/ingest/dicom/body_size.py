"""What an SUV divides the dose by: the body's weight, its lean part, its ideal weight, its surface.

Formulas, in kg, m and cm (PS3.16, codes 126401 to 126406, and their sources):

- lean body mass after Janmahasatian et al., Clin Pharmacokinet 44:1051, 2005;
- after James, "Research on Obesity", HMSO, 1976 (men: 128);
- after Morgan and Bray, Clin Pharmacokinet 26:292, 1994 (James with 120 for men);
- ideal body weight after Sugawara et al., Radiology 213:521, 1999;
- body surface after Du Bois and Du Bois, Arch Intern Med 17:863, 1916.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from petct_uad.ingest.dicom.pet_header import PetHeader, SuvLog, within, wrong

SuvKind = Literal["bw", "lbm", "lbm_james", "lbm_morgan", "ibw", "bsa"]

_GRAMS_PER_KG = 1000
_CM2_PER_M2 = 10_000
_HEIGHT_M = (0.3, 2.5)  # above: a height written in cm
_SEX = "Patient's Sex (0010,0040)"


def keywords_of(kind: SuvKind) -> tuple[str, ...]:
    """The weight, and what else :func:`size_of` needs of a header."""
    if kind == "bw":
        return ("PatientWeight",)
    return ("PatientWeight", "PatientSize", *(() if kind == "bsa" else ("PatientSex",)))


def size_of(header: PetHeader, kind: SuvKind, weight_kg: float, log: SuvLog) -> float:
    """What takes the place of the body weight: g, or cm2 of the surface.

    Raises:
        UnitsError: height or sex is missing where the kind needs it.
    """
    if kind == "bw":
        return weight_kg * _GRAMS_PER_KG
    height_m = within(header, "Patient's Size (0010,1020)", header.height_m, _HEIGHT_M, "m")
    if kind == "bsa":
        surface_m2 = 0.007184 * weight_kg**0.425 * (100 * height_m) ** 0.725
        return float(surface_m2 * _CM2_PER_M2)
    mass_kg = _by_sex(header, kind, weight_kg, height_m, log)
    if mass_kg <= 0:  # James' parabola turns down where a person is very heavy
        found = f"{weight_kg:g} kg with Patient's Size (0010,1020) {height_m:g} m"
        expected = f"a body of which the formula of {kind} knows the mass"
        raise wrong(header, "Patient's Weight (0010,1030)", found, expected)
    return mass_kg * _GRAMS_PER_KG


def _by_sex(
    header: PetHeader, kind: SuvKind, weight_kg: float, height_m: float, log: SuvLog
) -> float:
    of_men, of_women = _MASSES_KG[kind]
    if header.sex == "O":  # as the IBSI manual on SUV has it
        log.assume(f"{_SEX} is O: {kind} is the mean of the formulas for men and for women")
        return (of_men(weight_kg, height_m) + of_women(weight_kg, height_m)) / 2
    if header.sex not in {"M", "F"}:
        raise wrong(header, _SEX, header.sex, f"M, F or O, for {kind}")
    return (of_men if header.sex == "M" else of_women)(weight_kg, height_m)


def _janmahasatian(offset: float, slope: float) -> Callable[[float, float], float]:
    return lambda weight, height: 9270 * weight / (offset + slope * weight / height**2)


def _james(linear: float, quadratic: float) -> Callable[[float, float], float]:
    return lambda weight, height: linear * weight - quadratic * (weight / (100 * height)) ** 2


def _sugawara(at_152_cm: float, per_cm: float) -> Callable[[float, float], float]:
    return lambda _, height: at_152_cm + per_cm * (100 * height - 152)


# Of men and of women.
_MASSES_KG: Mapping[
    SuvKind, tuple[Callable[[float, float], float], Callable[[float, float], float]]
] = {
    "lbm": (_janmahasatian(6680, 216), _janmahasatian(8780, 244)),
    "lbm_james": (_james(1.10, 128), _james(1.07, 148)),
    "lbm_morgan": (_james(1.10, 120), _james(1.07, 148)),
    "ibw": (_sugawara(48.0, 1.06), _sugawara(45.5, 0.91)),
}
