"""Back from a slice, a model or a metric to DICOM files or pictures, params and code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from petct_uad.core.provenance.record import Entity
from petct_uad.ingest.tables import PICTURES_CSV, VOLUMES
from petct_uad.ingest.withdrawn import WITHDRAWN
from petct_uad.lineage.graph import Graph, StageLineage, made_by
from petct_uad.lineage.instances import InstanceFile, instance_rows
from petct_uad.lineage.names import Subject
from petct_uad.lineage.sets import Keys, union, within, without
from petct_uad.lineage.table import keys_of

KINDS = ("slice", "file", "instance", "teacher")


@dataclass(frozen=True)
class Step:
    """One stage run on the way, and how much of it the subject comes from."""

    lineage: StageLineage
    made: dict[str, int]  # entities by kind


@dataclass(frozen=True)
class Trace:
    """Everything that stands behind a subject."""

    graph: Graph
    subject: Subject
    keys: Keys
    steps: tuple[Step, ...]  # nearest to the subject first

    def older(self) -> list[str]:
        """Stage runs that read earlier versions of what is named here, by name."""
        return sorted({stage.activity.stage for stage in self.graph.older(self.keys)})

    def entities(self) -> list[Entity]:
        """Everything by name, the subject included."""
        return self.graph.entities(self.keys)

    def count(self, kind: str) -> int:
        """How many entities of a kind."""
        return len(self._of_kind(kind))

    def counted(self, count: int, kind: str) -> str:
        """``3 slices``, ``1 DICOM instance``, ``2 picture files``."""
        instance = "picture file" if self._pictures else "DICOM instance"
        return count_of(count, instance if kind == "instance" else kind)

    @cached_property
    def _pictures(self) -> bool:
        """Does it end in an image benchmark?"""
        stages = [step.lineage for step in self.steps]
        listings = ((x.table, x.folder.parent / VOLUMES / PICTURES_CSV) for x in stages)
        return any(
            len(table.positions(keys_of([f"file:{path.as_posix()}"]))) for table, path in listings
        )

    def instances(self) -> list[InstanceFile]:
        """The DICOM files or pictures, sorted."""
        entities = self.graph.entities(self._of_kind("instance"))
        uids = {item.id.removeprefix("instance:"): item.sha256 for item in entities}
        # One study's rows can be picked from the table without reading it all.
        studies = self._studies() if len(uids) < 5000 else set()
        rows = instance_rows(studies.pop() if len(studies) == 1 else "")
        return sorted({row for row in rows if uids.get(row.sop_instance_uid) == row.sha256})

    def ends(self) -> list[str]:
        """The files that no record here says the making of, sorted: where the way ends."""
        made = union(
            step.lineage.table.keys[made_by(step.lineage, self.keys)] for step in self.steps
        )
        unmade = self.graph.entities(without(self._of_kind("file"), made))
        files = [item.id.removeprefix("file:") for item in unmade]
        return [file for file in files if file != WITHDRAWN.as_posix()]  # a person writes it

    def _of_kind(self, kind: str) -> Keys:
        return self.graph.of_kind(self.keys, kind)

    def _studies(self) -> set[str]:
        slices = self.graph.entities(self._of_kind("slice"))
        return {item.id.removeprefix("slice:").rsplit("_", 1)[0] for item in slices}


def trace(graph: Graph, subject: Subject) -> Trace:
    """Walk back from the subject to where nothing is derived any more."""
    keys = graph.backward(subject.keys)
    steps = [step_of(stage, keys) for stage in graph.makers(keys)]
    return Trace(graph, subject, keys, tuple(_nearest_first(graph, steps, subject.keys)))


def step_of(stage: StageLineage, keys: Keys) -> Step:
    """A stage run, and how many of these entities it made."""
    return Step(stage, _made(stage, keys))


def _made(stage: StageLineage, keys: Keys) -> dict[str, int]:
    rows = made_by(stage, keys)
    counts = {kind: len(stage.table.starting_with(f"{kind}:", rows)) for kind in KINDS}
    return {kind: count for kind, count in counts.items() if count}


def _nearest_first(graph: Graph, steps: list[Step], keys: Keys) -> list[Step]:
    """By how many derivations lie between; a stage run that is met twice counts where met last."""
    distance = {step.lineage.folder: 0 for step in steps}
    frontier, far = keys, 0
    while len(frontier):
        for step in steps:
            if len(made_by(step.lineage, frontier)):
                distance[step.lineage.folder] = far
        frontier, far = graph.sources(frontier), far + 1
    return sorted(steps, key=lambda step: (distance[step.lineage.folder], step.lineage.folder))


def as_json(found: Trace, instances: Iterable[InstanceFile]) -> dict[str, Any]:
    """The whole trace in W3C PROV's words: entities, activities, derivations."""
    makers = {step.lineage.folder: step.lineage for step in found.steps}
    return {
        "subject": found.subject.name,
        "kind": found.subject.kind,
        "value": found.subject.value,
        "older": found.older(),
        "entities": [{"id": item.id, "sha256": item.sha256} for item in found.entities()],
        "activities": [_activity(stage) for stage in makers.values()],
        "derivations": [row for stage in makers.values() for row in _derivations(stage, found)],
        "instances": [
            {
                "sop_instance_uid": row.sop_instance_uid,
                "series_instance_uid": row.series_instance_uid,
                "study_id": row.study_id,
                "file": row.file,
                "sha256": row.sha256,
            }
            for row in instances
        ],
    }


