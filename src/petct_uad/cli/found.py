"""What a command found, on standard output: a table for people, ``--json`` for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from rich.console import Console
from rich.table import Table

from petct_uad.core.console import console
from petct_uad.core.params.reading import ParamsFile

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


def note_other_dataset(metrics: Iterable[Path]) -> None:
    """Say which data set these figures are of, where params.yaml names another since.

    Args:
        metrics: ``metrics.json`` of rows.

    Raises:
        ParamsError: params.yaml cannot be read.
    """
    asked = ParamsFile.read().dataset
    texts = [file.read_text(encoding="utf-8") for file in metrics if file.is_file()]
    others = {json.loads(text)["dataset"] for text in texts} - {asked}
    if others:
        console.print(
            f"note: figures of {', '.join(sorted(others))}, not of {asked}, which params.yaml "
            "names. `dvc repro` makes those.",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
