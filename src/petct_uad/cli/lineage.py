"""``petct lineage``: where data and numbers come from, and whether the bytes are still those."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer
from rich.console import Console

from petct_uad.cli.found import AsJson, rows_json
from petct_uad.cli.out import out_file
from petct_uad.core.console import console, fail_cleanly
from petct_uad.core.errors import LineageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from petct_uad.lineage.verify import Finding

lineage = typer.Typer(
    no_args_is_help=True, help="Where data and numbers come from, and what depends on what."
)
_out = Console(highlight=False)
_wide = Console(highlight=False, width=240)  # so that no path is cut


@lineage.command()
def trace(
    name: Annotated[
        str, typer.Argument(metavar="ID", help="slice_id, model row, row:metric, file or instance")
    ],
    tree: Annotated[bool, typer.Option("--tree", help="entity by entity")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="everything, in PROV's words")] = False,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="a flow chart")] = False,
    own_names: Annotated[
        bool, typer.Option(help="list the raw files by their own names, which may name a person")
    ] = False,
) -> None:
    """Back to the DICOM files or pictures, params and code that ID was made from."""
    # numpy takes a tenth of a second that `petct --help` need not wait for.
    from petct_uad.lineage import show
    from petct_uad.lineage import trace as tracing
    from petct_uad.lineage.graph import Graph
    from petct_uad.lineage.instances import locate
    from petct_uad.lineage.names import find_traced

    with fail_cleanly():
        graph = Graph.open()
        _say_absent()
        found = tracing.trace(graph, find_traced(graph, name))
        if as_json:
            files = locate(found.instances()) if own_names else found.instances()
            typer.echo(json.dumps(tracing.as_json(found, files), indent=2))
        elif own_names:
            for row in locate(found.instances()):
                typer.echo(f"{row.sha256}  {row.file}")
        elif mermaid:
            typer.echo(tracing.as_mermaid(found), nl=False)
        elif tree:
            _wide.print(show.trace_tree(found), soft_wrap=True)
        else:
            _out.print(show.trace_table(found), soft_wrap=True)


@lineage.command()
def impact(
    name: Annotated[
        str,
        typer.Argument(
            metavar="CAUSE",
            help="PatientID, pseudonym, SeriesInstanceUID, file, params key, module",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="every output by name")] = False,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="leave the patient out")] = False,
    date: Annotated[str, typer.Option(help="of the withdrawal, YYYY-MM-DD")] = "",
) -> None:
    """Forward to every slice, model and number that depends on CAUSE."""
    from petct_uad.lineage import impact as impacts
    from petct_uad.lineage import show
    from petct_uad.lineage.graph import Graph
    from petct_uad.lineage.names import find_cause

    with fail_cleanly():
        graph = Graph.open()
        complete = _say_absent()
        found = impacts.impact(graph, find_cause(graph, name))
        if withdraw:
            _withdraw(found.subject.name, found.subject.kind, date)
        if as_json:
            typer.echo(json.dumps(impacts.as_json(found), indent=2))
        else:
            _out.print(show.impact_table(found), soft_wrap=True)
        gone = not found.affected and not found.older
        if withdraw or (found.subject.kind == "patient" and gone):
            _say_beyond(found.subject.name, gone=gone and complete)


@lineage.command()
def verify(
    cache: Annotated[bool, typer.Option(help="re-hash the cache's objects")] = True,
    remote: Annotated[
        list[Path], typer.Option(help="re-hash a remote that is a folder; may be repeated")
    ] = [],  # noqa: B006  typer's way to say none
    sealed: Annotated[
        Path | None, typer.Option(help="compare with the manifest of a release instead")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Re-hash everything; exit with 1 and name each file that is not as recorded."""
    from petct_uad.lineage.seal import compare_with_seal, read_seal
    from petct_uad.lineage.store import Store
    from petct_uad.lineage.verify import verify as run

    with fail_cleanly():
        if sealed is not None:
            _say_findings(compare_with_seal(read_seal(sealed)), as_json=as_json)
        found = run([Store(folder / "files/md5") for folder in remote], with_cache=cache)
    for note in found.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    console.print(f"{found.files} files and {found.objects} stored objects checked", markup=False)
    _say_findings(found.findings, as_json=as_json)


