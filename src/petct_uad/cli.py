"""``petct``: what a person runs besides ``dvc``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from petct_uad.console import console, fail_cleanly
from petct_uad.files import write_text
from petct_uad.params import PARAMS_FILE, load_params

app = typer.Typer(no_args_is_help=True, help="A data-versioned benchmark on paired PET/CT.")


@app.callback()
def main() -> None:
    """Run from the repository's root."""


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="how params.yaml will call the data set")],
    folder: Annotated[Path, typer.Argument(help="any tree of DICOM files; it is only read")],
) -> None:
    """Copy a folder of DICOM to data/raw/NAME and put it under DVC."""
    # pydicom and SimpleITK take a second that `petct --help` need not wait for.
    from petct_uad.dicom.dataset import add_dataset

    with fail_cleanly():
        target = add_dataset(name, folder)
    console.print(f"{target} is under DVC. Next:", markup=False)
    console.print(f"  git add {target}.dvc {target.parent}/.gitignore", markup=False)
    console.print(f"  dvc exp run -S dataset={name}", markup=False)


@app.command()
def preset(
    name: Annotated[Literal["smoke", "paper", "cpu"], typer.Argument(help="a file in params/")],
) -> None:
    """Write a preset over params.yaml, once it is known to be valid."""
    source = Path("params") / f"{name}.yaml"
    with fail_cleanly():
        load_params(source)
        write_text(PARAMS_FILE, source.read_text(encoding="utf-8"))
    console.print(f"{PARAMS_FILE} is now the {name} preset. Next: dvc repro", markup=False)


if __name__ == "__main__":
    app()
