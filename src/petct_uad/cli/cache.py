"""``petct cache``: what was computed of single studies, and how much of it stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import time
from typing import Annotated

import typer

from petct_uad.cli.found import AsJson, print_table, rows_json
from petct_uad.core.console import console, fail_cleanly
from petct_uad.core.store.entries import Entry, entries, trim
from petct_uad.core.store.settings import GIB, SWITCH, bound_bytes, is_on, store_folder

_DAY_S = 24 * 3600.0
_HEADER = ("stage", "studies and parts", "GiB", "last used, days ago")
_LEFT_BEHIND = "(of killed runs)"

cache = typer.Typer(help="What stages keep of single studies, so that one more costs one.")


@dataclass(frozen=True)
class StageShare:
    """What is kept of one stage.

    Attributes:
        stage: its name; "" for what killed runs left behind.
        entries: studies, and parts of one.
        newest_days: since the entry that was used last.
        oldest_days: since the one that was longest of no use.
    """

    stage: str
    entries: int
    size_bytes: int
    newest_days: float
    oldest_days: float


@cache.callback(invoke_without_command=True)
def show(context: typer.Context, as_json: AsJson = False) -> None:
    """Size, number and age of what is kept, by stage; age since an entry was last of use."""
    if context.invoked_subcommand is not None:
        return
    with fail_cleanly():
        bound, store = bound_bytes(), store_folder()
        state = "" if is_on() else f"; {SWITCH} is off: nothing is taken from it or added"
    rows = _by_stage(entries(store))
    if as_json:
        typer.echo(rows_json(rows))
    elif rows:
        print_table(_HEADER, map(_line, rows))
    total = sum(row.size_bytes for row in rows)
    text = f"{store}: {total / GIB:.2f} of at most {bound / GIB:g} GiB{state}"
    console.print(text, markup=False, soft_wrap=True)


@cache.command(name="trim")
def trim_to(
    gib: Annotated[float, typer.Option(min=0, help="what may stay; 0 removes everything")],
) -> None:
    """Remove what was longest of no use, until the rest takes at most so much.

    No output changes: what is needed again is computed again.
    """
    with fail_cleanly():
        store = store_folder()
    before = sum(entry.size_bytes for entry in entries(store))
    after = trim(store, int(gib * GIB))
    text = f"{store}: {before / GIB:.2f} GiB before, {after / GIB:.2f} now"
    console.print(text, markup=False, soft_wrap=True)


def _by_stage(kept: Sequence[Entry]) -> list[StageShare]:
    now = time()
    shares = []
    for stage in dict.fromkeys(entry.stage for entry in kept):
        ours = [entry for entry in kept if entry.stage == stage]
        ages_days = [(now - entry.used_s) / _DAY_S for entry in ours]
        size_bytes = sum(entry.size_bytes for entry in ours)
        shares.append(StageShare(stage, len(ours), size_bytes, min(ages_days), max(ages_days)))
    return shares


def _line(row: StageShare) -> tuple[str, ...]:
    age = f"{row.newest_days:.1f} to {row.oldest_days:.1f}"
    size_gib = f"{row.size_bytes / GIB:.2f}"
    return row.stage or _LEFT_BEHIND, str(row.entries), size_gib, age