def _say_findings(findings: Sequence[Finding], *, as_json: bool) -> NoReturn:
    if as_json:
        typer.echo(rows_json(findings))
    for finding in () if as_json else findings:
        _out.print(str(finding), markup=False, soft_wrap=True)
    console.print(f"{len(findings)} findings", markup=False)
    raise typer.Exit(1 if findings else 0)


@lineage.command()
def seal(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="the manifest", callback=out_file)
    ] = Path("seal.json"),
) -> None:
    """Write a manifest of raw data, shards, weights, metrics and code under one Merkle root."""
    from petct_uad.lineage.seal import make_seal, write_seal

    with fail_cleanly():
        made = make_seal()
        write_seal(made, output)
    console.print(f"{output}: {made.root}", markup=False, soft_wrap=True)
    console.print(f"Sign it, for instance with `ssh-keygen -Y sign -n petct {output}`.")


@lineage.command()
def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="commit, branch, tag or experiment")],
    after: Annotated[str, typer.Argument(metavar="B", help="another, or the workspace")] = (
        "workspace"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="everything that differs")] = False,
) -> None:
    """Which inputs, params, code and outputs differ, and so why a figure moved."""
    from petct_uad.lineage import diff as diffs
    from petct_uad.lineage import show
    from petct_uad.lineage.revision import find_revision

    with fail_cleanly():
        found = diffs.compare(find_revision(before), find_revision(after))
        if as_json:
            typer.echo(json.dumps(diffs.as_json(found), indent=2))
        else:
            _out.print(show.difference(found), soft_wrap=True)


@lineage.command()
def export(
    name: Annotated[
        str, typer.Argument(metavar="ID", help="as for trace; without it, everything")
    ] = "",
    form: Annotated[
        Literal["prov", "rocrate", "croissant"], typer.Option("--format", help="which standard")
    ] = "prov",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="paths in it are relative to the root", callback=out_file
        ),
    ] = None,
) -> None:
    """Write the lineage as W3C PROV or RO-Crate, or the data set as Croissant."""
    from petct_uad.core.files import write_text
    from petct_uad.lineage.export import FILES
    from petct_uad.lineage.export import export as run

    with fail_cleanly():
        path = output or FILES[form]
        _say_absent()
        write_text(path, run(form, name))
    console.print(f"{path}: written", markup=False, soft_wrap=True)


def _say_absent() -> bool:
    """A walk ends where the next stage's record is not here, as in a fresh clone. Are all here?"""
    from petct_uad.lineage.store import absent_folders, due, tracked
    from petct_uad.lineage.trace import count_of

    if absent := absent_folders(due(tracked())):
        console.print(
            f"note: missing here: {count_of(len(absent), 'folder')} that dvc.lock lists, such as "
            f"{absent[0].path}. What lies behind them is left out. Run `dvc checkout`, `dvc pull` "
            "or `dvc repro`.",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
    return not absent


def _withdraw(patient: str, kind: str, date: str) -> None:
    from petct_uad.ingest.withdrawn import WITHDRAWN, add_withdrawn, withdrawn_patients

    if kind != "patient":
        raise LineageError(f"{patient}: is a {kind}; only a patient can be withdrawn.")
    names = patient.split(", ")  # one per key, where data sets have several
    if not date and not withdrawn_patients().issuperset(names):
        raise LineageError(
            f"{patient}: --withdraw needs the day of the withdrawal. Add --date YYYY-MM-DD."
        )
    for name in names:
        state = "is now" if add_withdrawn(name, date) else "was already"
        console.print(f"{name} {state} in {WITHDRAWN}: commit that file.", markup=False)


def _say_beyond(patient: str, *, gone: bool) -> None:
    from petct_uad.lineage.withdraw import advice, find_beyond

    for name in patient.split(", "):
        lines = advice(name, find_beyond(name), gone=gone)
        console.print("\n".join(lines), markup=False, soft_wrap=True)
