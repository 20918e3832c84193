"""Which library modules a file uses, read from its import statements.

Serves two masters: the source hash in each stage's activity record, and the test that proves that
``deps:`` in dvc.yaml are complete.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Collection, Iterable
from pathlib import Path

_PACKAGE = "petct_uad"
_SOURCE_ROOT = Path("src")


def library_modules(entry: Path, without: Collection[Path] = ()) -> list[Path]:
    """Library files that ``entry`` imports, directly or not, as sorted paths below ``src``.

    Imports inside functions count too: a stage that may load a module depends on it. So do modules
    whose whole name stands in a string, as ``importlib`` takes it.

    Args:
        entry: the file to start from.
        without: folders that this run is known not to load, such as another model's.
    """
    found: set[Path] = set()
    pending = [entry]
    while pending:
        for path in _imported_files(pending.pop()):
            if path not in found and not any(path.is_relative_to(folder) for folder in without):
                found.add(path)
                pending.append(path)
    return sorted(found)


def source_hash(files: Iterable[Path]) -> str:
    """One SHA-256 over paths and contents, in the order given."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _imported_files(path: Path) -> set[Path]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)
    return {file for name in names if name.split(".")[0] == _PACKAGE for file in _files_of(name)}


def _files_of(module: str) -> list[Path]:
    """The module's own file and the ``__init__`` of every package above it."""
    parts = module.split(".")
    folders = [_SOURCE_ROOT.joinpath(*parts[:count]) for count in range(1, len(parts) + 1)]
    candidates = [folder / "__init__.py" for folder in folders]
    candidates.append(folders[-1].with_suffix(".py"))
    return [path for path in candidates if path.is_file()]


def other_models(name: str) -> tuple[Path, ...]:
    """Folders of every model but ``name``: what a run of that model never loads."""
    folder = _SOURCE_ROOT / _PACKAGE / "models"
    return tuple(path for path in sorted(folder.glob("*/")) if path.name != name)
