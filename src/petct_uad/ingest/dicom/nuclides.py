"""Which nuclides emit positrons, how long they live, and how a header names them.

The nuclides' codes are DICOM's own: CID 4020 lists those of PET, CID 18 those of nuclear medicine
(PS3.16). What is in CID 18 alone emits no positrons that a PET could see.

Half-lives are evaluated ones, in seconds: DDEP (BIPM Monographie 5) and ENSDF through NuDat 3.
The header's own value is used; these check it, and tell a nuclide that no code names.
"""

from __future__ import annotations

import re
from functools import lru_cache

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

POSITRON_HALF_LIFE_S = {
    "11C": 1221.8,
    "13N": 597.9,
    "15O": 122.2,
    "18F": 6586.2,
    "44Sc": 14551.0,
    "52Mn": 483062.0,
    "61Cu": 12020.0,
    "62Cu": 580.2,
    "64Cu": 45721.0,
    "68Ga": 4062.6,
    "82Rb": 76.3,
    "86Y": 53064.0,
    "89Zr": 282280.0,
    "124I": 360806.0,
}
GAMMA_HALF_LIFE_S = {
    "67Ga": 281810.0,
    "99mTc": 21624.0,
    "111In": 242330.0,
    "123I": 47604.0,
    "131I": 693377.0,
    "133Xe": 453384.0,
    "153Sm": 166622.0,
    "166Ho": 96458.0,
    "177Lu": 574301.0,
    "186Re": 321261.0,
    "188Re": 61214.0,
    "201Tl": 262837.0,
    "212Pb": 38239.0,
    "223Ra": 987552.0,
    "225Ac": 857000.0,
}
HALF_LIFE_TOLERANCE = 0.02  # headers round, and older evaluations differ by up to 1.8 %

_SYMBOLS: dict[str, str] = dict(
    re.findall(
        r"(\w+):(\w+)",
        "Arsenic:As Barium:Ba Bromine:Br Carbon:C Chromium:Cr Cobalt:Co Copper:Cu Fluorine:F "
        "Gadolinium:Gd Gallium:Ga Germanium:Ge Gold:Au Holmium:Ho Indium:In Iodine:I Iridium:Ir "
        "Iron:Fe Krypton:Kr Lead:Pb Lutetium:Lu Manganese:Mn Niobium:Nb Nitrogen:N Oxygen:O "
        "Phosphorus:P Potassium:K Radium:Ra Rhenium:Re Rubidium:Rb Ruthenium:Ru Samarium:Sm "
        "Scandium:Sc Selenium:Se Sodium:Na Strontium:Sr Tantalum:Ta Technetium:Tc Terbium:Tb "
        "Thallium:Tl Titanium:Ti Xenon:Xe Ytterbium:Yb Yttrium:Y Zinc:Zn Zirconium:Zr Actinium:Ac",
    )
)
_ELEMENTS = {symbol: element for element, symbol in _SYMBOLS.items()}
_MEANING = re.compile(r"\^(\d+m?)\^(\w+)")  # as DICOM writes it: ^18^Fluorine
_NAME = re.compile(r"(\d+m?)([A-Z][a-z]?)")


def _names(group: object) -> frozenset[str]:
    concepts: dict[str, Code] = group.concepts  # type: ignore[attr-defined]
    return frozenset(filter(None, (_name(code.meaning) for code in concepts.values())))


def _name(meaning: str) -> str:
    """``^18^Fluorine`` as ``18F``; "" for any other text."""
    found = _MEANING.fullmatch(meaning)
    return found[1] + _SYMBOLS[found[2]] if found and found[2] in _SYMBOLS else ""


POSITRON_EMITTERS = _names(codes.cid4020)
OTHER_NUCLIDES = (_names(codes.cid18) | frozenset(GAMMA_HALF_LIFE_S)) - POSITRON_EMITTERS


@lru_cache(1024)
def nuclide_of_code(value: str, scheme: str) -> str:
    """The nuclide of a code, such as ``18F``; "" where CID 18 and CID 4020 have no such code."""
    # 99SDM and SNM3 are older names of the SNOMED codes that DICOM now calls SRT.
    scheme = "SRT" if scheme in {"99SDM", "SNM3"} else scheme
    code = Code(value, scheme, "")
    concepts = (*codes.cid4020.concepts.values(), *codes.cid18.concepts.values())
    return next((_name(known.meaning) for known in concepts if code == known), "")


@lru_cache(1024)
def nuclides_in(text: str) -> frozenset[str]:
    """Nuclides that a text names: ``177Lu``, ``Lu-177``, ``^177^Lutetium`` and the like."""
    known = POSITRON_EMITTERS | OTHER_NUCLIDES
    return frozenset(name for name in known if _pattern(name).search(text))


def nuclide_of_half_life(half_life_s: float) -> str:
    """The nuclide of this half-life; a positron emitter where two have it; "" where none has."""
    known = {**POSITRON_HALF_LIFE_S, **GAMMA_HALF_LIFE_S}
    near = (name for name, value in known.items() if same_half_life(half_life_s, value))
    return next(near, "")


def same_half_life(one_s: float, other_s: float) -> bool:
    """Do two half-lives agree as far as headers round them?"""
    return abs(one_s / other_s - 1) <= HALF_LIFE_TOLERANCE


@lru_cache(1024)
def _pattern(name: str) -> re.Pattern[str]:
    mass, symbol = _NAME.findall(name)[0]
    element = f"(?:{_ELEMENTS[symbol]}|{symbol})"
    before, after = rf"(?<![0-9]){mass}\^?[- ]?{element}(?![a-z])", rf"{element}[- ]?{mass}"
    return re.compile(rf"{before}|(?<![a-z]){after}(?![0-9])", re.IGNORECASE)
