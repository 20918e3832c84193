"""A trace as a W3C PROV document (PROV-DM, PROV-JSON)."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from prov.constants import PROV_TYPE
from prov.model import ProvDocument

from petct_uad.lineage.graph import StageLineage, made_by
from petct_uad.lineage.trace import Trace

NAMESPACE = "urn:petct-uad:"
_AGENT = "petct:software/petct-uad"


def prov_json(found: Trace) -> dict[str, Any]:
    """PROV-JSON: see :func:`prov_document`."""
    content: dict[str, Any] = json.loads(str(prov_document(found).serialize(format="json")))
    return content


def prov_document(found: Trace) -> ProvDocument:
    """Entities with their SHA-256, an activity per stage run, and every derivation.

    An entity ``kind:name`` of the lineage is ``petct:kind/name``. An activity is named by the
    folder of its tables. Its attributes say params and packages; it used its source files.
    """
    document = ProvDocument()
    document.add_namespace("petct", NAMESPACE)
    document.agent(_AGENT, {PROV_TYPE: document.valid_qualified_name("prov:SoftwareAgent")})
    hashes: dict[str, set[str]] = {}
    for item in found.entities():
        hashes.setdefault(_entity(item.id), set()).add(item.sha256)
    for step in found.steps:
        for path, digest in step.lineage.activity.sources.items():
            hashes.setdefault(_entity(f"source:{path}"), set()).add(digest)
    for name, digests in sorted(hashes.items()):
        document.entity(name, [("petct:sha256", digest) for digest in sorted(digests)])
    for step in sorted(found.steps, key=lambda step: step.lineage.folder):
        _add_run(document, step.lineage, found)
    return document


def _add_run(document: ProvDocument, stage: StageLineage, found: Trace) -> None:
    record, name = stage.activity, f"petct:run/{quote(stage.folder.as_posix())}"
    document.activity(
        name,
        other_attributes={
            "prov:label": record.stage,
            "petct:params": json.dumps(record.params, sort_keys=True),
            "petct:params_sha256": record.params_sha256,
            "petct:source_sha256": record.source_sha256,
            "petct:packages": json.dumps(record.packages, sort_keys=True),
        },
    )
    document.wasAssociatedWith(name, _AGENT)
    table = stage.table
    derivations = [
        (_entity(output), [_entity(item) for item in table.ids(inputs)])
        for output, inputs in table.derivations(made_by(stage, found.keys))
    ]
    used = {source for _, sources in derivations for source in sources}
    used |= {_entity(f"source:{path}") for path in record.sources}
    for source in sorted(used - {output for output, _ in derivations}):
        document.used(name, source)
    for output, sources in derivations:
        document.wasGeneratedBy(output, name)
        for source in sources:
            document.wasDerivedFrom(output, source, name)


def _entity(entity_id: str) -> str:
    kind, _, name = entity_id.partition(":")
    return f"petct:{kind}/{quote(name)}"
