"""Which library modules and packages a file uses, read from its import statements.

Serves two masters: what each stage's activity record names, and the test that proves that ``deps:``
in dvc.yaml are complete.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from petct_uad.core.errors import LineageError

_PACKAGE = "petct_uad"
_SOURCE_ROOT = Path("src")
_PROJECT = Path("pyproject.toml")
# Where a statement holds others; no expression holds one.
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
# What a package loads by itself where it is installed, without an import of ours.
_PLUGINS = {"pydicom": ("pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pyjpegls")}


def library_modules(*entries: Path) -> list[Path]:
    """Library files that ``entries`` import, directly or not, as sorted paths below ``src``.

    Imports inside functions count too: a stage that may load a module depends on it. An
    ``__init__.py`` holds a docstring and nothing else, so none is named.

    Args:
        entries: files to start from, or folders of which every module is one, such as that of the
            model that a stage loads by name. Those below ``src`` are part of the result.
    """
    pending = [file for entry in entries for file in _python_files(entry)]
    found = {path for path in pending if path.is_relative_to(_SOURCE_ROOT)}
    while pending:
        for path in sorted(_own_files(pending.pop())):
            if path not in found:
                found.add(path)
                pending.append(path)
    return sorted(found)


def source_hash(files: Iterable[Path]) -> str:
    """One SHA-256 over paths and contents, in the order given."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def package_versions(files: Iterable[Path]) -> dict[str, str]:
    """Name and installed version of every package that these files import, by name.

    Packages that are not installed are left out: an import inside a function may be of an optional
    one.

    Raises:
        LineageError: a file imports what pyproject.toml does not name.
    """
    modules = {(name.split(".")[0], file) for file in files for name in _imported_names(file)}
    packages: set[str] = set()
    for module, file in sorted(modules):
        if module in sys.stdlib_module_names or module == _PACKAGE:
            continue
        package = _owner(module)
        if package is None:
            raise LineageError(
                f"{file}: imports {module}, which belongs to no installed package that "
                f"{_PROJECT} names. Add the package to its dependencies and install it."
            )
        if package:
            packages |= {package, *_PLUGINS.get(package, ())}
    return dict(sorted(map(_name_and_version, packages)))


def _python_files(entry: Path) -> list[Path]:
    if entry.is_file():
        return [entry]
    return [path for path in sorted(entry.rglob("*.py")) if path.name != "__init__.py"]


@cache
def _imported_names(path: Path) -> frozenset[str]:
    """Dotted names of modules that a file imports, and of what it takes from them."""
    names: set[str] = set()
    for node in _statements(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            if node.module.split(".")[0] == _PACKAGE:
                names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def _statements(block: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Every statement but those that only a type checker sees, and those within it."""
    for node in block:
        if not _is_for_type_checkers(node):
            yield node
            for part in _BLOCKS:
                yield from _statements(getattr(node, part, ()))


def _is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


@cache
def _own_files(path: Path) -> frozenset[Path]:
    names = (name for name in _imported_names(path) if name.split(".")[0] == _PACKAGE)
    files = (_SOURCE_ROOT / f"{name.replace('.', '/')}.py" for name in names)
    return frozenset(file for file in files if file.is_file())


@cache
def _owner(module: str) -> str | None:
    """Which of the project's packages brings a module, by the name that the project has for it.

    "" where that is not installed; None where no package brings it.

    Those that are named like it are asked first: to read what each of them brings takes a tenth of
    the time of a stage that finds its studies in the store.
    """
    packages = _project_packages()
    order = sorted(packages, key=lambda x: not _as_module(x).startswith(module.lower()))
    owner = next((name for name in order if module in _brought_by(name)), None)
    return "" if owner is None and module in map(_as_module, packages) else owner


@cache
def _project_packages() -> tuple[str, ...]:
    """As pyproject.toml names them, the last first, which counts where two bring a module.

    To ask every installed package, as ``importlib.metadata`` does, takes a second.
    """
    project = tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *(line for lines in optional for line in lines)]
    return tuple(re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in reversed(lines))


@cache
def _brought_by(package: str) -> frozenset[str]:
    """The modules of a package; none where it is not installed."""
    try:
        found = distribution(package)
    except PackageNotFoundError:
        return frozenset()
    declared = (found.read_text("top_level.txt") or "").split()
    return frozenset(declared or _top_level(found))


def _as_module(package: str) -> str:
    return package.replace("-", "_").lower()


@cache
def _name_and_version(package: str) -> tuple[str, str]:
    """As its metadata have them, which take a millisecond to parse."""
    metadata = distribution(package).metadata
    return metadata["Name"], metadata["Version"]


def _top_level(package: Distribution) -> set[str]:
    """What a package that does not declare it has in its list of files.

    Read as text, since ``package.files`` makes a path of each of thousands.
    """
    listed = (package.read_text("RECORD") or "").splitlines()
    return {line.partition(",")[0].partition("/")[0].removesuffix(".py") for line in listed}
