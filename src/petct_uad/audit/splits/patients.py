"""Names to patients: as the file says, by a pattern, by a cohort's index, or by a known naming."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

from petct_uad.audit.splits.listing import Entry, terminal_text
from petct_uad.core.errors import SplitFileError

Find = Callable[[str], str | None]

_BEFORE, _AFTER = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
# How public data sets name a patient, who is the group. A number after "case" or "P" is often that
# of a study, so it is not among them.
_NAMINGS = {
    "autoPET's (PETCT_, fdg_ or psma_, and 10 or 16 hexadecimal digits)": (
        rf"(?i:{_BEFORE}(?:PETCT|fdg|psma)_)([0-9a-fA-F]{{16}}|[0-9a-fA-F]{{10}}){_AFTER}"
    ),
    "BIDS' (sub-)": rf"{_BEFORE}sub-([A-Za-z0-9]+)",
    "TCGA's (TCGA-XX-XXXX)": rf"{_BEFORE}(TCGA-[A-Z0-9]{{2}}-[A-Z0-9]{{4}}){_AFTER}",
    "the Cancer Imaging Archive's": (
        rf"{_BEFORE}(ACRIN-[A-Z-]*PET-\d+|(?:R01|AMC)-\d{{3}}|Lung_Dx-[A-Z]\d{{4}}|RIDER-\d+"
        rf"|STS_\d{{3}}|LIDC-IDRI-\d{{4}}|LUNG1-\d{{3}}|HN-[A-Z]+-\d{{3}}){_AFTER}"
    ),
}
# Of folders, too, so not taken where all names are then of one patient, nor from a column.
_WORDS = {
    "patient or subject, and a number": (
        rf"(?i:{_BEFORE}(?:patient|subject|subj)[-_ ]?)([A-Za-z]{{0,3}}\d+){_AFTER}"
    ),
}
_ENOUGH = 0.5  # of all names; a naming that fits fewer is not theirs
_SHORTEST_TAIL = 8  # of an identifier: its hash alone, as in autoPET's names, still names a patient


@dataclass(frozen=True)
class Mapped:
    """Whose the names are.

    Attributes:
        how: in words.
        patients: of each entry; None where it is not known.
    """

    how: str
    patients: tuple[str | None, ...]


def map_patients(
    entries: Sequence[Entry], pattern: str | None = None, known: Mapping[str, str] | None = None
) -> Mapped:
    """The patient of each entry.

    Args:
        entries: of a listing.
        pattern: a regular expression; its group ``patient``, its first, or all that fits.
        known: the patient of each identifier in a cohort's index: of patients, studies and series.

    Raises:
        SplitFileError: the pattern is no regular expression.
    """
    if pattern is not None:
        find = finder(pattern)
        return Mapped(f"the pattern {pattern!r}", tuple(find(x.name) for x in entries))
    if known is not None:
        return Mapped("the cohort's index", tuple(_search(index_finder(known), entries)))
    if any(x.patient for x in entries):
        return _as_said(entries)
    none = Mapped("nothing: no known naming fits", (None,) * len(entries))
    names = [x.name for x in entries]
    words = _by_naming(names, _WORDS, _ENOUGH)
    several = words and len(set(words.patients) - {None}) > 1
    return _by_naming(names, _NAMINGS, _ENOUGH) or (words if words and several else none)


def finder(pattern: str) -> Find:
    """Finds the patient in a name by a regular expression.

    Raises:
        SplitFileError: it is none.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise SplitFileError(
            f"--pattern: found {terminal_text(pattern)!r} ({error}); expected a regular expression "
            "whose first group is the patient, such as '^(PETCT_[0-9a-f]+)_'."
        ) from error
    group: int | str = "patient" if "patient" in compiled.groupindex else min(compiled.groups, 1)

    def find(name: str) -> str | None:
        match = compiled.search(name)
        return (match[group] or None) if match else None

    return find


def index_finder(known: Mapping[str, str]) -> Find:
    """Finds the longest part of a name that is an identifier in an index."""
    tails: dict[str, set[str]] = {}
    for patient in known.values():
        tails.setdefault(re.split("[_-]", patient)[-1], set()).add(patient)
    short = {x: y.pop() for x, y in tails.items() if len(x) >= _SHORTEST_TAIL and len(y) == 1}
    identifiers = {**short, **known}

    @cache
    def find(name: str) -> str | None:
        for part in re.split(r"[/\\\s,]+", name):
            if found := _longest(part, identifiers):
                return found
        return None

    return find


def _longest(part: str, identifiers: Mapping[str, str]) -> str | None:
    """The patient of the longest identifier that a part of a path holds as whole words."""
    if part in identifiers:
        return identifiers[part]
    edges = [0, *(x.start() for x in re.finditer(r"[_.\-]", part)), len(part)]
    spans = sorted(combinations(edges, 2), key=lambda span: (span[0] - span[1], span))
    words = (part[start:end].lstrip("_.-") for start, end in spans)
    return next((identifiers[word] for word in words if word in identifiers), None)


def _search(find: Find, entries: Sequence[Entry]) -> list[str | None]:
    texts = ((x.patient, x.study, x.name) for x in entries)
    return [next(filter(None, map(find, filter(None, text))), None) for text in texts]


def _as_said(entries: Sequence[Entry]) -> Mapped:
    """As the file says; a known naming in it may have more behind it, such as a visit."""
    said = [x.patient for x in entries]
    named = _by_naming([x for x in said if x], _NAMINGS, enough=1)
    if named is None:
        return Mapped("the file", tuple(said))
    found = iter(named.patients)
    return Mapped(f"the file, {named.how}", tuple(next(found) if x else None for x in said))


def _by_naming(texts: Sequence[str], namings: Mapping[str, str], enough: float) -> Mapped | None:
    """By the naming that fits most of the texts, if it fits enough."""
    found = {how: tuple(map(finder(pattern), texts)) for how, pattern in namings.items()}
    how = max(found, key=lambda x: len(texts) - found[x].count(None))
    fits = len(texts) - found[how].count(None)
    return Mapped(f"names like {how}", found[how]) if fits >= enough * len(texts) else None
