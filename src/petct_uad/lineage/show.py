"""Traces on a terminal."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from petct_uad.core.provenance.record import Entity
from petct_uad.lineage.trace import Step, Trace, count_of, inputs_by_kind

if TYPE_CHECKING:
    from petct_uad.lineage.diff import Cause, Difference, FigureChange, OutputChange
    from petct_uad.lineage.impact import Impact

_SHOWN = 3  # of each kind under one branch
_FILES = 5


def trace_table(found: Trace) -> RenderableType:
    """The stage runs behind the subject, nearest first, and the first files that it began with."""
    subject = found.subject
    value = "" if subject.value is None else f" = {subject.value}"
    table = Table("stage", "made", "params", "code", "packages", box=None, title_justify="left")
    for step in found.steps:
        table.add_row(*_row(step))
    title = Text(f"{subject.kind} {subject.name}{value} comes from:")
    why = "read earlier versions of what is named here"
    return Group(title, table, _files(found), *_older(found.older(), why))


def _row(step: Step) -> tuple[str, ...]:
    record = step.lineage.activity
    made = ", ".join(count_of(count, kind) for kind, count in step.made.items())
    packages = count_of(len(record.packages), "package")  # which, --json says: a dozen names each
    return record.stage, made, record.params_sha256[:12], record.source_sha256[:12], packages


def _files(found: Trace) -> Text:
    count = found.count("instance")
    if not count:
        return Text(_end(found.ends()))
    shown = found.instances()[:_FILES] if count <= _MANY else []
    lines = [f"{found.counted(count, 'instance')}{':' if shown else ' (--json names them)'}"]
    lines += [f"  {row.file}  sha256 {row.sha256}" for row in shown]
    if shown and count > len(shown):
        lines.append(f"  and {count - len(shown)} more (--json names all)")
    if any(_PSEUDONYM.search(row.file) for row in shown):
        lines.append(
            "Names in these paths are replaced by pseudonyms; --own-names shows the files'."
        )
    return Text("\n".join(lines))


def _end(files: list[str]) -> str:
    """No count of instances, which would read as a result."""
    if not files:
        return "No DICOM instance or picture is behind it."
    where = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return (
        f"The way ends before DICOM, at {files[0]}{where}: the record of what made them is not "
        "here. Run `dvc checkout`, `dvc pull` or `dvc repro`."
    )


# Of a patient, or of another name that would tell who it is (ingest.pseudonyms).
_PSEUDONYM = re.compile(r"/[px]-[0-9a-f]{10}\b")
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
            branch.add(f"and {found.counted(len(entities) - _SHOWN, kind)} more")


def impact_table(found: Impact) -> RenderableType:
    """What depends on the subject, by stage run, and how to make it anew."""
    title = Text(f"{found.subject.kind} {found.subject.name}")
    names = sorted({stage.activity.stage for stage in found.older})
    older = _older(names, "read earlier versions of what depends on it, so may depend on it or not")
    if not found.affected:
        return Group(title, Text("Nothing in this workspace derives from it."), *older)
    table = Table("stage", "slices", "files", box=None)
    for stage, runs in groupby(found.affected, lambda item: item.lineage.activity.stage):
        made = [(item.slices, item.files) for item in runs]  # evaluate_trivial runs once per row
        slices, files = map(sum, zip(*made, strict=True))
        table.add_row(stage, str(slices or ""), str(files or ""))
    lines = [
        f"{found.slices()} slices",
        f"models: {', '.join(found.models()) or 'none'}",
        f"numbers of: {', '.join(found.numbers()) or 'none'}",
    ]
    return Group(title, table, Text("\n".join(lines)), *older)


def _older(stages: list[str], why: str) -> list[Text]:
    """One line on what ran before others made anew what it read."""
    if not stages:
        return []
    more = f" and {len(stages) - _FILES} more (--json has all)" if len(stages) > _FILES else ""
    return [Text(f"older: {', '.join(stages[:_FILES])}{more} {why}. Run dvc repro.")]


def difference(found: Difference) -> RenderableType:
    """Causes first, then outputs, then the figures that moved."""
    causes, outputs, figures = found.causes(), found.outputs(), found.figures()
    if not causes and not outputs and not figures:
        return Text("Nothing that DVC or the metrics record differs.")
    parts: list[RenderableType] = [Text("Causes:" if causes else "No cause differs.")]
    parts += [Text(f"  {_cause(item)}") for item in causes]
    parts += [Text("Outputs that differ:")] if outputs else []
    parts += [Text(f"  {item.stage}: {item.path}{_files_of(item)}") for item in outputs]
    parts += [
        Text(f"Unexplained: {stage} read the same and wrote something else.")
        for stage in found.unexplained()
    ]
    return Group(*parts, *([_figures(figures)] if figures else []))


def _cause(item: Cause) -> str:
    change = f": {item.before} -> {item.after}" if item.before or item.after else ""
    return f"{item.kind} {item.name}{change}"


def _files_of(item: OutputChange) -> str:
    counts = {"added": item.added, "removed": item.removed, "changed": item.changed}
    words = [f"{count} {name}" for name, count in counts.items() if count]
    return f" ({', '.join(words)})" if words else ""


def _figures(figures: list[FigureChange]) -> RenderableType:
    """One figure of each run; --json has them all."""
    first = {item.name.split(":")[0]: item for item in reversed(figures)}
    first |= {item.name.split(":")[0]: item for item in figures if item.name.endswith(":auroc")}
    table = Table("figure", "before", "after", "because of", box=None)
    for item in sorted(first.values()):
        names = sorted({cause.name for cause in item.causes})
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        why = ", ".join(names[:_SHOWN]) + more
        table.add_row(
            item.name, _number(item.before), _number(item.after), why or "nothing that was recorded"
        )
    others = len(figures) - len(first)
    return Group(table, Text(f"and {others} more figures (--json has all)")) if others else table


def _number(value: float | None) -> str:
    return "absent" if value is None else f"{value:g}"
