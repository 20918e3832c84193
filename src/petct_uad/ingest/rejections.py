"""What becomes of an input that cannot be used: a row that says why, or the end of the run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TypeVar

from petct_uad.core.errors import InputsRefusedError, RejectedInputError
from petct_uad.ingest.found import FoundRejection
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.tables import RejectedRow

# What a spreadsheet takes for the start of a formula.
FORMULA = ("=", "+", "-", "@")
LONGEST_TEXT = 200  # of what a file says
LONGEST_MESSAGE = 2000  # of what is said about it
# How the advice begins where the study has all it needs without what was refused.
NOTHING_LOST = "Nothing is lost"
_SHOWN = 5
# What costs a study comes before what costs it a series, and that before what costs a file.
_FIRST = ("pairing", "label", "frames", "units", "geometry", "pixels", "identity")
_VARYING = re.compile(r"(?<=patient )[^\s:;,]+|[^\s,;:()]*\d[^\s,;:()]*")

Refused = FoundRejection | RejectedRow
Item = TypeVar("Item")


@lru_cache(4096)
def printable(text: str, longest: int = LONGEST_TEXT) -> str:
    """Text that is safe in a CSV and on a terminal, whole words of at most ``longest`` characters.

    Control characters go, undecodable bytes are spelled out, and a spreadsheet will not take a
    leading ``=``, ``+``, ``-`` or ``@`` for a formula.
    """
    text = os.fsencode(text).decode("utf-8", "backslashreplace")
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    text = " ".join(text.split())
    if len(text) > longest:  # half a name would not be known for one
        text = text[:longest].rpartition(" ")[0] or text[:longest]
    return f"'{text}" if text[:1] in FORMULA else text


def rejected_row(error: RejectedInputError) -> FoundRejection:
    """An error as a row, with the file or UID as it is."""
    said = (error.subject, error.found, error.expected, error.advice)
    subject, found, expected, advice = (printable(text, LONGEST_MESSAGE) for text in said)
    return FoundRejection(subject, error.code, found, expected, advice)


def maybe_stop(refused: Sequence[Refused], params: IngestParams) -> None:
    """End the run where something was refused and ``on_reject`` is ``stop``.

    Raises:
        InputsRefusedError: naming the first of them.
    """
    if refused and params.on_reject == "stop":
        raise InputsRefusedError(
            f"{len(refused)} inputs were refused and ingest.on_reject is stop:\n{shown(refused)}"
        )


def shown(rows: Sequence[Refused]) -> str:
    """What was refused, a line for all that was refused alike."""
    return "\n".join(f"  {line}" for line in told(rows))


def told(rows: Sequence[Refused]) -> list[str]:
    """Refusals in words, one line for all that are alike, the gravest first.

    What costs data is never cut off. Of what does not, such as files of other modalities, a few
    lines are shown, with a few names each.
    """
    groups = sorted(gathered(sorted(rows, key=_key), _why), key=lambda group: _gravity(group[0]))
    harmless = [group for group in groups if _harmless(group[0])]
    lines = [_in_one_line(group, len(group)) for group in groups if group not in harmless]
    lines += [_in_one_line(group, _SHOWN) for group in harmless[:_SHOWN]]
    more = sum(map(len, harmless[_SHOWN:]))
    return [*lines, *([f"and {more} more, without which nothing is lost"] if more else [])]


def gathered(items: Iterable[Item], text: Callable[[Item], str]) -> list[list[Item]]:
    """Items that say the same but for numbers, patients and files, in the order of the first."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(_VARYING.sub("#", text(item)), []).append(item)
    return list(groups.values())


def names(subjects: Sequence[str], most: int) -> str:
    """The first of them, and how many more."""
    more = f" and {len(subjects) - most} more" if len(subjects) > most else ""
    return ", ".join(subjects[:most]) + more


def _in_one_line(rows: Sequence[Refused], most: int) -> str:
    if len(rows) == 1:
        return f"{rows[0].subject}: {_why(rows[0])}"
    first = ", the first" if len(set(map(_why, rows))) > 1 else ""
    subjects = names([row.subject for row in rows], most)
    return f"{len(rows)} alike{first}: {_why(rows[0])} They are: {subjects}"


def _why(row: Refused) -> str:
    return f"{row.code}: found {row.found}; expected {row.expected}. {row.advice}"


def _key(row: Refused) -> tuple[str, ...]:
    return row.subject, row.code, row.found, row.expected


def _gravity(row: Refused) -> int:
    return _FIRST.index(row.code) if row.code in _FIRST else len(_FIRST)


def _harmless(row: Refused) -> bool:
    return row.advice.startswith(NOTHING_LOST)
