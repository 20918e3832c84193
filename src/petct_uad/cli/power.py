"""``petct power``: how large a study must be, and how small a lesion may be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petct_uad.cli.found import AsJson, rows_json
from petct_uad.core.console import console, fail_cleanly
from petct_uad.core.params.reading import ParamsFile
from petct_uad.schema import load_params

_DIAMETERS_MM, _CONTRASTS = (6.0, 10.0, 15.0, 20.0, 30.0), (2.0, 4.0, 8.0)
_CELLS = Path("reports/detection.csv")

power = typer.Typer(
    no_args_is_help=True, help="How large a study must be, and how small a lesion may be."
)


@power.command()
def patients(
    row: Annotated[
        list[str] | None, typer.Option(help="a row of the table; by default all on PET and CT")
    ] = None,
    chance: Annotated[
        float, typer.Option(min=0.5, max=0.99, help="to show a difference that is there")
    ] = 0.8,
    revision: Annotated[
        str, typer.Option(help="commit, branch, tag or DVC experiment")
    ] = "workspace",
    as_json: AsJson = False,
) -> None:
    """How many patients it would take to tell each two rows apart, SUVmax among them.

    From how much the rows' difference varies over the patients of the test split.
    """
    from petct_uad.audit.power import power_markdown, power_of_runs
    from petct_uad.audit.runs import read_revision
    from petct_uad.lineage.revision import find_revision

    with fail_cleanly():
        runs = read_revision(find_revision(revision))
        params = load_params().evaluate
        rows = power_of_runs(runs, row or (), params, chance)
    if as_json:
        typer.echo(rows_json(rows))
    else:
        typer.echo(power_markdown(rows, chance, 1 - params.confidence), nl=False)


@power.command()
def lesions(
    entry: Annotated[
        list[str] | None, typer.Option(help="of `benchmark`; by default all that are trained")
    ] = None,
    diameter_mm: Annotated[
        list[float] | None, typer.Option(min=1, max=100, help=f"by default {_DIAMETERS_MM}")
    ] = None,
    contrast: Annotated[
        list[float] | None,
        typer.Option(min=1, max=50, help=f"SUV over its surroundings'; by default {_CONTRASTS}"),
    ] = None,
    sites: Annotated[int, typer.Option(min=1, help="per study and tissue")] = 2,
    fwhm_mm: Annotated[float, typer.Option(min=0.5, max=20, help="the PET's resolution")] = 6.0,
) -> None:
    """The smallest lesion that each trained row finds, by contrast, tissue and scanner.

    Lesions are planted into the validation normals, in CT and PET alike; the test split stays
    closed. Says what the threshold of `evaluate.false_positive_rate` finds, and writes every count.
    """
    # torch takes seconds that `petct --help` need not wait for.
    from petct_uad.audit.detection import (
        DetectionRow,
        Question,
        find_planted,
        smallest_markdown,
        trained_entries,
    )
    from petct_uad.audit.planted import Window
    from petct_uad.core.files import write_table
    from petct_uad.models.common.device import choose_device

    with fail_cleanly():
        params = load_params()
        question = Question(
            diameters_mm=tuple(sorted(diameter_mm or _DIAMETERS_MM)),
            contrasts=tuple(sorted(contrast or _CONTRASTS)),
            sites=sites,
            fwhm_mm=fwhm_mm,
            window=Window(params.preprocess.ct_low_hu, params.preprocess.ct_high_hu),
            false_positive_rate=params.evaluate.false_positive_rate,
        )
        device = choose_device(params.train.device)
        entries = trained_entries(ParamsFile.read().dataset, params.benchmark, entry or ())
        rows = find_planted(entries, params.score, question, device)
        write_table(_CELLS, DetectionRow, rows)
    typer.echo(smallest_markdown(rows, question), nl=False)
    console.print(f"{_CELLS} has every count.", markup=False)
