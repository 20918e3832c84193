"""Forward from a patient, series, file, param or source file to all that depends on it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from petct_uad.core.provenance.record import Entity
from petct_uad.lineage.graph import Graph, StageLineage, made_by
from petct_uad.lineage.names import RUNS, Subject, metrics_file
from petct_uad.lineage.sets import Keys, union, without

# Their keys are outputs that depend on them, or raw instances that no stage made.
_BEHIND_ALL_OF_THEIRS = {"patient", "series", "param", "source"}


@dataclass(frozen=True)
class Affected:
    """A stage run with outputs that depend on the subject."""

    lineage: StageLineage
    slices: int
    files: int


@dataclass(frozen=True)
class Impact:
    """All that depends on a subject."""

    graph: Graph
    subject: Subject
    keys: Keys  # of outputs
    affected: tuple[Affected, ...]  # by folder
    older: tuple[StageLineage, ...]  # runs that read something of it before it was made anew

    def entities(self) -> list[Entity]:
        """Everything that depends on the subject, by name."""
        return self.graph.entities(self.keys)

    def slices(self) -> int:
        """How many slices depend on it."""
        return sum(item.slices for item in self.affected)

    def runs(self, place: Path) -> list[str]:
        """Rows below ``place`` that have an output which depends on it."""
        folders = {item.lineage.folder.parent for item in self.affected}
        return sorted(folder.name for folder in folders if place in folder.parents)

    def models(self) -> list[str]:
        """Rows of the benchmark whose weights depend on it."""
        return self.runs(Path("models"))

    def numbers(self) -> list[str]:
        """Rows of the benchmark whose figures depend on it."""
        return self.runs(RUNS)


def impact(graph: Graph, subject: Subject) -> Impact:
    """Walk forward from the subject to where nothing is derived any more."""
    reached = graph.forward(subject.keys)
    older = graph.makers(without(graph.forward_by_name(subject.keys), reached))
    if subject.kind not in _BEHIND_ALL_OF_THEIRS:
        reached = without(reached, subject.keys)  # nothing depends on itself
    affected, made = [], []
    for stage in graph.makers(reached):
        rows = made_by(stage, reached)
        slices = len(stage.table.starting_with("slice:", rows))
        affected.append(Affected(stage, slices, len(rows) - slices))
        made.append(stage.table.keys[rows])
    return Impact(graph, subject, union(made), tuple(affected), tuple(older))


def as_json(found: Impact) -> dict[str, Any]:
    """Everything by name."""
    return {
        "subject": found.subject.name,
        "kind": found.subject.kind,
        "stages": [item.lineage.activity.stage for item in found.affected],
        "older": [stage.activity.stage for stage in found.older],
        "slices": found.slices(),
        "models": found.models(),
        "numbers": {run: _auroc(run) for run in found.numbers()},
        "outputs": [{"id": item.id, "sha256": item.sha256} for item in found.entities()],
    }


def _auroc(run: str) -> float | None:
    try:
        value = json.loads(metrics_file(run).read_text(encoding="utf-8")).get("auroc")
    except (OSError, ValueError, AttributeError):
        return None
    return value if isinstance(value, float) else None
