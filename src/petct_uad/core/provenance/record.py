"""The table of derivations that each stage writes: outputs from inputs, with their hashes.

Entities and activities follow W3C PROV. Nothing here holds a timestamp or an absolute path, so the
same inputs, params and code give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from petct_uad.core.errors import LineageError
from petct_uad.core.files import sha256_bytes, sha256_file, sha256_once, write_json
from petct_uad.core.provenance.sources import library_modules, package_versions, source_hash
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
        return cls(f"file:{path.as_posix()}", sha256_once(path))


@dataclass(frozen=True)
class Derivation:
    """One output and everything it was made from."""

    output: Entity
    inputs: tuple[Entity, ...]


@dataclass(frozen=True)
class Activity:
    """A stage run: what was asked (params), and which files and folders its code starts from."""

    stage: str
    params: Mapping[str, Any]  # the dotted keys that the stage read, and their values
    entries: tuple[Path, ...]  # the stage file, and the folder of a model that it loads by name


def write_lineage(folder: Path, activity: Activity, derivations: Iterable[Derivation]) -> None:
    """Write ``lineage.safetensors`` and ``activity.json`` into a stage's lineage folder.

    Raises:
        LineageError: the code imports a package that pyproject.toml does not name.
    """
    inputs: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for item in derivations:
        sources = inputs.setdefault((item.output.id, item.output.sha256), [])
        sources += [(source.id, source.sha256) for source in item.inputs]
    write_derivations(folder / TABLE, inputs)
    write_json(folder / ACTIVITY, _describe(activity))


def _describe(activity: Activity) -> dict[str, Any]:
    modules = library_modules(*activity.entries)
    outside = [path for path in activity.entries if path.is_file() and path not in modules]
    files = [*outside, *modules]
    params = json.dumps(activity.params, sort_keys=True)
    return {
        "stage": activity.stage,
        "params": activity.params,
        "params_sha256": sha256_bytes(params.encode()),
        "source_sha256": source_hash(files),
        "sources": {file.as_posix(): sha256_file(file) for file in files},
        "packages": package_versions(files),
    }
