"""A stage's ``lineage.safetensors``, read column by column when a question touches it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from petct_uad.core.errors import LineageError
from petct_uad.core.provenance.table import key_of
from petct_uad.lineage.sets import Keys, Positions, distinct, marked, ranges, within


def keys_of(ids: Iterable[str]) -> Keys:
    """Sorted distinct keys of ids."""
    return distinct(np.array([key_of(item) for item in ids], dtype=np.uint64))


class LineageTable:
    """One stage's derivations, read column by column when they are asked for.

    Positions are indices of entities within this table; keys are the same in every table.
    """

    def __init__(self, path: Path) -> None:
        """Open a table.

        Raises:
            LineageError: it is missing or no such table.
        """
        self.path = path
        try:
            self._file = safe_open(path, framework="numpy")
        except (OSError, SafetensorError) as error:
            raise LineageError(
                f"{path}: cannot be read as a lineage table ({error}). Restore it with "
                f"`dvc checkout --force` or `git restore {path}`, or run the stage again."
            ) from error

    def _column(self, name: str) -> NDArray[Any]:
        try:
            return np.asarray(self._file.get_tensor(name))  # type: ignore[no-untyped-call]
        except SafetensorError as error:
            raise LineageError(f"{self.path}: has no column {name}: {error}") from error

    @cached_property
    def keys(self) -> Keys:
        """Of every entity, ascending."""
        return self._column("entity_key")

    @cached_property
    def sha256(self) -> NDArray[np.uint8]:
        """Of every entity: (n, 32)."""
        return self._column("entity_sha256")

    @cached_property
    def outputs(self) -> Positions:
        """Entities that were made here, ascending."""
        return self._column("output").astype(np.int64)

    @cached_property
    def _inputs(self) -> NDArray[np.int32]:
        return self._column("input")

    @cached_property
    def _input_end(self) -> Positions:
        return self._column("input_end")

    @cached_property
    def _id_end(self) -> Positions:
        return self._column("entity_id_end")

    @cached_property
    def _id_bytes(self) -> NDArray[np.uint8]:
        return self._column("entity_id")

    def __len__(self) -> int:
        return len(self.keys)

    def positions(self, keys: Keys) -> Positions:
        """Where the entities of these keys stand, ascending; keys that are not here are left out.

        One id may stand with two hashes.
        """
        if len(self) < len(keys):
            return np.flatnonzero(within(self.keys, keys))
        first = np.searchsorted(self.keys, keys, side="left")
        return ranges(first, np.searchsorted(self.keys, keys, side="right"))

    def inputs_of(self, positions: Positions) -> Positions:
        """What these entities were made from, here."""
        rows = np.flatnonzero(within(self.outputs, positions))
        ends = self._input_end
        starts = np.where(rows > 0, ends[rows - 1], 0)
        return np.flatnonzero(marked(self._inputs[ranges(starts, ends[rows])], len(self)))

    def outputs_of(self, positions: Positions) -> Positions:
        """What was made from these entities, here."""
        edges = np.flatnonzero(marked(positions, len(self))[self._inputs])
        rows = np.searchsorted(self._input_end, edges, side="right")
        return self.outputs[marked(rows, len(self.outputs))]

    def made(self, positions: Positions) -> Positions:
        """Those of the entities that are outputs here."""
        return positions[within(positions, self.outputs)]

    def ids(self, positions: Positions) -> list[str]:
        """The ids at these positions."""
        ends = self._id_end[positions].tolist()
        starts = np.where(positions > 0, self._id_end[positions - 1], 0).tolist()
        content = self._id_bytes.tobytes()
        return [
            content[first:last].decode(errors="replace")
            for first, last in zip(starts, ends, strict=True)
        ]

    def digests(self, positions: Positions) -> list[str]:
        """SHA-256 at these positions, in hexadecimal."""
        text = self.sha256[positions].tobytes().hex()
        return [text[start : start + 64] for start in range(0, len(text), 64)]

    def starting_with(self, prefix: str, among: Positions | None = None) -> Positions:
        """Entities whose id starts with ``prefix``; of all, or among these."""
        wanted = np.frombuffer(prefix.encode(), dtype=np.uint8)
        found = np.arange(len(self)) if among is None else among
        starts = np.where(found > 0, self._id_end[found - 1], 0)
        long_enough = self._id_end[found] - starts >= len(wanted)
        found, starts = found[long_enough], starts[long_enough]
        for i, letter in enumerate(wanted):
            same = self._id_bytes[starts + i] == letter
            if not same.all():
                found, starts = found[same], starts[same]
        return found

    def check(self) -> None:
        """Do the columns agree with each other?

        Raises:
            LineageError: they do not.
        """
        count, ends = len(self), self._input_end
        fits = (
            self.sha256.shape == (count, 32)
            and len(self._id_end) == count
            and (count == 0 or self._id_end[-1] == len(self._id_bytes))
            and len(ends) == len(self.outputs)
            and (len(ends) == 0 or ends[-1] == len(self._inputs))
            and all(column.min() >= 0 and column.max() < count
                    for column in (self.outputs, self._inputs) if len(column))
        )  # fmt: skip
        if not fits:
            raise LineageError(f"{self.path}: its columns do not fit together. Restore it.")

    def derivations(self, positions: Positions) -> list[tuple[str, Positions]]:
        """Those of the entities that are outputs here, by name, each with its inputs."""
        made = self.made(positions)
        rows = np.searchsorted(self.outputs, made).tolist()
        starts = [0, *self._input_end.tolist()]
        return [
            (name, self._inputs[starts[row] : starts[row + 1]].astype(np.int64))
            for name, row in zip(self.ids(made), rows, strict=True)
        ]

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Every edge as (output id, its SHA-256, input id, its SHA-256), sorted; for small tables.

        An output made from params alone has one row with an empty input.
        """
        everything = np.arange(len(self))
        ids, digests = self.ids(everything), self.digests(everything)
        found = []
        for position, (name, inputs) in zip(
            self.outputs, self.derivations(self.outputs), strict=True
        ):
            sources = [(ids[i], digests[i]) for i in inputs] or [("", "")]
            found += [(name, digests[position], *source) for source in sources]
        return sorted(found)
