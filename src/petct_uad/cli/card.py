"""``petct card``: a datasheet and model cards from what the pipeline wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petct_uad.cli.found import note_other_dataset
from petct_uad.cli.out import out_folder
from petct_uad.core.console import console, fail_cleanly
from petct_uad.core.params.reading import ParamsFile


def card(
    rows: Annotated[
        list[str] | None, typer.Argument(help="of the table; by default all that were evaluated")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="a folder; cards in it are replaced", callback=out_folder)
    ] = Path("reports/cards"),
) -> None:
    """Write a datasheet of the data set and a model card per row, as Markdown.

    All that they say comes from tables, metrics and lineage of the last `dvc repro`. A side output:
    nothing reads it, git and DVC leave it out.
    """
    # The figures of merit take a second that `petct --help` need not wait for.
    from petct_uad.audit.cards.facts import evaluated_runs
    from petct_uad.audit.cards.write import write_cards
    from petct_uad.lineage.names import metrics_file

    with fail_cleanly():
        written = write_cards(out, ParamsFile.read().dataset, rows or ())
        note_other_dataset(map(metrics_file, rows or evaluated_runs()))
    console.print(f"{out} has {len(written)} cards, {written[0].name} first.", markup=False)
