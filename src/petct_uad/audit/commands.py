"""``petct lineage``: where data and numbers come from, and whether the bytes are still those."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from petct_uad.console import fail_cleanly

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
) -> None:
    """Back to the DICOM files, params and code that ID was made from."""
    # numpy takes a tenth of a second that `petct --help` need not wait for.
    from petct_uad.audit import show
    from petct_uad.audit import trace as tracing
    from petct_uad.audit.graph import Graph
    from petct_uad.audit.names import find_traced

    with fail_cleanly():
        graph = Graph.open()
        found = tracing.trace(graph, find_traced(graph, name))
        if as_json:
            typer.echo(json.dumps(tracing.as_json(found), indent=2))
        elif mermaid:
            typer.echo(tracing.as_mermaid(found), nl=False)
        elif tree:
            _wide.print(show.trace_tree(found), soft_wrap=True)
        else:
            _out.print(show.trace_table(found), soft_wrap=True)
