"""The tables as they may leave the house: every person, visit, place and UID under a pseudonym."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import PurePosixPath
from typing import TypeVar

from petct_uad.core.errors import PseudonymError
from petct_uad.ingest.dicom.contours import LABELS_CSV
from petct_uad.ingest.dicom.identity import WORD, Identity, folded
from petct_uad.ingest.pseudonyms import Pseudonyms
from petct_uad.ingest.tables import Ingested, InstanceRow, RejectedRow, SeriesRow, StudyRow

Row = TypeVar("Row", InstanceRow, SeriesRow, StudyRow, RejectedRow)
Words = tuple[str, ...]

# Every other text is scrubbed. Manufacturer and model say which scanner, not where it stands.
_KEPT = {
    "sha256", "study_id", "role", "modality", "manufacturer", "model_name", "scanner", "code",
    "label_kind", "suv_kind",
}  # fmt: skip
_REMOVED = "[removed]"
_UID = re.compile(r"((?<![\w.])\d+(?:\.\d+){2,}(?!\w))")
_DICOM_ROOT = "1.2.840.10008."  # UIDs of the standard itself, such as SOP classes
_ABSOLUTE_PATH = re.compile(r"(?<!\S)/\S+")
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,3}")
_SHORTEST = 3  # characters that are looked for inside the names of the file's own folders
_LONG = 6  # characters that are looked for inside any word
_CUT = 200  # where index.printable cuts these texts: the last word may be half an identifier
_MAY_BE_CUT = {"found", "expected", "advice", "description"}


def publish(
    found: Ingested, identities: Mapping[str, Identity | None], pseudonyms: Pseudonyms
) -> Ingested:
    """Replace or remove whatever identifies, in every text of the four tables.

    Args:
        found: the tables with the files' own identifiers; ``study_id`` is a pseudonym already.
        identities: of every file below the data set; None where its header cannot be read.

    Raises:
        PseudonymError: two patients get one pseudonym.
    """
    scrub = _Scrub(identities, pseudonyms)
    _check_distinct({row.patient for row in found.series}, pseudonyms)
    uids = {uid for r in found.series for uid in (r.series_instance_uid, r.study_instance_uid)}
    return Ingested(
        instances=_rows(found.instances, scrub),
        series=_rows(found.series, scrub),
        studies=_rows(found.studies, scrub),
        rejected=tuple(
            sorted(replace(row, subject=scrub.subject(raw.subject, uids))
            for raw, row in ((r, _row(r, scrub)) for r in found.rejected))
        ),
    )  # fmt: skip


class _Scrub:
    """Knows every identifier of the data set, and which files they are in."""

    def __init__(self, identities: Mapping[str, Identity | None], pseudonyms: Pseudonyms) -> None:
        self.pseudonyms = pseudonyms
        self._identities = identities
        self._short_ids: set[str] = set()
        self._long: set[str] = set()
        self._holds_long: dict[str, bool] = {}
        self._phrases: dict[str, list[tuple[Words, str]]] = {}
        self._own: dict[Identity, tuple[str, ...]] = {}
        for identity in sorted({item for item in identities.values() if item is not None}):
            self._learn(identity)
        self._paths = {file: self._path(file, who) for file, who in identities.items() if who}
        kept = {part for file, path in self._paths.items() for part in _unchanged(file, path)}
        kept.add(LABELS_CSV)
        self._paths |= {
            file: self._unread(file, kept) for file, who in identities.items() if not who
        }
        self._by_name: dict[str, list[str]] = {}
        for file in sorted(self._paths, key=len, reverse=True):
            self._by_name.setdefault(file.rsplit("/", 1)[-1].split(" ")[-1], []).append(file)

    def path(self, file: str) -> str:
        """The path below the data set with its telling components replaced."""
        return self._paths.get(file) or self.text(file)

    def subject(self, subject: str, uids: set[str]) -> str:
        """A file's path, or a UID."""
        return self.pseudonyms.uid(subject) if subject in uids else self.path(subject)

    def text(self, text: str) -> str:
        """Free text without the identifiers of any file of the data set."""
        text = unicodedata.normalize("NFC", self._with_known_paths(text))
        pieces = _UID.split(_ABSOLUTE_PATH.sub(_REMOVED, text))  # every other one is a UID
        pieces[::2] = map(self._without_phrases, pieces[::2])
        pieces[1::2] = map(self._uid, pieces[1::2])
        return "".join(pieces)

    def _learn(self, identity: Identity) -> None:
        self._add(identity.patient, self.pseudonyms.patient(identity.patient))
        for phrase in identity.phrases:
            self._add(phrase, _REMOVED)
        every = (identity.patient, *identity.phrases)
        self._own[identity] = tuple(folded(p) for p in every if len(p) >= _SHORTEST)

    def _add(self, phrase: str, replacement: str) -> None:
        words = tuple(WORD.findall(folded(phrase)))
        self._long |= {words[0]} if len(words) == 1 and len(words[0]) >= _LONG else set()
        if len(words) == 1 and len(words[0]) < _SHORTEST and words[0].isdigit():
            self._short_ids.add(words[0])
        elif words:
            known = self._phrases.setdefault(words[0], [])
            if all(words != other for other, _ in known):
                known.append((words, replacement))
                known.sort(key=lambda item: -len(item[0]))

    def _path(self, file: str, who: Identity) -> str:
        parts = file.split("/")
        return "/".join(
            self.pseudonyms.patient(part) if part == who.patient
            else self.pseudonyms.token(part) + _suffix(part, place == len(parts) - 1)
            if self._tells(part, self._own[who]) else part
            for place, part in enumerate(parts)
        )  # fmt: skip

    def _unread(self, file: str, kept: set[str]) -> str:
        """A file without an identity: under a secret key, any new name may be a person's."""
        parts = file.split("/")
        return "/".join(
            self.pseudonyms.token(part) + _suffix(part, place == len(parts) - 1)
            if part not in kept and (self.pseudonyms.kind == "secret" or self._tells(part, ()))
            else part
            for place, part in enumerate(parts)
        )

    def _tells(self, part: str, own: tuple[str, ...]) -> bool:
        plain = folded(part)
        inside = any(phrase in plain for phrase in own) or bool(_UID.search(part))
        return inside or self._without_phrases(unicodedata.normalize("NFC", part)) != part

    def _with_known_paths(self, text: str) -> str:
        for word in text.split(" "):
            name = word.rstrip(",.;:").rsplit("/", 1)[-1]
            file = next((f for f in self._by_name.get(name, ()) if f in text), None)
            if file is not None:
                text = text.replace(file, self._paths[file])
        return text

    def _uid(self, uid: str) -> str:
        return uid if uid.startswith(_DICOM_ROOT) else self.pseudonyms.uid(uid)

    def _without_phrases(self, text: str) -> str:
        found = list(WORD.finditer(text))
        words = [folded(match[0]) for match in found]
        pieces, end, place = [], 0, 0
        while place < len(words):
            count, replacement = self._phrase_at(words, place)
            if count:
                pieces += [text[end : found[place].start()], replacement]
                end = found[place + count - 1].end()
            place += count or 1
        return "".join([*pieces, text[end:]])

    def _phrase_at(self, words: Sequence[str], place: int) -> tuple[int, str]:
        """How many words from here make an identifier, and what stands for them."""
        for phrase, replacement in self._phrases.get(words[place], ()):
            if tuple(words[place : place + len(phrase)]) == phrase:
                return len(phrase), replacement
        # One or two digits are a PatientID only where the text says so; else they count slices.
        before = set(words[max(place - 2, 0) : place])
        if words[place] in self._short_ids and before & {"patient", "patientid", "0020", "and"}:
            return 1, self.pseudonyms.patient(words[place])
        return (1, _REMOVED) if self._is_compound(words[place]) else (0, "")

    def _is_compound(self, word: str) -> bool:
        """Is a long identifier part of a word, as in ``GTVschmidtova``?"""
        if word not in self._holds_long:
            self._holds_long[word] = any(part in word for part in self._long)
        return self._holds_long[word]


