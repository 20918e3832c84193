"""What git and DVC recorded of a repository at a commit, an experiment or in the workspace."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from petct_uad.core.errors import LineageError
from petct_uad.lineage.git import git
from petct_uad.lineage.store import LOCK, PIPELINE, PIPELINES, parse_yaml, stage_names

WORKSPACE = "workspace"
_EXPERIMENT_PARTS = 5  # of the name of its ref


@dataclass(frozen=True)
class StageLock:
    """One stage of ``dvc.lock``: MD5s by path, and the params that it read."""

    deps: dict[str, str]
    outs: dict[str, str]
    params: dict[str, Any]  # dotted leaves


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
        """Did a stage read what the others had made, when all that the revision has was recorded?

        It did not where an experiment ran some stages only: the rest is what was there before.

        Raises:
            LineageError: there is no ``dvc.lock``, or it cannot be read.
        """
        made = {path: md5 for lock in self.stages.values() for path, md5 in lock.outs.items()}
        return stage in self.stages and all(
            made.get(path, md5) == md5 for path, md5 in self.stages[stage].deps.items()
        )

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
