"""Sets as sorted arrays of integers: numpy's own pass through a hash table that is slow on keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]  # of entities, the same in every table
Positions = NDArray[np.int64]  # of entities within one table
_Integer = TypeVar("_Integer", np.uint64, np.int64)
NO_KEYS: Keys = np.array([], dtype=np.uint64)


def distinct(values: Keys) -> Keys:
    """Sorted and each once."""
    ordered = np.sort(values, kind="stable")
    first = np.ones(len(ordered), dtype=np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


def union(sets: Iterable[Keys]) -> Keys:
    """What is in any of these."""
    filled = [keys for keys in sets if len(keys)]
    return distinct(np.concatenate(filled)) if filled else NO_KEYS


def within(values: NDArray[Any], members: NDArray[Any]) -> NDArray[np.bool_]:
    """For each of ``values``, whether it is one of the sorted ``members``."""
    if not len(members):
        return np.zeros(len(values), dtype=np.bool_)
    place = np.minimum(np.searchsorted(members, values), len(members) - 1)
    return np.asarray(members[place] == values)


def without(keys: NDArray[_Integer], others: NDArray[_Integer]) -> NDArray[_Integer]:
    """Those of ``keys`` that are not in ``others``; both sorted."""
    return keys[~within(keys, others)]


def marked(positions: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Flags of ``count`` places, true at ``positions``."""
    flags = np.zeros(count, dtype=np.bool_)
    flags[positions] = True
    return flags


def ranges(starts: Positions, ends: Positions) -> Positions:
    """All integers of the half-open ranges, one range after another."""
    lengths = ends - starts
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())
