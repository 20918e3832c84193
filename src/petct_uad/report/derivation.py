"""Where a run's figures come from: the stage runs behind them, as a picture."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from petct_uad.core.errors import EvaluationError
from petct_uad.core.provenance.record import ACTIVITY
from petct_uad.core.provenance.table import TABLE, key_of

Keys = NDArray[np.uint64]  # of entities, sorted, each once
_KINDS = {b"f": "file", b"i": "raw file", b"s": "slice", b"t": "teacher's weights"}


@dataclass(frozen=True)
class StageTable:
    """One ``lineage`` folder."""

    folder: Path
    stage: str
    params_sha256: str
    source_sha256: str
    columns: dict[str, NDArray[Any]]  # as ``lineage.table`` writes them

    @classmethod
    def read(cls, folder: Path) -> StageTable:
        """Read both files.

        Raises:
            EvaluationError: one is missing or of another version.
        """
        try:
            record = json.loads((folder / ACTIVITY).read_text(encoding="utf-8"))
            hashes = (record["params_sha256"], record["source_sha256"])
            return cls(folder, record["stage"], *hashes, load_file(folder / TABLE))
        except (OSError, KeyError, ValueError) as error:
            raise EvaluationError(f"{folder}: {error}. Run `dvc repro compare`.") from error

    @cached_property
    def outputs(self) -> Keys:
        """The key of each row's output."""
        keys: Keys = self.columns["entity_key"][self.columns["output"]]
        return keys

    def rows_of(self, keys: Keys) -> NDArray[np.intp]:
        """The rows that made any of these."""
        return np.flatnonzero(np.isin(self.outputs, keys))

    def inputs_of(self, rows: NDArray[np.intp]) -> NDArray[np.int32]:
        """Indices of the entities that these rows were made from."""
        ends = self.columns["input_end"]
        starts = np.concatenate([[0], ends[:-1]])
        parts = [self.columns["input"][starts[row] : ends[row]] for row in rows]
        return np.unique(np.concatenate(parts)) if parts else np.empty(0, np.int32)

    def keys_of(self, entities: NDArray[np.int32]) -> Keys:
        """Their keys, which other tables share."""
        return np.unique(self.columns["entity_key"][entities])

    def kinds_of(self, entities: NDArray[np.int32]) -> Counter[str]:
        """How many of each kind."""
        ends = self.columns["entity_id_end"]
        starts = np.concatenate([[0], ends[:-1]])[entities]
        letters = self.columns["entity_id"][starts]
        return Counter(_KINDS[bytes([letter])] for letter in letters)


@dataclass(frozen=True)
class Node:
    """One stage run on the way, or the raw files at its beginning."""

    name: str
    made: str
    code: str = ""  # first digits of the hash of its source
    params: str = ""


@dataclass(frozen=True)
class Origin:
    """The way from raw files to one run's figures, earliest first."""

    run: str
    nodes: tuple[Node, ...]
    arrows: tuple[tuple[int, int], ...]  # from an earlier node to a later one


def trace_origin(run: str, figures: Path, folders: Iterable[Path]) -> Origin:
    """Walk back from the run's ``metrics.json`` over the stages' lineage tables.

    Args:
        figures: its path.
        folders: the ``lineage`` folders of the stages, in pipeline order.

    Raises:
        EvaluationError: a table is missing or cannot be read.
    """
    wanted = np.array([key_of(f"file:{figures.as_posix()}")], dtype=np.uint64)
    steps: list[tuple[StageTable, NDArray[np.intp], Keys]] = []
    instances = 0
    # Folders are in pipeline order, so that one pass from the last to the first meets everything.
    for table in map(StageTable.read, reversed(tuple(folders))):
        rows = table.rows_of(wanted)
        if not len(rows):
            continue
        sources = table.inputs_of(rows)
        keys = table.keys_of(sources)
        instances += table.kinds_of(sources)["raw file"]
        steps.append((table, rows, keys))
        wanted = np.union1d(wanted, keys)
    steps.reverse()
    nodes = [_node(table, rows) for table, rows, _ in steps]
    arrows = _arrows(steps)
    if not instances:
        return Origin(run, tuple(nodes), tuple(arrows))
    raw = Node("raw data", _counted({"raw file": instances}))
    readers = [i for i, (table, rows, _) in enumerate(steps) if _reads_raw(table, rows)]
    shifted = [(first + 1, second + 1) for first, second in arrows]
    return Origin(run, (raw, *nodes), (*((0, i + 1) for i in readers), *shifted))


def _reads_raw(table: StageTable, rows: NDArray[np.intp]) -> bool:
    return table.kinds_of(table.inputs_of(rows))["raw file"] > 0


def _node(table: StageTable, rows: NDArray[np.intp]) -> Node:
    made = _counted(table.kinds_of(table.columns["output"][rows]))
    return Node(table.stage, made, table.source_sha256[:8], table.params_sha256[:8])


def _arrows(steps: Sequence[tuple[StageTable, NDArray[np.intp], Keys]]) -> list[tuple[int, int]]:
    return [
        (i, j)
        for j, (_, _, needed) in enumerate(steps)
        for i, (table, rows, _) in enumerate(steps[:j])
        if np.isin(table.outputs[rows], needed).any()
    ]


def _counted(kinds: dict[str, int]) -> str:
    return ", ".join(f"{count} {_plural(kind, count)}" for kind, count in sorted(kinds.items()))


def _plural(kind: str, count: int) -> str:
    return kind if count == 1 or kind.endswith("s") else f"{kind}s"
