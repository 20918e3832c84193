"""What in a DICOM header names a person, a visit or a place (after PS3.15 Annex E, Table E.1-1).

These values are read so that they can be kept out of every output; they are never written.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from petct_uad.core.archives import archive_of
from petct_uad.core.errors import RejectedInputError
from petct_uad.ingest.dicom.parsing import opened, read_meta, read_tags, tag_of, values
from petct_uad.ingest.files import check_kind

_NAMES = (
    "PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName",
    "ReferringPhysicianName", "OperatorsName", "PerformingPhysicianName", "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy", "RequestingPhysician", "ResponsiblePerson",
)  # fmt: skip
_PHRASES = (
    "OtherPatientIDs", "AccessionNumber", "StudyID", "AdmissionID", "MedicalRecordLocator",
    "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "PatientAddress",
    "PatientTelephoneNumbers",
)  # fmt: skip
IDENTITY_TAGS = (
    *_NAMES, *_PHRASES, "PatientID", "PatientBirthDate", "PatientIdentityRemoved",
    "BurnedInAnnotation", "SpecificCharacterSet",
)  # fmt: skip
_BIRTH_DATE_FORMS = ("%Y%m%d", "%Y-%m-%d", "%d.%m.%Y", "%d%m%Y", "%m-%d-%Y", "%m%d%Y", "%y%m%d")
_SHORTEST = 3  # characters of a phrase, letters of a part of a name
WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, order=True)
class Identity:
    """What one file says about whose it is."""

    patient: str = ""  # (0010,0020)
    phrases: tuple[str, ...] = ()  # names and their parts, birth date as often written, places, ...
    removed: bool = False  # Patient Identity Removed (0012,0062) is YES
    burned_in: str = ""  # Burned In Annotation (0028,0301)


NOBODY = Identity()
_TAGS = tuple(map(tag_of, IDENTITY_TAGS))
# The files of a patient say the same: decoded once, they are read in a tenth of the time and share
# one object.
_KNOWN: dict[tuple[str, ...], Identity] = {}
_MOST_KNOWN = 1024


@lru_cache(_MOST_KNOWN)
def shared(identity: Identity) -> Identity:
    """The first object that says the same."""
    return identity


@lru_cache(_MOST_KNOWN)
def folded(text: str) -> str:
    """Text without case and accents, in which two spellings of a name are one."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def read_identity(dataset: Dataset) -> Identity:
    """Collect the identifying values of a header; values that cannot be decoded are left out."""
    stored = tuple(_stored(dataset, tag) for tag in _TAGS)
    if stored not in _KNOWN:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[stored] = _decoded(dataset)
    return _KNOWN[stored]


def _stored(dataset: Dataset, tag: int) -> str:
    element = dataset.get_item(tag)
    return "" if element is None else str(element.value)


def _decoded(dataset: Dataset) -> Identity:
    phrases = {text for name in _PHRASES for text in _texts(dataset, name)}
    for name in _NAMES:
        for text in _texts(dataset, name):
            phrases |= {text.replace("^", " "), *_parts(text)}
    for text in _texts(dataset, "PatientBirthDate"):
        phrases |= _date_forms(text)
    return Identity(
        patient=" ".join(_texts(dataset, "PatientID")),
        phrases=tuple(sorted(p for p in phrases if len(p) >= _SHORTEST or not p.isascii())),
        removed=_texts(dataset, "PatientIdentityRemoved") == ("YES",),
        burned_in=" ".join(_texts(dataset, "BurnedInAnnotation")),
    )


def identity_of_file(path: Path) -> Identity | None:
    """The identity in a file that was refused; None where no header can be read.

    Deflated files are left alone, since pydicom inflates them whole.
    """
    # The file was refused already; whatever pydicom finds wrong with it is in rejected.csv.
    try:
        with opened(path) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            meta = read_meta(stream)
            if meta.get("TransferSyntaxUID", "") in {"", DeflatedExplicitVRLittleEndian}:
                return None
            return read_identity(read_tags(stream, meta, _TAGS))
    except Exception:
        return None


def refused_identity(raw: Path, subject: str) -> Identity | None:
    """Of what was refused: None where it is a UID, no plain file, or says nothing of anybody."""
    try:
        if archive_of(raw / subject) is None:
            check_kind(raw / subject, subject, (raw / subject).is_dir())
    except (RejectedInputError, OSError):
        return None
    return identity_of_file(raw / subject)


def _texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    # A name in an unknown encoding must not cost the image: pydicom raises many types on these.
    try:
        texts = [" ".join(str(item).split()) for item in values(dataset, keyword)]
    except Exception:
        return ()
    return tuple(text for text in texts if text)


def _parts(name: str) -> set[str]:
    """Words of a person's name: three letters at least, or two in a script such as Chinese."""
    words = (word for word in WORD.findall(name) if not word.isdigit())
    return {word for word in words if len(word) >= _SHORTEST or not word.isascii()}


def _date_forms(text: str) -> set[str]:
    try:
        date = datetime.strptime(text, "%Y%m%d")
    except ValueError:
        return {text}
    return {date.strftime(form) for form in _BIRTH_DATE_FORMS}