def _activity(stage: StageLineage) -> dict[str, Any]:
    record = stage.activity
    return {
        "lineage": stage.folder.as_posix(),
        "stage": record.stage,
        "params": record.params,
        "params_sha256": record.params_sha256,
        "source_sha256": record.source_sha256,
        "sources": record.sources,
        "packages": record.packages,
    }


def _derivations(stage: StageLineage, found: Trace) -> list[dict[str, Any]]:
    table = stage.table
    return [
        {"output": name, "activity": stage.folder.as_posix(), "inputs": table.ids(sources)}
        for name, sources in table.derivations(made_by(stage, found.keys))
    ]


def as_mermaid(found: Trace) -> str:
    """A flow chart of the stage runs, which GitHub and the report draw."""
    names = {step.lineage.folder: f"s{i}" for i, step in enumerate(found.steps)}
    lines = ["flowchart LR", f'  subject(["{found.subject.name}"])']
    for step in found.steps:
        made = ", ".join(count_of(n, kind) for kind, n in step.made.items())
        node = names[step.lineage.folder]
        lines.append(f'  {node}["{step.lineage.activity.stage}<br>{made}"]')
    lines.append(f'  raw[("{found.counted(found.count("instance"), "instance")}")]')
    return "\n".join([*lines, *sorted(_arrows(found, names))]) + "\n"


def _arrows(found: Trace, names: dict[Any, str]) -> set[str]:
    arrows = set()
    for step in found.steps:
        mine = step.lineage.table.keys[made_by(step.lineage, found.keys)]
        node = names[step.lineage.folder]
        if within(found.subject.keys, mine).any():
            arrows.add(f"  {node} --> subject")
        sources = found.graph.sources(mine)
        for other in found.steps:
            if other is not step and len(made_by(other.lineage, sources)):
                arrows.add(f"  {names[other.lineage.folder]} --> {node}")
        if within(found._of_kind("instance"), sources).any():
            arrows.add(f"  raw --> {node}")
    return arrows


def count_of(count: int, kind: str) -> str:
    """``3 slices``, ``1 file``."""
    if kind == "teacher":
        return f"{count} teacher's weights"
    return f"{count} {kind}" if count == 1 else f"{count} {kind}s"


def inputs_by_kind(found: Trace, entity: Entity) -> dict[str, list[Entity]]:
    """What one entity was made from, one step back."""
    grouped: dict[str, list[Entity]] = {}
    for item in found.graph.entities(found.graph.sources(keys_of([entity.id]))):
        grouped.setdefault(item.id.partition(":")[0], []).append(item)
    return grouped
