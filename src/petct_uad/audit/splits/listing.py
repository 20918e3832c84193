"""A split as anybody wrote it: names, each in a split, whatever the layout of the file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from petct_uad.core.errors import SplitFileError

_WORDS = {
    "train": "train training tr trn learn learning",
    "val": "val valid validation validate dev develop development tune tuning",
    "test": "test testing ts tst holdout heldout eval evaluation",
}
_SPLIT_OF = {word: split for split, words in _WORDS.items() for word in words.split()}
_NOWHERE = frozenset({"", "-", "none", "nan", "na", "null", "unused", "exclude", "excluded"})


@dataclass(frozen=True)
class Entry:
    """One line of a split.

    Attributes:
        name: as it is written: of a study, a series, a slice or a file.
        split: train, val, test, or whatever else the file calls it.
        fold: of a cross-validation; "" where there is none. Each fold is a split of its own.
        patient: as the file says, if it does.
        study: as the file says, if it does.
        content: SHA-256 of the file of this name, where another of the same size was found.
    """

    name: str
    split: str
    fold: str = ""
    patient: str | None = None
    study: str | None = None
    content: str | None = None


@dataclass(frozen=True)
class Listing:
    """All lines of a split.

    Attributes:
        layout: what was recognised, in words.
        entries: in the order of the file.
        guesses: what was taken for what, in sentences; a person should read them.
        once: whether a split lists a name once; a table of slices repeats its studies.
    """

    layout: str
    entries: tuple[Entry, ...]
    guesses: tuple[str, ...] = ()
    once: bool = True


def split_word(text: str) -> str | None:
    """train, val or test, if a word is one of those that people use for it."""
    return _SPLIT_OF.get(re.sub(r"[^a-z]", "", text.lower()))


def split_within(text: str) -> str | None:
    """The one split that the name of a file or folder says: ``train_images``, ``imagesTs``."""
    if whole := split_word(text):
        return whole
    found = {split_word(word) for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", text)} - {None}
    return found.pop() if len(found) == 1 else None


def split_named(text: str) -> str | None:
    """A split in our words, or in the file's own; None where it says that it is in none."""
    cleaned = text.strip()
    return None if cleaned.lower() in _NOWHERE else split_word(cleaned) or cleaned


def listing_of(
    path: Path,
    layout: str,
    entries: Iterable[Entry],
    guesses: Sequence[str] = (),
    *,
    once: bool = True,
) -> Listing:
    """A listing with two splits or more.

    Raises:
        SplitFileError: it has none, or only one.
    """
    found = tuple(entries)
    splits = sorted({(x.fold, x.split) for x in found})
    if len({split for _, split in splits}) < 2:
        what = f"names of {splits[0][1]!r} only" if splits else "no names"
        raise unusable(
            path,
            found=f"{what}, read as {layout}",
            expected="names of at least two splits, such as train and test",
            advice="Name the files of all splits, or the folder that holds them.",
        )
    return Listing(layout, found, tuple(guesses), once)


def unusable(path: Path, *, found: str, expected: str, advice: str) -> SplitFileError:
    """The error of a file that cannot be read as a split."""
    return SplitFileError(f"{terminal_text(path)}: found {found}; expected {expected}. {advice}")


def terminal_text(value: Any, most: int = 120) -> str:
    """Text of others, without what a terminal would obey, and not too long."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))
    return text if len(text) <= most else f"{text[: most - 3]}..."
