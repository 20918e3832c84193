"""``petct classes``: how well each row finds each disease."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from petct_uad.cli.for_programs import AsJson, rows_json
from petct_uad.core.console import fail_cleanly

_RUNS = Path("metrics/runs")


def classes(
    csv: Annotated[Path | None, typer.Option(help="receives the table; is replaced")] = None,
    as_json: AsJson = False,
) -> None:
    """AUROC of each row by class: the disease of a picture, the lesion's name of a study.

    The abnormal test slices of one class against all normal ones, mean over seeds, with an interval
    from a bootstrap over patients. With few patients of a class it says little.
    """
    from petct_uad.core.errors import EvaluationError
    from petct_uad.core.files import read_table, write_table
    from petct_uad.evaluation.tables import ClassRow

    with fail_cleanly():
        files = sorted(_RUNS.glob("*/*/classes.csv"))
        if not files:
            raise EvaluationError(f"{_RUNS}: no */*/classes.csv. Run `dvc repro` first.")
        rows = sorted(row for file in files for row in read_table(file, ClassRow))
        if csv is not None:
            write_table(csv, ClassRow, rows)
    if as_json:
        typer.echo(rows_json(rows))
        return
    table = Table("row", "class", "slices", "patients", "AUROC")
    for row in rows:
        auroc = f"{row.auroc:.3f} ({row.low:.3f} to {row.high:.3f})"
        table.add_row(row.run, row.lesion_kind, str(row.slices), str(row.patients), auroc)
    Console(highlight=False).print(table)
