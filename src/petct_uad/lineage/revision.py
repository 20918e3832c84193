"""What git and DVC recorded of a repository at a commit, an experiment or in the workspace."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from petct_uad.core.errors import LineageError
from petct_uad.lineage.git import git
from petct_uad.lineage.store import (
    LOCK,
    PIPELINE,
    PIPELINES,
    cache_store,
    parse_yaml,
    stage_names,
)

WORKSPACE = "workspace"
_EXPERIMENT_PARTS = 5  # of the name of its ref


@dataclass(frozen=True)
class StageLock:
    """One stage of ``dvc.lock``: MD5s by path, and the params that it read."""

    deps: dict[str, str]
    outs: dict[str, str]
    params: dict[str, Any]  # dotted leaves


@dataclass(frozen=True)
class StageOrder:
    """Which stages stand behind which, by the paths that they read and write."""

    deps: Mapping[str, Collection[str]]  # by stage
    outs: Mapping[str, Collection[str]]  # by stage

    def upstream(self, stages: Collection[str]) -> set[str]:
        """These and all that stand behind them."""
        found, pending = set(stages), list(stages)
        while pending:
            for path in self.deps[pending.pop()]:
                new = self.makers[path] - found
                found |= new
                pending += new
        return found

    @cached_property
    def makers(self) -> dict[str, set[str]]:
        """For each dependency, the stages that made it, something in it or what it lies in."""
        made: dict[str, set[str]] = {}
        for stage, paths in self.outs.items():
            for path in paths:
                for place in (path, *map(str, PurePosixPath(path).parents)):
                    made.setdefault(place, set()).add(stage)
        whole = {path: made[path] for paths in self.outs.values() for path in paths}
        return {
            path: made.get(path, set()).union(
                *(whole.get(str(place), set()) for place in PurePosixPath(path).parents)
            )
            for paths in self.deps.values()
            for path in paths
        }


@dataclass(frozen=True)
class Revision:
    """A commit, by its name and hash; the workspace has no hash."""

    name: str
    commit: str

    @cached_property
    def stages(self) -> dict[str, StageLock]:
        """The stages that the pipeline had and that had run.

        Raises:
            LineageError: there is no ``dvc.lock``, or it cannot be read.
        """
        return {
            name: lock
            for folder in PIPELINES
            if not folder.parts or self.files((folder / LOCK).as_posix())
            for name, lock in self._stages_of(folder).items()
        }

    def _stages_of(self, folder: Path) -> dict[str, StageLock]:
        text = self.read((folder / LOCK).as_posix())
        lock = parse_yaml(text, f"{(folder / LOCK).as_posix()} at {self.name}")
        known = stage_names(self.read((folder / PIPELINE).as_posix()), self.read("params.yaml"))
        entries = lock.get("stages", {})
        return {name: _stage(entry) for name, entry in entries.items() if name in known}

    def is_current(self, stage: str) -> bool:
        """Is what a stage made of this revision's params, and of what the stages before it made?

        It is not where an experiment ran some stages only: the rest is what was there before.

        Raises:
            LineageError: ``dvc.lock`` or params.yaml is not there, or cannot be read.
        """
        return stage in self.stages and all(
            map(self._is_as_recorded, self._order.upstream({stage}))
        )

    @cached_property
    def _order(self) -> StageOrder:
        locks = self.stages.items()
        return StageOrder({x: lock.deps for x, lock in locks}, {x: lock.outs for x, lock in locks})

    def _is_as_recorded(self, stage: str) -> bool:
        lock, asked, made = self.stages[stage], self.params, self._made
        pairs = [(value, asked.get(name)) for name, value in lock.params.items()]
        pairs += [(md5, made.get(path, md5)) for path, md5 in lock.deps.items()]
        return all(then == now for then, now in pairs)

    @cached_property
    def params(self) -> dict[str, Any]:
        """Every value of params.yaml, by its dotted key.

        Raises:
            LineageError: it is not there, or cannot be read.
        """
        content = parse_yaml(self.read("params.yaml"), f"params.yaml at {self.name}")
        return {key: value for top, inner in content.items() for key, value in leaves(top, inner)}

    @cached_property
    def _made(self) -> dict[str, str]:
        """MD5 of what stages made, and of each file in it where the cache lists the folder."""
        outs = {path: md5 for lock in self.stages.values() for path, md5 in lock.outs.items()}
        cache = cache_store()
        files = {f"{out}/{x.path}": x.md5 for out, md5 in outs.items() for x in cache.folder(md5)}
        return files | outs

    @cached_property
    def figures(self) -> dict[str, float]:
        """Every number in ``metrics/runs/<family>/<run>/metrics.json``, as ``<run>:<figure>``."""
        found = {}
        for path in self.files("metrics/runs"):
            if path.endswith("/metrics.json"):
                run = path.split("/")[-2]
                content = _json(self.read(path), f"{path} at {self.name}")
                for name, value in content.items():
                    if type(value) in (int, float):
                        found[f"{run}:{name}"] = float(value)
        return found

    def read(self, path: str) -> str:
        """A tracked file's text.

        Raises:
            LineageError: it is not there.
        """
        if self.commit:
            return git("show", f"{self.commit}:{path}")
        try:
            return Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LineageError(f"{path}: cannot be read ({error}).") from error

    def files(self, folder: str) -> list[str]:
        """Paths of the tracked files below a folder, or the path of a file if it is there."""
        if self.commit:
            return git("ls-tree", "-r", "--name-only", self.commit, "--", folder).splitlines()
        below = (Path(folder), *Path(folder).rglob("*"))
        return sorted(path.as_posix() for path in below if path.is_file())


def find_revision(name: str) -> Revision:
    """A commit, branch, tag, DVC experiment or ``workspace``.

    Raises:
        LineageError: git knows nothing of that name.
    """
    if name == WORKSPACE:
        return Revision(name, "")
    refs = git("for-each-ref", "--format=%(refname)", "refs/exps").splitlines()
    names = [name, *(ref for ref in refs if ref.rpartition("/")[2] == name)]
    for candidate in names:
        try:
            found = git("rev-parse", "--verify", "--quiet", "--end-of-options",
                        f"{candidate}^{{commit}}")  # fmt: skip
        except LineageError:
            continue
        return Revision(name, found.strip())
    raise LineageError(
        f"{name}: no commit, branch, tag or experiment of that name, nor `workspace`. "
        "`git log` and `dvc exp show` list them."
    )


def experiments() -> tuple[Revision, ...]:
    """Every DVC experiment that has ended here, by name.

    Each is a ref ``refs/exps/<2 digits>/<38 digits>/<name>``; others there are DVC's queue.
    """
    lines = git("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps").splitlines()
    refs = [(ref.split("/"), commit) for ref, commit in map(str.split, lines)]
    return tuple(
        Revision(parts[-1], commit)
        for parts, commit in sorted(refs, key=lambda x: x[0][-1])
        if len(parts) == _EXPERIMENT_PARTS
    )


def _stage(entry: dict[str, Any]) -> StageLock:
    params = {
        key: value
        for values in entry.get("params", {}).values()
        for name, inner in values.items()
        for key, value in leaves(name, inner)
    }
    return StageLock(_hashes(entry, "deps"), _hashes(entry, "outs"), params)


def _hashes(entry: dict[str, Any], side: str) -> dict[str, str]:
    return {item["path"]: item.get("md5", "") for item in entry.get(side, [])}


def leaves(name: str, value: Any) -> list[tuple[str, Any]]:
    """A nested value as dotted keys."""
    if not isinstance(value, dict):
        return [(name, value)]
    return [pair for key, inner in value.items() for pair in leaves(f"{name}.{key}", inner)]


def _json(text: str, name: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise LineageError(f"{name}: is no JSON: {error}") from error
    return content if isinstance(content, dict) else {}
