"""The rooms of the house: what may import what, and who names whom."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from petct_uad.models.benchmark import model_names, params_class, sections_of

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "src/petct_uad"
# In the order of the pipeline: each room imports only from those before it, and from itself.
ROOMS = (
    "core",
    "phantom",
    "ingest",
    "volumes",
    "registration",
    "slices",
    "split",
    "preprocess",
    "validation",
    "teachers",
    "ops",
    "models/common",
    "models/benchmark.py",
    "models/build.py",
    "models/with_teacher.py",
    "models",
    "training",
    "distil",
    "scoring",
    "evaluation",
    "schema.py",
    "comparison",
    "report",
    "viewer",
    "cohorts",
    "lineage",
    "audit",
    "cli",
)


def modules() -> list[Path]:
    return sorted(path.relative_to(LIBRARY) for path in LIBRARY.rglob("*.py"))


def room_of(module: Path) -> int:
    """The most particular room that holds a module, as its place in the order."""
    within = [room for room in ROOMS if module.is_relative_to(room)]
    assert within, f"{module} lies in no room; ROOMS above names them in their order"
    return ROOMS.index(max(within, key=len))


def imported(module: Path) -> Iterator[Path]:
    tree = ast.parse((LIBRARY / module).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            path = Path(rest.replace(".", "/") + ".py")
            if package == "petct_uad" and (LIBRARY / path).is_file():
                yield path


IMPORTS = {module: set(imported(module)) for module in modules()}


def test_every_room_is_there() -> None:
    assert [room for room in ROOMS if not (LIBRARY / room).exists()] == []


def test_imports_go_one_way() -> None:
    upward = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in others
        if room_of(other) > room_of(module)
    ]
    assert upward == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    left = dict(IMPORTS)
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]
    assert sorted(map(str, left)) == []


def test_no_model_imports_another() -> None:
    crossed = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in others
        if len(module.parts) > 2 and len(other.parts) > 2
        if module.parts[0] == other.parts[0] == "models"
        if other.parts[1] not in ("common", module.parts[1])
        if module.parts[1] != "common"
    ]
    assert crossed == []


@pytest.mark.parametrize("path", sorted(LIBRARY.rglob("__init__.py")), ids=str)
def test_a_packages_face_is_a_docstring_and_nothing_else(path: Path) -> None:
    """So no stage needs to depend on it."""
    (only,) = ast.parse(path.read_text(encoding="utf-8")).body
    assert isinstance(only, ast.Expr)
    assert isinstance(only.value, ast.Constant)


@pytest.mark.parametrize("model", model_names())
def test_a_model_is_named_by_its_own_folder_alone(model: str) -> None:
    """The whole params.yaml knows two of them by their sections; distil is the stage of one."""
    schema = Path("schema.py")
    allowed = {"cmad": {schema}, "hdhkd": {schema, Path("distil/run.py")}}
    naming = {
        module
        for module in modules()
        if not module.is_relative_to(f"models/{model}")
        and names_model((LIBRARY / module).read_text(encoding="utf-8"), model)
    }
    assert naming - allowed.get(model, set()) == set()


def names_model(text: str, model: str) -> bool:
    """Does code import a model's modules, or hold its name as a string, protocols apart?"""
    imports = re.search(rf"petct_uad\.models\.{model}\b", text)
    if model == "cmad":  # as a string it is a protocol, which core.params.base defines
        return bool(imports)
    return bool(imports or re.search(rf"""["'](models\.)?{model}["']""", text))


@pytest.mark.parametrize("model", model_names())
def test_a_model_has_a_page_and_says_what_the_house_must_know(model: str) -> None:
    assert (LIBRARY / "models" / model / "README.md").is_file()
    assert params_class(model).waits_for in ("data/validation.passed", "models/distil")
    assert all(key == "model" or key.startswith("models.") for key in sections_of(model))


@pytest.mark.parametrize("path", sorted((ROOT / "stages").glob("*.py")), ids=lambda p: p.name)
def test_a_stage_file_is_short_and_calls_the_library(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60
