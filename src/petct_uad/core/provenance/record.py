"""The table of derivations that each stage writes: outputs from inputs, with their hashes.

Entities and activities follow W3C PROV. Nothing here holds a timestamp or an absolute path, so the
same inputs, params and code give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from petct_uad.core.errors import LineageError
from petct_uad.core.files import sha256_bytes, sha256_file, write_json
from petct_uad.core.provenance.sources import library_modules, source_hash
from petct_uad.core.provenance.table import TABLE, write_derivations

ACTIVITY = "activity.json"


@dataclass(frozen=True, order=True)
class Entity:
    """Something with bytes: a file (its path in the repository), an instance, a slice."""

    id: str  # "file:<path>", "instance:<SOPInstanceUID>", "slice:<slice_id>"
    sha256: str

    @classmethod
    def of_file(cls, path: Path) -> Entity:
        """The entity of a file below the working directory.

        Raises:
            LineageError: the file does not exist or lies outside.
        """
        if path.is_absolute() or ".." in path.parts or not path.is_file():
            raise LineageError(f"{path}: not a file below the repository's root")
        return cls(f"file:{path.as_posix()}", sha256_file(path))


@dataclass(frozen=True)
class Derivation:
    """One output and everything it was made from."""

    output: Entity
    inputs: tuple[Entity, ...]


@dataclass(frozen=True)
class Activity:
    """A stage run: what was asked (params), by which code, with which packages."""

    stage: str
    params: dict[str, Any]  # the dotted keys that the stage reads, and their values
    entry: Path  # the stage file; the library modules follow from its imports
    packages: tuple[str, ...]  # distributions whose version can change the output
    without: tuple[Path, ...] = ()  # library folders that this run is known not to load


def write_lineage(folder: Path, activity: Activity, derivations: Iterable[Derivation]) -> None:
    """Write ``lineage.safetensors`` and ``activity.json`` into a stage's lineage folder."""
    inputs: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for item in derivations:
        sources = inputs.setdefault((item.output.id, item.output.sha256), [])
        sources += [(source.id, source.sha256) for source in item.inputs]
    write_derivations(folder / TABLE, inputs)
    write_json(folder / ACTIVITY, _describe(activity))


def _describe(activity: Activity) -> dict[str, Any]:
    modules = [activity.entry, *library_modules(activity.entry, activity.without)]
    params = json.dumps(activity.params, sort_keys=True)
    return {
        "stage": activity.stage,
        "params": activity.params,
        "params_sha256": sha256_bytes(params.encode()),
        "source_sha256": source_hash(modules),
        "sources": {module.as_posix(): sha256_file(module) for module in modules},
        "packages": {name: version(name) for name in sorted(activity.packages)},
    }
