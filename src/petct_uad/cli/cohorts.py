"""``petct cohorts``: public data by recipe, looked up without a network."""

from __future__ import annotations

from typing import Annotated

import typer

from petct_uad.core.console import fail_cleanly


def cohorts(
    name: Annotated[
        str | None, typer.Argument(help="of a recipe in data/cohorts; without it all are listed")
    ] = None,
    patients: Annotated[
        int | None, typer.Option(min=1, help="only the first of them; by default all")
    ] = None,
) -> None:
    """List public cohorts of PET/CT, or say what one holds: studies, size, licence, labels.

    The list is that of the recipes in data/cohorts. What one holds comes from the index of the
    Imaging Data Commons (pip install '.[cohorts]'). No network is used and nothing is fetched.
    """
    from petct_uad.cohorts.index import index_version, read_series
    from petct_uad.cohorts.recipe import read_recipe, recipe_names
    from petct_uad.cohorts.selection import first_patients, select
    from petct_uad.cohorts.show import list_text, plan_text

    with fail_cleanly():
        if name is None:
            typer.echo(list_text([read_recipe(x) for x in recipe_names()]), nl=False)
            return
        recipe = read_recipe(name)
        studies = select(recipe, read_series(recipe.collection))
        chosen = studies if patients is None else first_patients(studies, patients)
        typer.echo(plan_text(recipe, studies, chosen, index_version()), nl=False)
