"""Which inputs, params, code and outputs differ between two revisions, and why a figure moved."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from petct_uad.lineage.git import git
from petct_uad.lineage.names import metrics_file
from petct_uad.lineage.revision import Revision, StageLock, StageOrder
from petct_uad.lineage.store import Store, cache_store

_CODE = ("src", "stages")
_NO_STAGE = StageLock({}, {}, {})


@dataclass(frozen=True, order=True)
class Cause:
    """Something that no stage made, and that differs."""

    kind: str  # param, code, input or stage
    name: str
    before: str
    after: str


@dataclass(frozen=True, order=True)
class OutputChange:
    """An output that differs, and how many of its files do where the cache tells."""

    stage: str
    path: str
    added: int
    removed: int
    changed: int


@dataclass(frozen=True, order=True)
class FigureChange:
    """A figure that moved, and what moved it."""

    name: str  # <run>:<figure>
    before: float | None
    after: float | None
    causes: tuple[Cause, ...]  # empty: nothing that its stages read differs


@dataclass(frozen=True)
class Difference:
    """Two revisions compared, stage by stage."""

    before: Revision
    after: Revision
    cache: Store

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """Of either."""
        return tuple(sorted({*self.before.stages, *self.after.stages}))

    def causes(self) -> list[Cause]:
        """Every cause, each once."""
        return sorted({cause for stage in self.stages for cause in self._by_stage[stage]})

    def _causes_of(self, stage: str) -> list[Cause]:
        """What one stage read that differs and that no stage made."""
        old, new = self._pair(stage)
        if _NO_STAGE in (old, new):
            state = ("absent", "present") if old == _NO_STAGE else ("present", "absent")
            return [Cause("stage", stage, *state)]
        found = [
            Cause("param", name, _shown(old.params, name), _shown(new.params, name))
            for name in _differing(old.params, new.params)
        ]
        for path in _differing(old.deps, new.deps):
            if path.split("/")[0] in _CODE:
                found += self._code(path)
            elif not self._order.makers[path]:
                found.append(Cause("input", path, _hash(old.deps, path), _hash(new.deps, path)))
        return sorted(found)

    def outputs(self) -> list[OutputChange]:
        """Outputs that differ."""
        return [
            OutputChange(stage, path, *self._files(old.outs.get(path, ""), new.outs.get(path, "")))
            for stage in self.stages
            for old, new in [self._pair(stage)]
            for path in _differing(old.outs, new.outs)
        ]

    def unexplained(self) -> list[str]:
        """Stages whose outputs differ though nothing that they read does."""
        return [
            stage
            for stage in self.stages
            for old, new in [self._pair(stage)]
            if old.outs != new.outs and (old.deps, old.params) == (new.deps, new.params)
        ]

    def figures(self) -> list[FigureChange]:
        """Figures that moved, each with the causes upstream of it."""
        old, new = self.before.figures, self.after.figures
        names = _differing(old, new)
        why = {run: self._why(run) for run in {name.split(":")[0] for name in names}}
        return [
            FigureChange(name, old.get(name), new.get(name), why[name.split(":")[0]])
            for name in names
        ]

    def _why(self, run: str) -> tuple[Cause, ...]:
        folder = metrics_file(run).parent.parent.as_posix()
        stages = {stage for stage in self.stages if folder in self._outs(stage)}
        upstream = self._order.upstream(stages)
        return tuple(sorted({cause for stage in upstream for cause in self._by_stage[stage]}))

    @cached_property
    def _by_stage(self) -> dict[str, list[Cause]]:
        return {stage: self._causes_of(stage) for stage in self.stages}

    @cached_property
    def _order(self) -> StageOrder:
        """Of both revisions together."""
        deps = {x: {path for side in self._pair(x) for path in side.deps} for x in self.stages}
        return StageOrder(deps, {stage: self._outs(stage) for stage in self.stages})

    def _outs(self, stage: str) -> set[str]:
        old, new = self._pair(stage)
        return {*old.outs, *new.outs}

    def _pair(self, stage: str) -> tuple[StageLock, StageLock]:
        return (
            self.before.stages.get(stage, _NO_STAGE),
            self.after.stages.get(stage, _NO_STAGE),
        )

    def _code(self, path: str) -> list[Cause]:
        """The files that differ, since the lock knows folders only."""
        inside = [name for name in self._changed_code if PurePosixPath(name).is_relative_to(path)]
        return [Cause("code", name, "", "") for name in inside or [path]]

    @cached_property
    def _changed_code(self) -> list[str]:
        commits = [rev.commit for rev in (self.before, self.after) if rev.commit]
        names = git("diff", "--name-only", *commits, "--", *_CODE).splitlines() if commits else []
        return [name for name in names if not name.endswith(".md")]  # as .dvcignore has it

    def _files(self, before: str, after: str) -> tuple[int, int, int]:
        old = {member.path: member.md5 for member in self.cache.folder(before)}
        new = {member.path: member.md5 for member in self.cache.folder(after)}
        if not old or not new:
            return (0, 0, 0)
        both = old.keys() & new.keys()
        changed = sum(old[name] != new[name] for name in both)
        return len(new.keys() - old.keys()), len(old.keys() - new.keys()), changed


def compare(before: Revision, after: Revision) -> Difference:
    """Compare two revisions.

    Raises:
        LineageError: one of them has no ``dvc.lock``.
    """
    found = Difference(before, after, cache_store())
    _ = found.stages
    return found


def as_json(found: Difference) -> dict[str, Any]:
    """Everything that differs."""
    return {
        "before": {"name": found.before.name, "commit": found.before.commit},
        "after": {"name": found.after.name, "commit": found.after.commit},
        "causes": [asdict(item) for item in found.causes()],
        "outputs": [asdict(item) for item in found.outputs()],
        "unexplained": found.unexplained(),
        "figures": [asdict(item) for item in found.figures()],
    }


def _differing(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    missing = object()
    names = sorted({*old, *new})
    return [name for name in names if old.get(name, missing) != new.get(name, missing)]


def _shown(params: dict[str, Any], name: str) -> str:
    return repr(params[name]) if name in params else "absent"


def _hash(hashes: dict[str, str], path: str) -> str:
    return hashes[path][:12] if path in hashes else "absent"
