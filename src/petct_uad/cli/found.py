"""What a command found, on standard output: a table for people, ``--json`` for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_WIDTH = 110  # of characters: in a narrower terminal a name is not cut
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="for programs; nothing cut off")]


def rows_json(rows: Sequence[DataclassInstance]) -> str:
    """A list of objects, keyed by the names of the fields."""
    return json.dumps([asdict(row) for row in rows], indent=2)


def print_table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """A line for each."""
    table = Table(*header, box=None)
    for line in lines:
        table.add_row(*line)
    Console(highlight=False, width=_WIDTH).print(table)
