"""``petct fetch``: public cohorts by recipe, looked up without a network and fetched with one."""

from __future__ import annotations

from typing import Annotated

import typer

from petct_uad.core.console import console, fail_cleanly

_ENDPOINT = "PETCT_S3_ENDPOINT"


def fetch(
    name: Annotated[str | None, typer.Argument(help="of a recipe in data/cohorts")] = None,
    *,
    every: Annotated[bool, typer.Option("--list", help="of all recipes, and nothing else")] = False,
    patients: Annotated[
        int | None, typer.Option(min=1, help="only the first of them; by default all")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--license", help="only series under it, in any version: cc-by, cc-by-nc"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what, how large, from where; fetch nothing")
    ] = False,
    endpoint: Annotated[
        str | None,
        typer.Option(envvar=_ENDPOINT, help="of another S3 server, such as a mirror"),
    ] = None,
) -> None:
    """Fetch a public cohort of PET/CT to data/raw/NAME, verified, an archive per study, under DVC.

    Stopped at any point, the same command resumes. What a cohort holds comes from the index of the
    Imaging Data Commons (pip install '.[cohorts]'): --list and --dry-run use no network.
    """
    from petct_uad.cohorts.recipe import read_recipe, recipe_names
    from petct_uad.cohorts.show import list_text

    with fail_cleanly():
        if every or name is None:
            typer.echo(list_text([read_recipe(x) for x in recipe_names()]), nl=False)
            return
        _fetch(name, patients, licence, dry_run, endpoint)


def _fetch(
    name: str, patients: int | None, licence: str | None, dry_run: bool, endpoint: str | None
) -> None:
    from petct_uad.cli.add import track_with_dvc
    from petct_uad.cohorts.fetch import RAW, Cohort
    from petct_uad.cohorts.index import index_version, read_series
    from petct_uad.cohorts.recipe import read_recipe
    from petct_uad.cohorts.selection import first_patients, licensed, select
    from petct_uad.cohorts.show import fetched_text, plan_text
    from petct_uad.cohorts.transfer import Buckets

    recipe = read_recipe(name)
    series = read_series(recipe.collection)
    studies = select(recipe, series)
    offered = studies if licence is None else select(recipe, licensed(series, licence))
    chosen = offered if patients is None else first_patients(offered, patients)
    typer.echo(plan_text(recipe, studies, chosen, index_version()), nl=False)
    if dry_run:
        return
    cohort = Cohort(recipe, index_version(), Buckets(endpoint), RAW / name)
    fetched = cohort.fetch(chosen)
    track_with_dvc(cohort.target)
    console.print(fetched_text(recipe, chosen, fetched, cohort.target), markup=False)
