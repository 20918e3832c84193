"""How the package's modules hang together."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src"


def imported_modules(file: Path) -> Iterator[Path]:
    """Modules that a file names in imports, those inside functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                yield from module_files(name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from module_files(alias.name)


def module_files(name: str) -> Iterator[Path]:
    place = SOURCE.joinpath(*name.split("."))
    yield from filter(Path.is_file, (place.with_suffix(".py"), place / "__init__.py"))


def test_modules_import_each_other_in_no_ring() -> None:
    graph = {
        # A package's own name stands in the imports of its modules from it.
        file: set(imported_modules(file)) - {file}
        for file in sorted(SOURCE.rglob("*.py"))
    }
    assert any(graph.values())
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the ring
