"""What is wrong with a split: patients, names and files in more than one of its sets."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from petct_uad.audit.splits.listing import Entry, Listing
from petct_uad.audit.splits.patients import Mapped

Verdict = Literal["leaks", "clean", "unknown"]
_ORDER = ("train", "val", "test")


@dataclass(frozen=True)
class SetCount:
    """How much is in one set of a split, or in a fold's."""

    fold: str
    split: str
    names: int
    patients: int


@dataclass(frozen=True)
class Share:
    """What one set has of a patient: studies where the file says them, else names."""

    split: str
    studies: tuple[str, ...]


@dataclass(frozen=True)
class TornPatient:
    """A patient in more than one set, whose studies are torn apart or repeated."""

    patient: str
    fold: str
    shares: tuple[Share, ...]


@dataclass(frozen=True)
class Repeated:
    """A name, or the names of files that are alike to the byte, in more than one set."""

    names: tuple[str, ...]
    fold: str
    splits: tuple[str, ...]


@dataclass(frozen=True)
class Duplicate:
    """A name that one set lists more than once."""

    name: str
    fold: str
    split: str
    times: int


@dataclass(frozen=True)
class Alike:
    """Patients of several sets who differ in signs, capitals or leading zeros only: 007 and 7."""

    patients: tuple[str, ...]
    fold: str
    splits: tuple[str, ...]


@dataclass(frozen=True)
class SplitAudit:
    """All that is said of a split.

    Attributes:
        verdict: leaks; clean; or unknown, where no leak was found but some names have no patient,
            or two patients may be one.
        layout: what the file was read as.
        patients_by: how names became patients.
        guesses: what was taken for what.
        sets: how much each holds.
        torn: patients in more than one set of a fold.
        repeated: names in more than one set of a fold.
        copies: files alike to the byte in more than one set.
        alike: patients of several sets who may be one.
        duplicates: names twice in one set, which is no leak.
        unknown: names whose patient is not known.
    """

    verdict: Verdict
    layout: str
    patients_by: str
    guesses: tuple[str, ...]
    sets: tuple[SetCount, ...]
    torn: tuple[TornPatient, ...]
    repeated: tuple[Repeated, ...]
    copies: tuple[Repeated, ...]
    alike: tuple[Alike, ...]
    duplicates: tuple[Duplicate, ...]
    unknown: tuple[str, ...]

    @property
    def leaks(self) -> bool:
        """Does anything of one set lie in another?"""
        return self.verdict == "leaks"

    @property
    def patients(self) -> int:
        """How many patients are known to be in more than one set, each once over all folds."""
        return len({x.patient for x in self.torn})


def audit_split(listing: Listing, mapped: Mapped) -> SplitAudit:
    """Everything that is wrong with a split; each fold is one of its own."""
    pairs = list(zip(listing.entries, mapped.patients, strict=True))
    torn = _torn(pairs)
    repeated = _repeated((x.fold, x.name, x) for x in listing.entries)
    copies = _repeated((x.fold, x.content, x) for x in listing.entries if x.content)
    unknown = tuple(sorted({x.name for x, patient in pairs if patient is None}))
    alike = _alike(pairs)
    leaks = bool(torn or repeated or copies)
    return SplitAudit(
        verdict="leaks" if leaks else "unknown" if unknown or alike else "clean",
        layout=listing.layout,
        patients_by=mapped.how,
        guesses=listing.guesses,
        sets=_sets(pairs),
        torn=torn,
        repeated=repeated,
        copies=copies,
        alike=alike,
        duplicates=_duplicates(listing.entries) if listing.once else (),
        unknown=unknown,
    )


Pairs = Sequence[tuple[Entry, str | None]]


def _sets(pairs: Pairs) -> tuple[SetCount, ...]:
    names: dict[tuple[str, str], set[str]] = defaultdict(set)
    patients: dict[tuple[str, str], set[str]] = defaultdict(set)
    for entry, patient in pairs:
        key = entry.fold, entry.split
        names[key].add(entry.name)
        patients[key].update([patient] if patient else ())
    ordered = sorted(names, key=lambda key: (_natural(key[0]), _place(key[1])))
    return tuple(SetCount(*key, len(names[key]), len(patients[key])) for key in ordered)


def _torn(pairs: Pairs) -> tuple[TornPatient, ...]:
    held: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for entry, patient in pairs:
        if patient:
            held[patient, entry.fold][entry.split].add(entry.study or entry.name)
    return tuple(
        TornPatient(patient, fold, _shares(splits))
        for (patient, fold), splits in sorted(held.items())
        if len(splits) > 1
    )


def _shares(splits: Mapping[str, set[str]]) -> tuple[Share, ...]:
    return tuple(Share(x, tuple(sorted(splits[x]))) for x in sorted(splits, key=_place))


def _repeated(keyed: Iterable[tuple[str, str | None, Entry]]) -> tuple[Repeated, ...]:
    """What has one key and lies in several sets of a fold."""
    found: dict[tuple[str, str | None], list[Entry]] = defaultdict(list)
    for fold, key, entry in keyed:
        found[fold, key].append(entry)
    repeated = (
        Repeated(tuple(sorted({x.name for x in entries})), fold, splits)
        for (fold, _), entries in found.items()
        if len(splits := tuple(sorted({x.split for x in entries}, key=_place))) > 1
    )
    return tuple(sorted(repeated, key=lambda x: (x.names, x.fold)))


def _alike(pairs: Pairs) -> tuple[Alike, ...]:
    found: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for entry, patient in pairs:
        if patient:
            found[entry.fold, _bare(patient)][patient].add(entry.split)
    alike = (
        Alike(tuple(sorted(patients)), fold, tuple(sorted(splits, key=_place)))
        for (fold, _), patients in found.items()
        if len(patients) > 1 and len(splits := set().union(*patients.values())) > 1
    )
    return tuple(sorted(alike, key=lambda x: (x.patients, x.fold)))


def _bare(patient: str) -> str:
    """Without what a spreadsheet or a person changes: signs, capitals, leading zeros."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[\W_]+", " ", patient.casefold())).strip()


def _duplicates(entries: Sequence[Entry]) -> tuple[Duplicate, ...]:
    times = Counter((x.name, x.fold, x.split) for x in entries)
    return tuple(Duplicate(*key, count) for key, count in sorted(times.items()) if count > 1)


def _place(split: str) -> tuple[int, tuple[int, str]]:
    return (_ORDER.index(split) if split in _ORDER else len(_ORDER), _natural(split))


def _natural(text: str) -> tuple[int, str]:
    """Fold 10 after fold 9."""
    digits = "".join(filter(str.isdecimal, text))
    return (int(digits[:9]) if digits else -1, text)
