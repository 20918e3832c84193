"""Traces on a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from petct_uad.audit.impact import Impact
from petct_uad.audit.trace import Step, Trace, count_of, inputs_by_kind
from petct_uad.lineage.record import Entity

_SHOWN = 3  # of each kind under one branch
_FILES = 5


def trace_table(found: Trace) -> RenderableType:
    """The stage runs behind the subject, nearest first, and the first DICOM files."""
    subject = found.subject
    value = "" if subject.value is None else f" = {subject.value}"
    table = Table("stage", "made", "params", "code", "packages", box=None, title_justify="left")
    for step in found.steps:
        table.add_row(*_row(step))
    return Group(Text(f"{subject.kind} {subject.name}{value} comes from:"), table, _files(found))


def _row(step: Step) -> tuple[str, ...]:
    record = step.lineage.activity
    made = ", ".join(count_of(count, kind) for kind, count in step.made.items())
    packages = ", ".join(f"{name} {version}" for name, version in record.packages.items())
    return record.stage, made, record.params_sha256[:12], record.source_sha256[:12], packages


def _files(found: Trace) -> Text:
    count = found.count("instance")
    shown = found.instances()[:_FILES] if count <= _MANY else []
    lines = [f"{count_of(count, 'instance')}{':' if shown else ' (--json names them)'}"]
    lines += [f"  {row.file}  sha256 {row.sha256}" for row in shown]
    if shown and count > len(shown):
        lines.append(f"  and {count - len(shown)} more (--json names all)")
    return Text("\n".join(lines))


_MANY = 5000  # above which reading all their rows takes longer than a person waits


def trace_tree(found: Trace) -> Tree:
    """From each entity to what it was made from; one that was shown before is not opened again."""
    title = found.subject.name
    if found.subject.value is not None:
        title += f" = {found.subject.value}"
    tree = Tree(escape(title))
    seen: set[str] = set()
    for entity in found.graph.entities(found.subject.keys):
        _grow(tree, found, entity, seen)
    return tree


def _grow(tree: Tree, found: Trace, entity: Entity, seen: set[str]) -> None:
    label = f"{entity.id}  {entity.sha256[:12]}"
    sources = inputs_by_kind(found, entity)
    if entity.id in seen:
        tree.add(escape(f"{label}  (see above)") if sources else escape(label))
        return
    seen.add(entity.id)
    branch = tree.add(escape(label))
    for kind, entities in sources.items():
        for source in entities[:_SHOWN]:
            _grow(branch, found, source, seen)
        if len(entities) > _SHOWN:
            branch.add(f"and {count_of(len(entities) - _SHOWN, kind)} more")


def impact_table(found: Impact) -> RenderableType:
    """What depends on the subject, by stage run, and how to make it anew."""
    title = Text(f"{found.subject.kind} {found.subject.name}")
    if not found.affected:
        return Group(title, Text("Nothing in this workspace derives from it."))
    table = Table("stage", "slices", "files", box=None)
    for item in found.affected:
        table.add_row(item.lineage.activity.stage, str(item.slices or ""), str(item.files or ""))
    lines = [
        f"{found.slices()} slices",
        f"models: {', '.join(found.models()) or 'none'}",
        f"numbers of: {', '.join(found.numbers()) or 'none'}",
    ]
    return Group(title, table, Text("\n".join(lines)))
