"""The tables as they may be shared: every person, visit, place and UID under a pseudonym."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from petct_uad.ingest.dicom.contours import LABELS_CSV
from petct_uad.ingest.dicom.identity import WORD, Identity, folded
from petct_uad.ingest.found import (
    FoundInstance,
    FoundRejection,
    FoundSeries,
    FoundStudy,
    FoundTables,
)
from petct_uad.ingest.pseudonyms import Pseudonyms, check_distinct
from petct_uad.ingest.rejections import LONGEST_MESSAGE, LONGEST_TEXT
from petct_uad.ingest.tables import (
    InstanceRow,
    PublicPath,
    PublicText,
    PublishedTables,
    RejectedRow,
    SeriesRow,
    StudyRow,
)

Words = tuple[str, ...]

_REMOVED = "[removed]"
_UID = re.compile(r"((?<![\w.])\d+(?:\.\d+){2,}(?!\w))")
_DICOM_ROOT = "1.2.840.10008."  # UIDs of the standard itself, such as SOP classes
_ABSOLUTE_PATH = re.compile(r"(?<!\S)/\S+")
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,3}")
_SHORTEST = 3  # characters that are looked for inside the names of the file's own folders
_LONG = 6  # characters that are looked for inside any word


def publish(
    found: FoundTables, identities: Mapping[str, Identity | None], pseudonyms: Pseudonyms
) -> PublishedTables:
    """Replace or remove whatever identifies, in every text of the four tables.

    Args:
        found: the tables with the files' own identifiers.
        identities: of every file below the data set; None where its header cannot be read.

    Raises:
        PseudonymError: two patients get one pseudonym.
    """
    scrub = _Scrub(identities, pseudonyms)
    check_distinct((row.patient for row in found.series), pseudonyms)
    uids = {uid for r in found.series for uid in (r.series_instance_uid, r.study_instance_uid)}
    return PublishedTables(
        instances=tuple(sorted(_instance(row, scrub) for row in found.instances)),
        series=tuple(sorted(_series(row, scrub) for row in found.series)),
        studies=tuple(sorted(_study(row, scrub) for row in found.studies)),
        rejected=tuple(sorted(_rejection(row, scrub, uids) for row in found.rejected)),
    )


def _instance(row: FoundInstance, scrub: _Scrub) -> InstanceRow:
    return InstanceRow(
        file=scrub.path(row.file),
        sha256=row.sha256,
        sop_instance_uid=scrub.pseudonyms.uid(row.sop_instance_uid),
        series_instance_uid=scrub.pseudonyms.uid(row.series_instance_uid),
        study_id=row.study_id,
        role=row.role,
        slice_index=row.slice_index,
    )


def _series(row: FoundSeries, scrub: _Scrub) -> SeriesRow:
    return SeriesRow(
        series_instance_uid=scrub.pseudonyms.uid(row.series_instance_uid),
        stack=row.stack,
        study_instance_uid=scrub.pseudonyms.uid(row.study_instance_uid),
        patient=scrub.pseudonyms.patient(row.patient),
        modality=row.modality,
        # Which scanner it is, not where it stands.
        manufacturer=row.manufacturer,
        model_name=row.model_name,
        description=scrub.text(_uncut(row.description, LONGEST_TEXT)),
        instances=row.instances,
        rows=row.rows,
        columns=row.columns,
        spacing_x_mm=row.spacing_x_mm,
        spacing_y_mm=row.spacing_y_mm,
        spacing_z_mm=row.spacing_z_mm,
        study_id=row.study_id,
        role=row.role,
        reason=scrub.text(row.reason),
        reference_rule=row.reference_rule,
        uptake_min=row.uptake_min,
        half_life_min=row.half_life_min,
        nuclide=row.nuclide,
        dose_unit=row.dose_unit,
        suv_assumed=scrub.text(row.suv_assumed),
        suv_notes=scrub.text(row.suv_notes),
    )


def _study(row: FoundStudy, scrub: _Scrub) -> StudyRow:
    return StudyRow(
        study_id=row.study_id,
        patient=scrub.pseudonyms.patient(row.patient),
        scanner=row.scanner,
        ct_series_instance_uid=scrub.pseudonyms.uid(row.ct_series_instance_uid),
        pet_series_instance_uid=scrub.pseudonyms.uid(row.pet_series_instance_uid),
        label_series_instance_uid=scrub.pseudonyms.uid(row.label_series_instance_uid),
        label_kind=row.label_kind,
        lesion_kind=scrub.text(row.lesion_kind),
        ct_slices=row.ct_slices,
        pet_slices=row.pet_slices,
        same_frame_of_reference=row.same_frame_of_reference,
        notes=scrub.text(row.notes),
        suv_kind=row.suv_kind,
        label_drawn_on=row.label_drawn_on,
        finding=row.finding,
    )


def _rejection(row: FoundRejection, scrub: _Scrub, uids: set[str]) -> RejectedRow:
    return RejectedRow(
        subject=scrub.subject(row.subject, uids),
        code=row.code,
        found=scrub.text(_uncut(row.found, LONGEST_MESSAGE)),
        expected=scrub.text(_uncut(row.expected, LONGEST_MESSAGE)),
        advice=scrub.text(_uncut(row.advice, LONGEST_MESSAGE)),
    )


class _Scrub:
    """Knows every identifier of the data set, and which files they are in."""

    def __init__(self, identities: Mapping[str, Identity | None], pseudonyms: Pseudonyms) -> None:
        self.pseudonyms = pseudonyms
        self._identities = identities
        self._short_ids: set[str] = set()
        self._long: set[str] = set()
        self._holds_long: dict[str, bool] = {}
        self._telling: dict[str, bool] = {}
        self._phrases: dict[str, list[tuple[Words, str]]] = {}
        self._own: dict[Identity, tuple[str, ...]] = {}
        self._folders: dict[tuple[str, Identity], str] = {}
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

    def path(self, file: str) -> PublicPath:
        """The path below the data set with its telling components replaced."""
        return PublicPath(self._paths.get(file) or self.text(file))

    def subject(self, subject: str, uids: set[str]) -> PublicText:
        """A file's path, or a UID."""
        uid = self.pseudonyms.uid(subject) if subject in uids else None
        return PublicText(uid or self.path(subject))

    def text(self, text: str) -> PublicText:
        """Free text without the identifiers of any file of the data set."""
        text = unicodedata.normalize("NFC", self._with_known_paths(text))
        pieces = _UID.split(_ABSOLUTE_PATH.sub(_REMOVED, text))  # every other one is a UID
        pieces[::2] = map(self._without_phrases, pieces[::2])
        pieces[1::2] = map(self._uid, pieces[1::2])
        return PublicText("".join(pieces))

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
        folder, slash, name = file.rpartition("/")
        if (folder, who) not in self._folders:  # which many files share
            parts = folder.split("/") if folder else []
            self._folders[folder, who] = "/".join(self._part(x, who, False) for x in parts)
        return self._folders[folder, who] + slash + self._part(name, who, True)

    def _part(self, part: str, who: Identity, is_file: bool) -> str:
        if part == who.patient:
            return self.pseudonyms.patient(part)
        told = self._tells(part, self._own[who])
        return self.pseudonyms.token(part) + _suffix(part, is_file) if told else part

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
        return any(phrase in plain for phrase in own) or self._tells_of_anybody(part)

    def _tells_of_anybody(self, part: str) -> bool:
        if part not in self._telling:
            text = unicodedata.normalize("NFC", part)
            told = bool(_UID.search(part)) or self._without_phrases(text) != part
            self._telling[part] = told
        return self._telling[part]

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


def _uncut(text: str, longest: int) -> str:
    """Where ``rejections.printable`` has cut, the last word may be half an identifier."""
    return text.rpartition(" ")[0] if len(text) >= longest else text


def _unchanged(file: str, path: str) -> set[str]:
    return set(file.split("/")) & set(path.split("/"))


def _suffix(part: str, is_file: bool) -> str:
    suffix = PurePosixPath(part).suffix
    return suffix if is_file and _SUFFIX.fullmatch(suffix) else ""
