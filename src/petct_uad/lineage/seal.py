"""A manifest of everything that a release stands on, under one Merkle root that can be signed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from petct_uad.core.errors import LineageError
from petct_uad.core.files import write_json
from petct_uad.lineage.hashing import Expected, files_below, hash_files
from petct_uad.lineage.store import absent_folders, due, tracked
from petct_uad.lineage.verify import Finding

_PLACES = ("data/processed", "metrics", "models", "src", "stages")
_FILES = (
    "dvc.lock", "dvc.yaml", "data/dvc.lock", "data/dvc.yaml", "params.yaml", "data/withdrawn.csv"
)  # fmt: skip
_RAW = "data/raw"
_DIFFERS_BY_MACHINE = "metrics/cost/"


@dataclass(frozen=True)
class Seal:
    """What a manifest says."""

    root: str
    files: dict[str, str]  # SHA-256 by path
    raw: tuple[str, ...]  # SHA-256 of raw files, sorted: their names may name a person

    def leaves(self) -> list[bytes]:
        """One for each file, in a fixed order."""
        named = [f"{path}\0{self.files[path]}" for path in sorted(self.files)]
        return [line.encode() for line in (*named, *(f"raw\0{digest}" for digest in self.raw))]


def merkle_root(leaves: Sequence[bytes]) -> str:
    """The Merkle Tree Hash of RFC 6962, section 2.1, with SHA-256."""
    return _tree(leaves).hex()


def _tree(leaves: Sequence[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + _tree(leaves[:split]) + _tree(leaves[split:])).digest()


def make_seal() -> Seal:
    """Hash raw data, shards, weights, metrics, code and params of the workspace.

    Raises:
        LineageError: there is nothing to seal, or what a stage has made is not here.
    """
    names = [f"{place}/{name}" for place in _PLACES for name in files_below(Path(place))]
    names = [name for name in names if not name.startswith(_DIFFERS_BY_MACHINE)]
    names += [name for name in _FILES if Path(name).is_file()]
    if not Path("dvc.lock").is_file():
        raise LineageError("nothing to seal: no dvc.lock. Run `dvc repro` first.")
    if absent := [out for out in absent_folders(due(tracked())) if out.path.startswith(_PLACES)]:
        raise LineageError(
            f"{absent[0].path}: not here. The manifest would lack {len(absent)} of the folders "
            "that dvc.lock lists. Run `dvc checkout`, `dvc pull` or `dvc repro` first."
        )
    raw = [f"{_RAW}/{name}" for name in files_below(Path(_RAW)) if "/" in name]
    digests = hash_files([Expected(Path(name), "sha256", "") for name in (*names, *raw)], "sealing")
    files = dict(sorted(zip(names, digests[: len(names)], strict=True)))
    found = Seal("", files, tuple(sorted(digests[len(names) :])))
    return Seal(merkle_root(found.leaves()), found.files, found.raw)


def write_seal(seal: Seal, path: Path) -> None:
    """Write the manifest; the same workspace gives the same bytes."""
    write_json(path, {"merkle_root": seal.root, "files": seal.files, "raw_sha256": list(seal.raw)})


def read_seal(path: Path) -> Seal:
    """Read a manifest.

    Raises:
        LineageError: it cannot be read, or its root is not that of what it lists.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        seal = Seal(content["merkle_root"], dict(content["files"]), tuple(content["raw_sha256"]))
        root = merkle_root(seal.leaves())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LineageError(
            f"{path}: not a manifest that `petct lineage seal` wrote ({error})."
        ) from error
    if root != seal.root:
        raise LineageError(
            f"{path}: its Merkle root is {seal.root[:16]}, but what it lists has {root[:16]}: the "
            "manifest was changed. Get it again from whoever released it."
        )
    return seal


def compare_with_seal(seal: Seal) -> list[Finding]:
    """Every file of this workspace that is not as sealed."""
    now = make_seal()
    found = [
        Finding(path, _difference(seal.files, now.files, path), "It is not the sealed release's.")
        for path in sorted({*seal.files, *now.files})
        if seal.files.get(path) != now.files.get(path)
    ]
    for digest in sorted({*seal.raw} ^ {*now.raw}):
        state = "is sealed and not here" if digest in seal.raw else "is here and not sealed"
        found.append(Finding(_RAW, f"a file with SHA-256 {digest} {state}", "Run `dvc pull`."))
    return found


def _difference(sealed: Mapping[str, str], now: Mapping[str, str], path: str) -> str:
    if path not in now:
        return "is sealed and not here"
    if path not in sealed:
        return "is here and not sealed"
    return f"has SHA-256 {now[path][:12]}, sealed with {sealed[path][:12]}"