def _rows(rows: Iterable[Row], scrub: _Scrub) -> tuple[Row, ...]:
    return tuple(sorted(_row(row, scrub) for row in rows))


def _row(row: Row, scrub: _Scrub) -> Row:
    changes = {
        field.name: _value(field.name, getattr(row, field.name), scrub)
        for field in fields(row)
        if field.name not in _KEPT and isinstance(getattr(row, field.name), str)
    }
    return replace(row, **changes)  # type: ignore[arg-type]


def _value(name: str, text: str, scrub: _Scrub) -> str:
    if name == "patient":
        return scrub.pseudonyms.patient(text)
    if name.endswith("_uid"):
        return scrub.pseudonyms.uid(text)
    if name in _MAY_BE_CUT and len(text) >= _CUT:
        text = text.rpartition(" ")[0]
    return scrub.path(text) if name == "file" else scrub.text(text)


def _unchanged(file: str, path: str) -> set[str]:
    return set(file.split("/")) & set(path.split("/"))


def _suffix(part: str, is_file: bool) -> str:
    suffix = PurePosixPath(part).suffix
    return suffix if is_file and _SUFFIX.fullmatch(suffix) else ""


def _check_distinct(patients: set[str], pseudonyms: Pseudonyms) -> None:
    by_pseudonym: dict[str, str] = {}
    for patient in sorted(patients):
        other = by_pseudonym.setdefault(pseudonyms.patient(patient), patient)
        if other != patient:
            raise PseudonymError(
                f"the patients {other} and {patient} get the same pseudonym under this key. "
                "Ingest them as two data sets, or use another key."
            )
