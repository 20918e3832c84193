"""``lineage.safetensors``: derivations as columns; ``lineage.table`` reads them, and only in part.

Entities stand once, sorted by a 64-bit key of their id, so that an id is found by bisection and
tables are joined on integers; inputs are ranges of indices (compressed sparse rows). Half a million
instances take some 50 MB, of which a question about one slice reads a few pages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from petct_uad.core.files import atomic_path

TABLE = "lineage.safetensors"
_KEY_BYTES = 8  # of SHA-256: of a million ids, two share a key with a chance of 3 in 10^8


def key_of(entity_id: str) -> int:
    """The first 64 bits of an id's SHA-256."""
    return int.from_bytes(hashlib.sha256(entity_id.encode()).digest()[:_KEY_BYTES], "big")


def write_derivations(
    path: Path, inputs: Mapping[tuple[str, str], Iterable[tuple[str, str]]]
) -> None:
    """Write which entities each output was made from; the same mapping gives the same bytes.

    Args:
        inputs: for each output, its inputs; entities are (id, SHA-256 in hexadecimal).
    """
    found = {entity for output, sources in inputs.items() for entity in (output, *sources)}
    entities = sorted((key_of(name), name, digest) for name, digest in found)
    position = {(name, digest): i for i, (_, name, digest) in enumerate(entities)}
    rows = sorted(
        (position[output], sorted({position[source] for source in sources}))
        for output, sources in inputs.items()
    )
    names = [name.encode() for _, name, _ in entities]
    digests = b"".join(bytes.fromhex(digest) for _, _, digest in entities)
    columns: dict[str, NDArray[Any]] = {
        "entity_key": np.array([key for key, _, _ in entities], dtype=np.uint64),
        "entity_id": np.frombuffer(b"".join(names), dtype=np.uint8),
        "entity_id_end": np.array(list(accumulate(map(len, names))), dtype=np.int64),
        "entity_sha256": np.frombuffer(digests, dtype=np.uint8).reshape(-1, 32),
        "output": np.array([output for output, _ in rows], dtype=np.int32),
        "input_end": np.array(list(accumulate(len(row) for _, row in rows)), dtype=np.int64),
        "input": np.array([source for _, row in rows for source in row], dtype=np.int32),
    }
    with atomic_path(path) as temporary:
        save_file(columns, temporary)
