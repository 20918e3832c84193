"""Invented but realistic identifiers, dates and UIDs; all follow from the seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import numpy as np
from pydicom.uid import UID

_FAMILY = ("Almeida", "Brandt", "Castellano", "Dvorak", "Eriksen", "Fontaine", "Grimaldi", "Haines",
           "Ivanova", "Jansen", "Kowalski", "Lindqvist", "Moreau", "Novak", "Okafor", "Petrov",
           "Quintana", "Rossi", "Schneider", "Tanaka", "Ueda", "Varga", "Whitfield", "Yilmaz",
           "Zimmermann")  # fmt: skip
_WOMEN = ("Adele", "Beatriz", "Clara", "Dina", "Elena", "Freya", "Greta", "Helen", "Irma", "Julia")
_MEN = ("Anton", "Bruno", "Carl", "David", "Emil", "Felix", "Gustav", "Henry", "Igor", "Jonas")
_DOCTORS = ("Bergmann^Ute", "Carver^Miles", "Delacroix^Anne", "Nakamura^Kenji")
_EPOCH = datetime(2017, 1, 9)


@dataclass(frozen=True)
class Identity:
    """What a scanner's console knows about the person and the visit."""

    name: str
    birth_date: date
    accession_number: str
    referring_physician: str
    operator: str
    injection: datetime
    study: datetime  # CT starts
    pet_start: datetime
    dose_bq: float


def draw_identity(rng: np.random.Generator, sex: str, age: int, weight_kg: float) -> Identity:
    """Draw one identity; the PET starts about an hour after the injection, on the same day."""
    given = rng.choice(_WOMEN if sex == "F" else _MEN)
    day = _EPOCH + timedelta(days=int(rng.integers(0, 1800)))
    injection = day + timedelta(seconds=int(rng.integers(8 * 3600, 15 * 3600)))
    study = injection + timedelta(seconds=int(rng.integers(3200, 4200)))
    birth = day.date() - timedelta(days=int(age * 365.25 + rng.integers(10, 350)))
    return Identity(
        name=f"{rng.choice(_FAMILY)}^{given}",
        birth_date=birth,
        accession_number=f"A{int(rng.integers(10**6, 10**7))}",
        referring_physician=str(rng.choice(_DOCTORS)),
        operator=f"{rng.choice(_FAMILY)}^{rng.choice(_WOMEN)}",
        injection=injection,
        study=study,
        pet_start=study + timedelta(seconds=int(rng.integers(95, 160))),
        dose_bq=round(weight_kg * float(rng.uniform(3.3e6, 5.0e6)), -4),
    )


def months_later(identity: Identity, rng: np.random.Generator) -> Identity:
    """The same person at another visit, 90 to 200 days on."""
    later = timedelta(days=int(rng.integers(90, 200)))
    return replace(
        identity,
        accession_number=f"A{int(rng.integers(10**6, 10**7))}",
        injection=identity.injection + later,
        study=identity.study + later,
        pet_start=identity.pet_start + later,
    )


def uid(*parts: object) -> UID:
    """A UID below 2.25 from the hash of what it names, e.g. seed, patient, series, index."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")
