"""A trace as an RO-Crate 1.3 (researchobject.org/ro-crate) with the actions that made its files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date
from pathlib import PurePosixPath
from typing import Any

from rocrate.model.entity import Entity as CrateEntity
from rocrate.rocrate import ROCrate

from petct_uad.lineage.git import DESCRIPTION, NAME
from petct_uad.lineage.graph import StageLineage, made_by
from petct_uad.lineage.trace import Trace

_FILE = "file:"
_LICENSE = "https://spdx.org/licenses/Apache-2.0"
_TYPES = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".png": "image/png",
    ".md": "text/markdown",
    ".html": "text/html",
    ".gz": "application/gzip",
}


def crate_json(found: Trace, published: date) -> dict[str, Any]:
    """The content of ``ro-crate-metadata.json``, which belongs at the repository's root.

    Files are data entities. Instances, slices and teachers are contextual ones: raw files may have
    names that nobody should read here, and a slice is a part of a file. Each stage run is a
    CreateAction, as in the Process Run Crate profile, with the stage's file as its instrument.

    Args:
        found: what is exported.
        published: RO-Crate demands one.
    """
    crate = ROCrate(version="1.3")
    crate.name = NAME
    crate.description = f"{DESCRIPTION}: {found.subject.name} and what it was made from."
    crate.datePublished = published
    crate.license = crate.add_jsonld(
        {
            "@id": _LICENSE,
            "@type": "CreativeWork",
            "name": "Apache License 2.0",
            "description": "Of the code; data sets have their own.",
        }
    )
    parts = {item.id: item.sha256 for item in found.entities()}
    nodes = {name: _add_entity(crate, name, parts[name]) for name in sorted(parts)}
    actions = [
        _add_run(crate, step.lineage, found, nodes)
        for step in sorted(found.steps, key=lambda step: step.lineage.folder)
    ]
    crate.root_dataset["mentions"] = actions
    content = crate.metadata.generate()
    content["@graph"].sort(key=lambda node: (node["@id"] not in _HEAD, node["@id"]))
    return json.loads(json.dumps(content))  # type: ignore[no-any-return]


_HEAD = ("ro-crate-metadata.json", "./")


def _add_entity(crate: ROCrate, name: str, digest: str) -> CrateEntity:
    if not name.startswith(_FILE):
        kind, _, identifier = name.partition(":")
        properties = {"@type": "CreativeWork", "additionalType": kind, "identifier": identifier}
        return crate.add_jsonld(
            {"@id": f"#{name}", "name": f"{kind} {identifier}", "sha256": digest, **properties}
        )
    path = name.removeprefix(_FILE)
    properties = {
        "name": path,
        "sha256": digest,
        "encodingFormat": _TYPES.get(PurePosixPath(path).suffix, "application/octet-stream"),
    }
    return crate.add_file(dest_path=path, properties=properties)


def _add_run(
    crate: ROCrate, stage: StageLineage, found: Trace, nodes: dict[str, CrateEntity]
) -> CrateEntity:
    record, table = stage.activity, stage.table
    derivations = table.derivations(made_by(stage, found.keys))
    outputs = {output for output, _ in derivations}
    inputs = {source for _, rows in derivations for source in table.ids(rows)} - outputs
    return crate.add_action(
        _instrument(crate, stage),
        f"#run:{stage.folder.as_posix()}",
        object=_of(inputs, nodes),
        result=_of(outputs, nodes),
        properties={
            "@type": "CreateAction",
            "name": record.stage,
            "description": json.dumps(record.params, sort_keys=True),
            "identifier": [record.params_sha256, record.source_sha256],
        },
    )


def _instrument(crate: ROCrate, stage: StageLineage) -> CrateEntity:
    """The stage's file, as a script with what it needs."""
    record = stage.activity
    entry = next(path for path in record.sources if path.startswith("stages/"))
    return crate.dereference(entry) or crate.add_file(
        dest_path=entry,
        properties={
            "@type": ["File", "SoftwareSourceCode"],
            "name": entry,
            "sha256": record.sources[entry],
            "encodingFormat": "text/x-python",
            "softwareRequirements": [f"{p}=={v}" for p, v in sorted(record.packages.items())],
        },
    )


def _of(names: Iterable[str], nodes: dict[str, CrateEntity]) -> CrateEntity | list[CrateEntity]:
    """One, or several: a list of one is not as RO-Crate writes it."""
    found = [nodes[name] for name in sorted(set(names))]
    return found[0] if len(found) == 1 else found
