"""``petct classes``: how well each row finds each disease."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from petct_uad.core.console import console, fail_cleanly
from petct_uad.core.params.reading import ParamsFile

_RUNS = Path("metrics/runs")


def classes(
    csv: Annotated[Path | None, typer.Option(help="receives the table; is replaced")] = None,
) -> None:
    """AUROC of each row by class: the disease of a picture, the lesion's name of a study.

    The abnormal test slices of one class against all normal ones, mean over seeds. With few
    patients of a class it says little; there is no interval.
    """
    from petct_uad.audit.classes import ClassRow, measure_classes
    from petct_uad.core.files import write_table

    with fail_cleanly():
        dataset = ParamsFile.read().dataset
        rows = measure_classes(Path("data/interim") / dataset / "ingest/studies.csv", _RUNS)
        if csv is not None:
            write_table(csv, ClassRow, rows)
    table = Table("row", "class", "slices", "patients", "AUROC")
    for row in rows:
        table.add_row(row.run, row.kind, str(row.slices), str(row.patients), f"{row.auroc:.3f}")
    console.print(table)
