"""``petct``: what a person runs besides ``dvc``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petct_uad.cli.audit_split import audit_split
from petct_uad.cli.cache import cache
from petct_uad.cli.card import card
from petct_uad.cli.classes import classes
from petct_uad.cli.fetch import fetch
from petct_uad.cli.found import AsJson, print_table, rows_json
from petct_uad.cli.lineage import lineage
from petct_uad.cli.out import out_file, out_folder, pages_folder
from petct_uad.cli.power import power
from petct_uad.cli.presets import preset_content, preset_names
from petct_uad.core.console import console, fail_cleanly
from petct_uad.core.files import write_text
from petct_uad.core.params.reading import PARAMS_FILE, ParamsFile
from petct_uad.schema import load_params, parse_params

METRICS, REPORT = Path("metrics"), Path("reports/index.html")

# What `petct --help` and docs/how_to.md sort the commands by.
RUN, OWN = "Run", "Bring something of your own"
LOOK, TRUST = "Look at results", "Ask how far a figure can be trusted"

app = typer.Typer(no_args_is_help=True, help="A data-versioned benchmark on paired PET/CT.")
key = typer.Typer(no_args_is_help=True, help="The secret key of the patients' pseudonyms.")
new = typer.Typer(no_args_is_help=True, help="Write the files of something of your own.")
app.add_typer(cache, name="cache", rich_help_panel=RUN)
app.add_typer(key, name="key", rich_help_panel=OWN)
app.add_typer(new, name="new", rich_help_panel=OWN)
app.add_typer(power, name="power", rich_help_panel=TRUST)
app.add_typer(lineage, name="lineage", rich_help_panel=TRUST)


@app.callback()
def main() -> None:
    """Run from the repository's root."""


@app.command(rich_help_panel=RUN)
def doctor(
    as_json: AsJson = False,
) -> None:
    """Say what this machine and folder lack for `dvc repro`, and what to do about each.

    Looks at Python, packages beside requirements.lock, GPU, selective scan, threads, memory, disk,
    DVC, the pseudonyms' key and what is kept of studies; changes nothing and needs no network.
    Exit codes: 0 nothing stops a run (notes may say what makes it slower), 1 a problem does.
    """
    from petct_uad.cli.doctor import as_text, examine, exit_code

    findings = examine()
    typer.echo(rows_json(findings) if as_json else as_text(findings))
    raise typer.Exit(exit_code(findings))


