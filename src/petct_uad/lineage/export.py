"""Lineage and data set in formats that other tools read: ``petct lineage export``.

The time of the export is nowhere: the same repository gives the same bytes. Where a format asks for
a date, it is that of the commit that is checked out.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any, Literal

from petct_uad.core.errors import LineageError
from petct_uad.lineage.git import git
from petct_uad.lineage.graph import Graph
from petct_uad.lineage.names import Subject, find_traced
from petct_uad.lineage.sets import union
from petct_uad.lineage.trace import Trace, step_of, trace

Format = Literal["prov", "rocrate", "croissant"]

# Where RO-Crate looks for its file, and names for the others; all belong at the repository's root,
# since paths in them are relative.
FILES: dict[Format, Path] = {
    "prov": Path("prov.json"),
    "rocrate": Path("ro-crate-metadata.json"),
    "croissant": Path("croissant.json"),
}


def export(form: Format, subject: str = "") -> str:
    """The text of the file: JSON, ended by a line feed.

    Args:
        form: ``prov`` (PROV-JSON), ``rocrate`` (RO-Crate 1.3, a CreateAction per stage run) or
            ``croissant`` (Croissant 1.0 of the processed data set).
        subject: what :func:`find_traced` takes, for what stands behind it alone; "" for everything.
            Croissant describes the whole data set.

    Raises:
        LineageError: the extra ``export`` is not installed, there is no lineage, nothing of that
            name, no commit, or a subject for Croissant.
    """
    try:
        content = _content(form, subject)
    except ModuleNotFoundError as error:
        raise LineageError(f"{error}: install the extra with `pip install '.[export]'`.") from error
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _content(form: Format, subject: str) -> dict[str, Any]:
    if form == "croissant":
        from petct_uad.lineage.croissant import croissant

        if subject:
            raise LineageError(f"{subject}: Croissant describes a data set; export it whole.")
        return croissant(_commit_date())
    graph = Graph.open()
    found = trace(graph, find_traced(graph, subject)) if subject else _everything(graph)
    if form == "prov":
        from petct_uad.lineage.prov_document import prov_json

        return prov_json(found)
    from petct_uad.lineage.crate import crate_json

    return crate_json(found, _commit_date())


def _everything(graph: Graph) -> Trace:
    keys = union(stage.table.keys for stage in graph.stages)
    steps = tuple(step_of(stage, keys) for stage in graph.stages)
    return Trace(graph, Subject("repository", "repository", keys), keys, steps)


def _commit_date() -> date:
    """Of the commit that is checked out, as its author's clock had it."""
    return date.fromisoformat(git("log", "-1", "--format=%as").strip())
