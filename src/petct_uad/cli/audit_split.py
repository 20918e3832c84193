"""``petct audit-split``: whether anybody's split leaks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from petct_uad.cli.out import out_file
from petct_uad.core.console import console, fail_cleanly

if TYPE_CHECKING:
    from petct_uad.audit.leak import Leak

_LEAKS, _UNKNOWN = 1, 3


def audit_split(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="CSV, JSON, text, or a folder; or one file per split",
        ),
    ],
    *,
    cohort: Annotated[
        str | None,
        typer.Option(help="a collection of the Imaging Data Commons, whose index knows"),
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="a regular expression; its first group is the patient")
    ] = None,
    split_column: Annotated[str | None, typer.Option(help="that says train or test")] = None,
    patient_column: Annotated[str | None, typer.Option(help="that says whose")] = None,
    name_column: Annotated[str | None, typer.Option(help="that says what")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="all findings, as JSON")] = False,
    badge: Annotated[
        Path | None,
        typer.Option(
            help="is replaced: a picture (.svg), or JSON for shields.io", callback=out_file
        ),
    ] = None,
    worth: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="HONEST LEAKING",
            help="two revisions of this repository: says what a leak is worth, as `petct leak`",
        ),
    ] = None,
) -> None:
    """Say which patients are in more than one set of a split, whoever made it.

    Reads a table, JSON (nnU-Net's splits_final.json too), lists of names, or a tree of folders, and
    says what it took for what. Exit codes: 0 no leak, 1 it leaks, 3 no leak was found but some
    names are of no known patient, 4 no split can be read.
    """
    from petct_uad.audit.splits.findings import audit_split as audit
    from petct_uad.audit.splits.patients import map_patients
    from petct_uad.audit.splits.read import read_split
    from petct_uad.audit.splits.show import audit_json, audit_text, write_badge
    from petct_uad.audit.splits.tables import Columns
    from petct_uad.cohorts.index import patients_by_identifier

    with fail_cleanly():
        asked = Columns(split=split_column, patient=patient_column, name=name_column)
        listing = read_split(paths, asked)
        known = patients_by_identifier(cohort) if cohort else None
        found = audit(listing, map_patients(listing.entries, pattern, known))
        leak = _worth(*worth) if worth and found.verdict == "leaks" else None
        typer.echo((audit_json if as_json else audit_text)(found, leak), nl=False)
        if badge:
            write_badge(badge, found)
            console.print(f"{badge} is the badge.", markup=False)
    raise typer.Exit({"leaks": _LEAKS, "unknown": _UNKNOWN}.get(found.verdict, 0))


def _worth(honest: str, leaking: str) -> Leak:
    from petct_uad.audit.leak import leak_between
    from petct_uad.schema import load_params

    return leak_between(honest, leaking, load_params().evaluate)
