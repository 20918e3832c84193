"""What becomes of an input that cannot be used: a row that says why, or the end of the run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

from petct_uad.core.errors import InputsRefusedError, RejectedInputError
from petct_uad.ingest.found import FoundRejection
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.tables import RejectedRow

# What a spreadsheet takes for the start of a formula.
FORMULA = ("=", "+", "-", "@")
_LONGEST_TEXT = 200
_SHOWN = 5

Rejection = TypeVar("Rejection", FoundRejection, RejectedRow)


@lru_cache(4096)
def printable(text: str) -> str:
    """Text that is safe in a CSV and on a terminal.

    Control characters go, undecodable bytes are spelled out, and a spreadsheet will not take a
    leading ``=``, ``+``, ``-`` or ``@`` for a formula.
    """
    text = os.fsencode(text).decode("utf-8", "backslashreplace")
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    text = " ".join(text.split())[:_LONGEST_TEXT]
    return f"'{text}" if text[:1] in FORMULA else text


def rejected_row(error: RejectedInputError) -> FoundRejection:
    """An error as a row, with the file or UID as it is."""
    return FoundRejection(
        printable(error.subject), error.code, printable(error.found),
        printable(error.expected), printable(error.advice),
    )  # fmt: skip


def maybe_stop(refused: Sequence[Rejection], params: IngestParams) -> None:
    """End the run where something was refused and ``on_reject`` is ``stop``.

    Raises:
        InputsRefusedError: naming the first of them.
    """
    if refused and params.on_reject == "stop":
        raise InputsRefusedError(
            f"{len(refused)} inputs were refused and ingest.on_reject is stop:\n{shown(refused)}"
        )


def shown(rows: Sequence[Rejection]) -> str:
    """The first refusals, a line each."""
    lines = [f"  {in_words(row)}" for row in sorted(rows)[:_SHOWN]]
    if len(rows) > _SHOWN:
        lines.append(f"  and {len(rows) - _SHOWN} more")
    return "\n".join(lines)


def in_words(row: FoundRejection | RejectedRow) -> str:
    """One refusal: what, why, and what to do."""
    return f"{row.subject}: {row.code}: found {row.found}; expected {row.expected}. {row.advice}"
