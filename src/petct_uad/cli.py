"""``petct``: what a person runs besides ``dvc``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from petct_uad.audit.commands import lineage
from petct_uad.console import console, fail_cleanly
from petct_uad.files import write_text
from petct_uad.params import PARAMS_FILE, parse_params
from petct_uad.presets import preset_content, preset_names

app = typer.Typer(no_args_is_help=True, help="A data-versioned benchmark on paired PET/CT.")
key = typer.Typer(no_args_is_help=True, help="The secret key of the patients' pseudonyms.")
app.add_typer(key, name="key")
app.add_typer(lineage, name="lineage")


@app.callback()
def main() -> None:
    """Run from the repository's root."""


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="how params.yaml will call the data set")],
    folder: Annotated[Path, typer.Argument(help="DICOM files, or pictures; only read")],
) -> None:
    """Copy a folder of DICOM or pictures to data/raw/NAME and put it under DVC."""
    # pydicom and SimpleITK take a second that `petct --help` need not wait for.
    from petct_uad.dicom.dataset import add_dataset

    with fail_cleanly():
        target = add_dataset(name, folder)
    console.print(f"{target} is under DVC. Next:", markup=False)
    console.print(f"  git add {target}.dvc {target.parent}/.gitignore", markup=False)
    console.print(f"  dvc exp run -S dataset={name}", markup=False)


@key.command()
def create() -> None:
    """Make a key outside the repository, in PETCT_KEY_FILE or ~/.config/petct/pseudonym.key."""
    from petct_uad.dicom.pseudonyms import create_key, key_file

    path = key_file()
    with fail_cleanly():
        create_key(path)
    console.print(f"{path} is the key. Keep a copy in a safe, never in a repository.", markup=False)


@key.command()
def show() -> None:
    """Where the key lies, and the fingerprint that ingest.key may ask for."""
    from petct_uad.dicom.pseudonyms import Pseudonyms, key_file, read_key

    with fail_cleanly():
        fingerprint = Pseudonyms("secret", read_key(key_file())).fingerprint()
    console.print(f"{key_file()}: {fingerprint}", markup=False, soft_wrap=True)


@app.command()
def preset(
    name: Annotated[str, typer.Argument(help=f"one of {', '.join(preset_names())}")],
) -> None:
    """Write a preset over params.yaml, once it is known to be valid."""
    with fail_cleanly():
        content = preset_content(name)
        parse_params(content, Path(f"params/{name}.yaml"))
        write_text(PARAMS_FILE, content)
    console.print(f"{PARAMS_FILE} is now the {name} preset. Next: dvc repro", markup=False)


@app.command()
def models(
    markdown: Annotated[bool, typer.Option(help="as the table of docs/models.md")] = False,
) -> None:
    """Parameters, multiply-accumulates and FLOPs of every model at its paper's size."""
    # torch and timm take seconds that `petct --help` need not wait for.
    from petct_uad.accounting import ENTRIES, HEADER, measure, row

    with fail_cleanly():
        rows = [row(entry, measure(entry)) for entry in ENTRIES]
    if markdown:
        lines = [HEADER, ("---",) * len(HEADER), *rows]
        typer.echo("\n".join(f"| {' | '.join(line)} |" for line in lines))
        return
    table = Table(*HEADER)
    for line in rows:
        table.add_row(*line)
    console.print(table)


if __name__ == "__main__":
    app()
