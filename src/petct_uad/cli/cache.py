"""``petct cache``: what was computed of single studies, and how much of it stays."""

from __future__ import annotations

from collections.abc import Sequence
from time import time
from typing import Annotated

import typer
from rich.table import Table

from petct_uad.core.console import console, fail_cleanly
from petct_uad.core.store.entries import Entry, entries, trim
from petct_uad.core.store.settings import GIB, SWITCH, bound_bytes, is_on, store_folder

_DAY_S = 24 * 3600.0
_LEFT_BEHIND = "(of killed runs)"

cache = typer.Typer(help="What stages keep of single studies, so that one more costs one.")


@cache.callback(invoke_without_command=True)
def show(context: typer.Context) -> None:
    """Size, number and age of what is kept, by stage; age since an entry was last of use."""
    if context.invoked_subcommand is not None:
        return
    with fail_cleanly():
        bound, store = bound_bytes(), store_folder()
        state = "" if is_on() else f"; {SWITCH} is off: nothing is taken from it or added"
    kept = entries(store)
    table = Table("stage", "studies and parts", "GiB", "last used, days ago")
    for stage in dict.fromkeys(entry.stage for entry in kept):
        table.add_row(*_row(stage, [entry for entry in kept if entry.stage == stage]))
    console.print(table)
    total = sum(entry.size_bytes for entry in kept)
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


def _row(stage: str, kept: Sequence[Entry]) -> tuple[str, ...]:
    size_gib = sum(entry.size_bytes for entry in kept) / GIB
    ages = sorted((time() - entry.used_s) / _DAY_S for entry in kept)
    age = f"{ages[0]:.1f} to {ages[-1]:.1f}"
    return stage or _LEFT_BEHIND, str(len(kept)), f"{size_gib:.2f}", age
