"""All lineage tables of a repository as one graph, walked backward or forward."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petct_uad.core.errors import LineageError
from petct_uad.core.provenance.record import ACTIVITY, Entity
from petct_uad.core.provenance.table import TABLE
from petct_uad.ingest.tables import VOLUMES
from petct_uad.lineage.sets import NO_KEYS, Keys, Positions, distinct, union, within, without
from petct_uad.lineage.table import LineageTable, keys_of

_PLACES = ("data", "models", "metrics")
# Folders that hold a file or a folder for every patient, and no lineage.
_NO_LINEAGE = {"raw", VOLUMES, "shards"}
_DEPTH = 4
_RAW = "file:data/raw/"
_INSTANCE = "instance:"


@dataclass(frozen=True)
class ActivityRecord:
    """``activity.json``: what one stage run was asked, by which code, with which packages."""

    stage: str
    params: dict[str, Any]
    params_sha256: str
    source_sha256: str
    sources: dict[str, str]  # SHA-256 of each file, by its path
    packages: dict[str, str]


@dataclass(frozen=True)
class StageLineage:
    """One ``lineage`` folder."""

    folder: Path  # relative to the repository's root
    table: LineageTable

    @cached_property
    def activity(self) -> ActivityRecord:
        """The run that wrote the table.

        Raises:
            LineageError: ``activity.json`` is missing or not as a stage writes it.
        """
        path = self.folder / ACTIVITY
        try:
            return parse_activity(path.read_text(encoding="utf-8"), path.as_posix())
        except (OSError, UnicodeDecodeError) as error:
            raise LineageError(f"{path}: cannot be read ({error}). Run the stage again.") from error


def parse_activity(text: str, name: str) -> ActivityRecord:
    """Read ``activity.json``.

    Raises:
        LineageError: it is not as a stage writes it; names the file.
    """
    try:
        record = ActivityRecord(**json.loads(text))
        dict(record.sources), dict(record.params), dict(record.packages)
    except (TypeError, ValueError) as error:
        raise LineageError(f"{name}: not an activity record ({error}).") from error
    return record


def lineage_folders(root: Path) -> list[Path]:
    """Every ``lineage`` folder below ``root`` that a stage writes, sorted."""
    found = [folder for place in _PLACES for folder in _below(root / place, _DEPTH)]
    return sorted(found)


def _below(folder: Path, depth: int) -> Iterator[Path]:
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    for name in names:
        if name == "lineage":
            yield folder / name
        elif depth and name not in _NO_LINEAGE and not name.startswith("."):
            yield from _below(folder / name, depth - 1)


class Graph:
    """Entities by key over all tables; an instance and the raw file with its bytes are joined."""

    def __init__(self, stages: Iterable[StageLineage]) -> None:
        self.stages = tuple(stages)
        self._kinds: dict[str, list[Positions]] = {}

    @classmethod
    def open(cls, root: Path = Path()) -> Graph:
        """Open every table; the columns are read when a question touches them.

        Raises:
            LineageError: there is none, or one cannot be read.
        """
        folders = lineage_folders(root)
        if not folders:
            raise LineageError(
                "no lineage tables below data, models and metrics: run `dvc checkout`, `dvc pull` "
                "or `dvc repro` first, from the repository's root."
            )
        return cls(StageLineage(folder, LineageTable(folder / TABLE)) for folder in folders)

    def known(self, entity_id: str) -> bool:
        """Does any table name this entity?"""
        return any(len(stage.table.positions(keys_of([entity_id]))) for stage in self.stages)

    def backward(self, keys: Keys) -> Keys:
        """The entities and everything that they were made from."""
        return self._closure(keys, _step_back, self._raw_files)

    def forward(self, keys: Keys) -> Keys:
        """The entities and everything that was made from them as they are now."""
        return self._closure(keys, self._step_to_readers, self._instances)

    def forward_by_name(self, keys: Keys) -> Keys:
        """That, and everything that was made from earlier versions of any of them."""
        return self._closure(keys, _step_forward, self._instances)

    def sources(self, keys: Keys) -> Keys:
        """What the entities were made from, one step back."""
        steps = [*(_step_back(stage.table, keys) for stage in self.stages), self._raw_files(keys)]
        return union(steps)

    def makers(self, keys: Keys) -> list[StageLineage]:
        """The stage runs that made any of these entities."""
        return [stage for stage in self.stages if len(made_by(stage, keys))]

    def older(self, keys: Keys) -> list[StageLineage]:
        """The makers that read something which its own maker has written anew since."""
        return [stage for stage in self.makers(keys) if self._read_earlier(stage, keys)]

    def _read_earlier(self, stage: StageLineage, keys: Keys) -> bool:
        read = stage.table.inputs_of(made_by(stage, keys))
        return bool(within(read, self._replaced[stage.table]).any())

    def entities(self, keys: Keys) -> list[Entity]:
        """Names and hashes of these entities, sorted."""
        found: set[tuple[str, str]] = set()
        left = keys
        # Tables that made something first: an entity is in many tables as an input.
        for pick in (made_by, lambda stage, keys: stage.table.positions(keys)):
            for stage in self.stages:
                positions = pick(stage, left)
                table = stage.table
                found.update(zip(table.ids(positions), table.digests(positions), strict=True))
                left = without(left, table.keys[positions])
        return [Entity(*pair) for pair in sorted(found)]

    def keys_starting_with(self, prefix: str) -> Keys:
        """Of every entity whose id starts with ``prefix``."""
        pairs = zip(self.stages, self._kind(prefix), strict=True)
        return union(stage.table.keys[rows] for stage, rows in pairs)

    def of_kind(self, keys: Keys, kind: str) -> Keys:
        """Those of the entities that are instances, slices, files or teachers."""
        tables = [stage.table for stage in self.stages]
        return union(
            table.keys[table.starting_with(f"{kind}:", table.positions(keys))] for table in tables
        )

    def with_bytes(self, digests: Iterable[str], prefix: str) -> Keys:
        """Of every entity with one of these SHA-256 whose id starts with ``prefix``."""
        wanted = b"".join(bytes.fromhex(digest) for digest in digests)
        heads = _heads(np.frombuffer(wanted, dtype=np.uint8).reshape(-1, 32))
        return self._of_bytes(distinct(heads), prefix)

    def _closure(
        self,
        keys: Keys,
        step: Callable[[LineageTable, Keys], Keys],
        twins: Callable[[Keys], Keys],
    ) -> Keys:
        known = frontier = keys
        while len(frontier):
            steps = [*(step(stage.table, frontier) for stage in self.stages), twins(frontier)]
            frontier = without(union(steps), known)
            known = union([known, frontier])
        return known

    def _step_to_readers(self, table: LineageTable, keys: Keys) -> Keys:
        positions = table.positions(keys)
        return table.keys[table.outputs_of(without(positions, self._replaced[table]))]

    @cached_property
    def _replaced(self) -> dict[LineageTable, Positions]:
        """Positions in each table of what was read there before its maker wrote it anew."""
        tables = [stage.table for stage in self.stages]
        made = union(table.keys[table.outputs] for table in tables)
        current = union(_versions(table, table.outputs) for table in tables)
        known = {table: np.flatnonzero(within(table.keys, made)) for table in tables}
        return {
            table: rows[~within(_versions(table, rows), current)] for table, rows in known.items()
        }

    def _raw_files(self, keys: Keys) -> Keys:
        return self._twins(keys, _INSTANCE, _RAW)

    def _instances(self, keys: Keys) -> Keys:
        return self._twins(keys, _RAW, _INSTANCE)

    def _twins(self, keys: Keys, mine: str, theirs: str) -> Keys:
        """Entities of one kind with the bytes of those of another."""
        if not any(len(rows) for rows in self._kind(theirs)):
            return NO_KEYS
        heads = []
        for stage, kind in zip(self.stages, self._kind(mine), strict=True):
            table = stage.table
            if len(kind):
                positions = table.positions(keys)
                heads.append(_heads(table.sha256[positions[within(positions, kind)]]))
        return self._of_bytes(union(heads), theirs)

    def _of_bytes(self, heads: Keys, prefix: str) -> Keys:
        found = []
        for stage, kind in zip(self.stages, self._kind(prefix), strict=True):
            if len(kind) and len(heads):
                same = within(_heads(stage.table.sha256[kind]), heads)
                found.append(stage.table.keys[kind[same]])
        return union(found)

    def _kind(self, prefix: str) -> list[Positions]:
        """Positions of the ids with this prefix in each table."""
        if prefix not in self._kinds:
            self._kinds[prefix] = [stage.table.starting_with(prefix) for stage in self.stages]
        return self._kinds[prefix]


def made_by(stage: StageLineage, keys: Keys) -> Positions:
    """Positions of those of these entities that the stage run made."""
    return stage.table.made(stage.table.positions(keys))


def _step_back(table: LineageTable, keys: Keys) -> Keys:
    return table.keys[table.inputs_of(table.positions(keys))]


def _step_forward(table: LineageTable, keys: Keys) -> Keys:
    positions = table.positions(keys)
    return table.keys[table.outputs_of(positions)] if len(positions) else NO_KEYS


def _versions(table: LineageTable, rows: Positions) -> Keys:
    """One integer for the name and the bytes of each of these entities."""
    return table.keys[rows] ^ _heads(table.sha256[rows])


def _heads(digests: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The first 64 bits of each SHA-256."""
    return np.ascontiguousarray(digests[:, :8]).view(np.uint64).ravel()