@app.command(name="params", rich_help_panel=RUN)
def params_of(
    key: Annotated[
        str, typer.Argument(help="such as split.guard_mm, or a section; without it all are listed")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Say what a key of params.yaml means, takes, is by default and reruns; or list the keys.

    What is allowed comes from the schema, the stages from dvc.yaml. Exit codes: 0, 1 no such key.
    """
    from petct_uad.cli import explain

    with fail_cleanly():
        keys = list(explain.explained_keys(within=key))
        if not keys:
            raise explain.unknown_key(key)
        found = explain.explain(key) if [x.path for x in keys][:1] == [key] else None
    if as_json:
        typer.echo(explain.as_json(found or keys))
    else:
        typer.echo("\n".join(explain.as_lines(found) if found else explain.as_table(keys)))


@app.command(rich_help_panel=RUN)
def preset(
    name: Annotated[str, typer.Argument(help=f"one of {', '.join(preset_names())}")],
) -> None:
    """Write a preset over params.yaml, once it is known to be valid."""
    with fail_cleanly():
        content = preset_content(name)
        params = parse_params(content, Path(f"params/{name}.yaml"))
        write_text(PARAMS_FILE, content)
    console.print(f"{PARAMS_FILE} is now the {name} preset. Next:", markup=False)
    console.print(f"  dvc repro                       # of {params.dataset}", markup=False)
    console.print("  dvc exp run -S dataset=NAME     # of what `petct add NAME` has brought")


@app.command(rich_help_panel=OWN)
def validate(
    path: Annotated[Path, typer.Argument(help="DICOM files, or pictures; only read")],
    as_json: AsJson = False,
) -> None:
    """Say whether a folder of DICOM or of pictures can be added, and what to fix before.

    Reads it as `ingest:` in params.yaml asks and holds what was read to the suites that apply.
    Exit codes: 0 all is well, 1 a critical check failed, 3 some inputs were refused and the rest is
    sound, 4 nothing can be used.
    """
    from petct_uad.cli.validate import validate_folder
    from petct_uad.validation.checks import Promises

    with fail_cleanly():
        params = load_params()
        promises = Promises.read(ParamsFile.read())
        verdict = validate_folder(path, params.ingest, promises, params.workers)
    typer.echo(verdict.as_json() if as_json else "\n".join(verdict.lines))
    raise typer.Exit(verdict.exit_code)


@app.command(rich_help_panel=OWN)
def add(
    name: Annotated[str, typer.Argument(help="how params.yaml will call the data set")],
    folder: Annotated[Path, typer.Argument(help="DICOM files, or pictures; only read")],
    pack: Annotated[
        bool, typer.Option("--pack", help="one archive per study: DVC is slow with many files")
    ] = False,
) -> None:
    """Copy a folder of DICOM or pictures to data/raw/NAME and put it under DVC.

    A data set that is there gets what it lacks. No file of it is overwritten with other bytes.
    """
    # pydicom and SimpleITK take a second that `petct --help` need not wait for.
    from petct_uad.cli.add import add_dataset

    with fail_cleanly():
        added = add_dataset(name, folder, pack=pack)
    target = added.target
    console.print(
        f"{target} is under DVC: {len(added.new):,} new {'archives' if pack else 'files'}, "
        f"{len(added.extended):,} studies extended, {added.known:,} files were there. Next:",
        markup=False,
    )
    console.print(f"  git add {target}.dvc {target.parent}/.gitignore", markup=False)
    console.print(f"  dvc exp run -S dataset={name}", markup=False)


app.command(rich_help_panel=OWN)(fetch)


@key.command()
def create() -> None:
    """Make a key outside the repository, in PETCT_KEY_FILE or ~/.config/petct/pseudonym.key."""
    from petct_uad.ingest.pseudonyms import create_key, key_file

    path = key_file()
    with fail_cleanly():
        create_key(path)
    console.print(f"{path} is the key. Keep a copy in a safe, never in a repository.", markup=False)


@key.command()
def show() -> None:
    """Where the key lies, and the fingerprint that ingest.key may ask for."""
    from petct_uad.ingest.pseudonyms import Pseudonyms, key_file, read_key

    with fail_cleanly():
        fingerprint = Pseudonyms("secret", read_key(key_file())).fingerprint()
    console.print(f"{key_file()}: {fingerprint}", markup=False, soft_wrap=True)


@new.callback()
def new_what() -> None:
    """Nothing that is there is ever overwritten."""


@new.command(name="model")
def new_model(
    name: Annotated[str, typer.Argument(help="of its folder, in lower_snake_case")],
) -> None:
    """Write a small model that works, with its params, test and row, to change into your own."""
    from petct_uad.cli.new import write_model

    with fail_cleanly():
        written = write_model(name)
    for path in written:
        console.print(f"  {path}", markup=False, highlight=False)
    console.print("Written. docs/your_model.md says what each is for. Next:", markup=False)
    console.print(f"  python -m pytest tests/unit/models/test_{name}.py", markup=False)
    console.print("  dvc repro compare", markup=False)


@app.command(rich_help_panel=LOOK)
def view(
    studies: Annotated[list[str], typer.Argument(help="study_id of index.csv")],
    row: Annotated[
        list[str] | None, typer.Option(help="a row of the table; by default all")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of the pages", callback=out_folder)] = Path(
        "reports/viewer"
    ),
) -> None:
    """Make a page of each study to scroll through: CT, PET, every anomaly map and the label.

    One HTML per study that opens without a network: three planes and MIP, windows, HU, SUV and
    score at the crosshair. Then reports/studies.html is the report with links to these pages. Side
    outputs of the last `dvc repro`: nothing reads them, git and DVC leave them out. Research
    software, not for clinical use.
    """
    from petct_uad.preprocess.params import PreprocessParams
    from petct_uad.viewer.page import link_studies, write_page
    from petct_uad.viewer.study import ViewPaths, view_study

    with fail_cleanly():
        file = ParamsFile.read()
        paths, params = ViewPaths.of(file.dataset), file.section(PreprocessParams, "preprocess")
        for study in studies:
            page = out / f"{study}.html"
            shown = view_study(study, paths, params, row or ())
            write_page(page, shown, params.suv_high)
            said = f"{page}: open it in a browser. {shown.no_map_note}".strip()
            console.print(said, markup=False, soft_wrap=True)
        if linked := link_studies(REPORT, out):
            console.print(f"{linked} is the report with links to these pages.", markup=False)


@app.command(rich_help_panel=LOOK)
def panels(
    slices: Annotated[list[str], typer.Argument(help="slice_id of index.csv, validation or test")],
    row: Annotated[
        list[str] | None, typer.Option(help="a row of the table; by default all on PET and CT")
    ] = None,
    out: Annotated[Path, typer.Option(help="is replaced", callback=out_file)] = Path(
        "reports/panels.png"
    ),
) -> None:
    """Draw chosen slices with every model's anomaly map beside them, as papers do.

    A side output of the last `dvc repro`: nothing reads it, git and DVC leave it out.
    """
    from petct_uad.cli.side_by_side import write_side_by_side
    from petct_uad.lineage.trace import count_of

    with fail_cleanly():
        write_side_by_side(
            slices,
            out,
            processed=Path("data/processed") / ParamsFile.read().dataset,
            scores=Path("data/scores"),
            metrics=METRICS,
            runs=row or (),
        )
    console.print(f"{out} shows {count_of(len(slices), 'slice')}.", markup=False)


@app.command(rich_help_panel=LOOK)
def sweep(
    row: Annotated[str, typer.Argument(help="a row of the table, such as cmad-petct")],
    param: Annotated[str, typer.Argument(help="a key of params.yaml, such as model.cmpt")],
    revisions: Annotated[
        list[str] | None,
        typer.Argument(help="by default all experiments that differ in this param alone"),
    ] = None,
    out: Annotated[Path, typer.Option(help="is replaced", callback=out_file)] = Path(
        "reports/sweep.png"
    ),
) -> None:
    """AUROC, AP and F1 of a row by the value of a param, as CMAD's Fig. 6 has it.

    A revision is a commit, branch, tag, DVC experiment or `workspace`.
    """
    from petct_uad.audit.sweep import draw_sweep, sweep_markdown
    from petct_uad.audit.sweep import sweep as sweep_points

    with fail_cleanly():
        points = sweep_points(row, param, revisions or ())
        draw_sweep(out, row, param, points)
    typer.echo(sweep_markdown(param, points), nl=False)
    console.print(f"{out} shows them.", markup=False)


app.command(rich_help_panel=LOOK)(classes)


@app.command(rich_help_panel=LOOK)
def embed(
    row: Annotated[str, typer.Argument(help="a row of the table, such as cmad-petct")],
    out: Annotated[
        Path | None,
        typer.Option(help="by default reports/embedding-ROW.png", callback=out_file),
    ] = None,
) -> None:
    """Draw where a model has normal and abnormal slices, by t-SNE of its encoder and of its map.

    A side output of the last `dvc repro`, of its first seed; no figure comes from it.
    """
    # torch takes seconds that `petct --help` need not wait for.
    from petct_uad.cli.embedding import EmbeddingPaths, draw_embedding, embed_row
    from petct_uad.models.common.device import choose_device

    path = out or Path(f"reports/embedding-{row}.png")
    with fail_cleanly():
        params = load_params()
        paths = EmbeddingPaths.of(ParamsFile.read().dataset)
        device = choose_device(params.train.device)
        draw_embedding(path, row, embed_row(row, params.benchmark, paths, device))
    console.print(f"{path} shows {row}.", markup=False)


@app.command(rich_help_panel=LOOK)
def models(
    markdown: Annotated[bool, typer.Option(help="as the table of docs/models.md")] = False,
    as_json: AsJson = False,
) -> None:
    """Parameters, multiply-accumulates and FLOPs of every model at its paper's size."""
    # torch and timm take seconds that `petct --help` need not wait for.
    from petct_uad.cli.accounting import ENTRIES, HEADER, cells, size_row
    from petct_uad.comparison.markdown import markdown_table
    from petct_uad.core.console import track

    with fail_cleanly():
        rows = [size_row(entry) for entry in track(ENTRIES, "building each model")]
    if as_json:
        typer.echo(rows_json(rows))
        return
    lines = [cells(row) for row in rows]
    if markdown:
        typer.echo(markdown_table(HEADER, lines))
    else:
        print_table(HEADER, lines)


app.command(rich_help_panel=LOOK)(card)


@app.command(name="data-docs", rich_help_panel=LOOK)
def data_docs(
    folder: Annotated[Path, typer.Argument(help="is replaced", callback=pages_folder)] = Path(
        "reports/data_docs"
    ),
) -> None:
    """Write Great Expectations' own pages on what the stage `validate` has measured.

    A side output: nothing reads it, git and DVC leave it out. The pages load styles, scripts and a
    logo from other hosts when they are opened; reports/index.html shows the same without.
    """
    console.print("Great Expectations takes seconds to load.")
    from petct_uad.cli.data_docs import write_data_docs
    from petct_uad.validation.checks import Promises
    from petct_uad.validation.tables import Folders

    with fail_cleanly():
        params = ParamsFile.read()
        promises = Promises.read(params)
        write_data_docs(Folders(Path("data"), params.dataset), promises, folder)
    console.print(f"{folder / 'index.html'} is there; it needs a network.", markup=False)


app.command(name="audit-split", rich_help_panel=TRUST)(audit_split)


@app.command(rich_help_panel=TRUST)
def leak(
    honest: Annotated[str, typer.Argument(help="revision under split.protocol: patient")],
    leaking: Annotated[str, typer.Argument(help="revision under split.protocol: cmad")],
) -> None:
    """AUROC of every run under the leaking protocol minus under the honest one.

    A revision is a commit, branch, tag, DVC experiment or `workspace`. Writes
    metrics/leak.{csv,md}.
    """
    from petct_uad.audit.leak import leak_between

    with fail_cleanly():
        found = leak_between(honest, leaking, load_params().evaluate)
        found.write(METRICS)
    typer.echo(found.markdown, nl=False)


@app.command(rich_help_panel=TRUST)
def folds(
    revisions: Annotated[list[str], typer.Argument(help="one per fold, in any order")],
) -> None:
    """Every run over all folds of split.folds: mean, deviation and the AUROC of all scores.

    A revision is a commit, branch, tag, DVC experiment or `workspace`. Writes
    metrics/folds.{csv,md}.
    """
    from petct_uad.audit.folds import folds_markdown, folds_table, write_folds
    from petct_uad.audit.runs import read_folds
    from petct_uad.lineage.revision import find_revision

    with fail_cleanly():
        results = read_folds([find_revision(name) for name in revisions])
        rows = folds_table(results, load_params().evaluate)
        write_folds(METRICS, rows)
    typer.echo(folds_markdown(rows), nl=False)


if __name__ == "__main__":
    app()
