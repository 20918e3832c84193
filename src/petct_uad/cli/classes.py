"""``petct classes``: how well each row finds each disease."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from petct_uad.cli.found import AsJson, note_other_dataset, print_table, rows_json
from petct_uad.cli.out import out_file
from petct_uad.core.console import fail_cleanly

if TYPE_CHECKING:
    from petct_uad.evaluation.tables import ClassRow

_RUNS = Path("metrics/runs")


def classes(
    csv: Annotated[
        Path | None, typer.Option(help="receives the table; is replaced", callback=out_file)
    ] = None,
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
        note_other_dataset(file.with_name("metrics.json") for file in files)
        rows = sorted(row for file in files for row in read_table(file, ClassRow))
        if csv is not None:
            write_table(csv, ClassRow, rows)
    if as_json:
        typer.echo(rows_json(rows))
        return
    header = ("row", "class", "slices", "patients", "AUROC")
    print_table(header, map(_line, rows))


def _line(row: ClassRow) -> tuple[str, ...]:
    auroc = f"{row.auroc:.3f} ({row.low:.3f} to {row.high:.3f})"
    return row.run, row.lesion_kind, str(row.slices), str(row.patients), auroc
