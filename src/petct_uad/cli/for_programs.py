"""``--json``: what a command found, for a program to read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="for programs; nothing cut off")]


def rows_json(rows: Sequence[DataclassInstance]) -> str:
    """A list of objects, keyed by the names of the fields."""
    return json.dumps([asdict(row) for row in rows], indent=2)
