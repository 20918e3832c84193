"""A first working model, from the templates beside this file."""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from petct_uad.cli.presets import without_questions
from petct_uad.core.errors import NewModelError, ParamsError
from petct_uad.core.files import write_text
from petct_uad.core.params.reading import PARAMS_FILE, ParamsFile
from petct_uad.models.benchmark import class_name, model_folder

_TEMPLATES = Path(__file__).parent / "templates/model"
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LONGEST = 23  # then every generated line has at most 100 characters
# A model's outputs are called after it, and two stages have outputs of these names; the third is
# the module that holds the section of any model.
RESERVED = ("distil", "trivial", "params")
PARAMS_FILES = (PARAMS_FILE, Path("params/cpu.yaml"))  # the base of every preset
_PLACES = {"models": "section.yaml.j2", "benchmark": "row.yaml.j2"}


def write_model(name: str, root: Path = Path()) -> list[Path]:
    """Write the folder of a model, its test, its section and its row of the benchmark.

    Args:
        name: of its folder.
        root: of the repository.

    Returns:
        The new files and the changed ones, below ``root``.

    Raises:
        NewModelError: the name is no good, or something is already there; then nothing is written.
    """
    _check_name(name, root)
    files = {path: _rendered(template, name) for path, template in _new_files(name).items()}
    _check_imports(name, files)
    taken = [str(path) for path in (model_folder(name), *files) if (root / path).exists()]
    if taken:
        raise NewModelError(f"{name}: {taken[0]} is already there. Choose another name.")
    files |= {path: _with_model(root / path, name) for path in PARAMS_FILES}
    for path, text in files.items():
        write_text(root / path, text)
    return list(files)


def _new_files(name: str) -> dict[Path, str]:
    """Each file of a model, and its template."""
    folder = model_folder(name)
    return {
        folder / "README.md": "README.md.j2",
        folder / "__init__.py": "__init__.py.j2",
        folder / "params.py": "params.py.j2",
        folder / f"{name}.py": "model.py.j2",
        Path(f"tests/unit/models/test_{name}.py"): "test.py.j2",
    }


def _rendered(template: str, name: str) -> str:
    environment = Environment(  # of Python and YAML, in which nothing is escaped
        loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["sorted_lines"] = lambda text: "\n".join(sorted(text.splitlines()))
    return environment.get_template(template).render(name=name, camel=class_name(name))


def _check_name(name: str, root: Path) -> None:
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise NewModelError(
            f"{name!r}: a model is called after its folder, in lower_snake_case of at most "
            f"{_LONGEST} characters that starts with a letter, such as my_idea"
        )
    if keyword.iskeyword(name):
        raise NewModelError(f"{name!r} is a word of Python itself. Choose another name.")
    if name in RESERVED:
        raise NewModelError(f"{name!r} is what the pipeline calls something else. Choose another.")
    models = root / model_folder(name).parent
    if not models.is_dir():
        raise NewModelError(f"{models}: not found. Run from the repository's root.")
    if (module := models / f"{name}.py").exists():
        raise NewModelError(f"{name}: {module} is already there. Choose another name.")


def _check_imports(name: str, files: dict[Path, str]) -> None:
    """Is a class called after the model what its own module imports?"""
    for path, text in files.items():
        if path.suffix == ".py" and (twice := set(_classes(text)) & set(_imports(text))):
            raise NewModelError(
                f"{name!r}: its class would be called {twice.pop()}, as one that is there. "
                "Choose another name."
            )


def _classes(code: str) -> Iterator[str]:
    return (node.name for node in ast.parse(code).body if isinstance(node, ast.ClassDef))


def _imports(code: str) -> Iterator[str]:
    found = (node for node in ast.parse(code).body if isinstance(node, ast.ImportFrom))
    return (alias.name for node in found for alias in node.names)


def _with_model(path: Path, name: str) -> str:
    """The text of a params.yaml with the model at the end of two of its blocks.

    Lines are put in and none is written anew, so that every other byte stays.
    """
    expected = ParamsFile.read(path).content
    text = path.read_bytes().decode()  # read_text would change line ends
    for block, template in _PLACES.items():
        if not isinstance(expected, dict) or not isinstance(expected.get(block), dict):
            raise NewModelError(f"{path}: has no {block}. `petct preset cpu` writes one that has.")
        if name in expected[block]:
            raise NewModelError(f"{path}: holds {block}.{name} already. Choose another name.")
        addition = _rendered(template, name)
        if path.name != PARAMS_FILE.name:  # questions are in params.yaml alone
            addition = without_questions(addition)
        expected[block] |= ParamsFile.parse(addition, path).content
        text = _inserted(text, block, addition)
    if not _says(text, expected, path):
        raise NewModelError(
            f"{path}: {' and '.join(_PLACES)} must be blocks of lines indented by two spaces. "
            "`petct preset cpu` writes a file in which they are."
        )
    return text


def _says(text: str, expected: object, path: Path) -> bool:
    try:
        return bool(ParamsFile.parse(text, path).content == expected)
    except ParamsError:
        return False


def _inserted(text: str, block: str, addition: str) -> str:
    """The text with lines after the last indented one of a block at the top level."""
    lines = text.splitlines(keepends=True)
    last = 0
    inside = False
    for number, line in enumerate(lines):
        if line.strip() and line[0] not in " #":
            inside = line.startswith(f"{block}:")
        if inside and line.strip() and line[0] != "#":
            last = number
    # The last line of a file may lack its end.
    lines[last] = lines[last].rstrip("\n") + "\n"
    return "".join([*lines[: last + 1], addition, *lines[last + 1 :]])
