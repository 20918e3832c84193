"""dvc.yaml says the truth about what each stage reads."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
from dvc.repo import Repo
from dvc.stage import PipelineStage

from petct_uad.core.provenance.sources import library_modules, other_models
from petct_uad.models.benchmark import ModelName
from petct_uad.schema import load_params, schema

ROOT = Path(__file__).resolve().parents[3]
LIBRARY = Path("src/petct_uad")
PARAMS = load_params(ROOT / "params.yaml")
SCHEMA: dict[str, Any] = schema()


def pipeline_stages() -> list[PipelineStage]:
    with Repo(str(ROOT)) as repo:
        stages = [stage for stage in repo.index.stages if isinstance(stage, PipelineStage)]
    return sorted(stages, key=lambda stage: stage.addressing)


STAGES = {stage.addressing: stage for stage in pipeline_stages()}
every_stage = pytest.mark.parametrize("name", STAGES)


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def entry(stage: PipelineStage) -> Path:
    found = re.search(r" (stages/\w+\.py)", str(stage.cmd))
    assert found, f"{stage.addressing}: runs no stage file: {stage.cmd}"
    return Path(found[1])


def file_deps(stage: PipelineStage) -> set[Path]:
    return {Path(dep.def_path) for dep in stage.deps if not hasattr(dep, "params")}


def params_keys(stage: PipelineStage) -> set[str]:
    return {key for dep in stage.deps if hasattr(dep, "params") for key in dep.params}


def skipped_models(stage: PipelineStage) -> tuple[Path, ...]:
    family = stage.addressing.partition("@")[2]
    return other_models(PARAMS.benchmark[family].model) if family else ()


def covered(path: Path, deps: set[Path]) -> bool:
    return any(path.is_relative_to(dep) for dep in deps)


@every_stage
def test_deps_cover_every_library_module_that_the_stage_imports(name: str) -> None:
    stage = STAGES[name]
    missing = [path for path in modules_of(stage) if not covered(path, file_deps(stage))]
    assert not missing, f"{name}: add to deps in dvc.yaml: {[str(path) for path in missing]}"


@every_stage
def test_deps_name_no_library_module_that_the_stage_does_not_import(name: str) -> None:
    """Rows of one foreach share their deps, so one row that imports a module is enough."""
    group = name.partition("@")[0]
    stages = [stage for other, stage in STAGES.items() if other.partition("@")[0] == group]
    modules = {path for stage in stages for path in modules_of(stage)}
    idle = [
        dep
        for dep in file_deps(STAGES[name])
        if dep.is_relative_to("src") and not any(path.is_relative_to(dep) for path in modules)
    ]
    assert not idle, f"{name}: deps that nothing imports: {idle}"


@cache
def modules_of(stage: PipelineStage) -> tuple[Path, ...]:
    return tuple(library_modules(entry(stage), skipped_models(stage)))


@pytest.mark.parametrize("model", get_args(ModelName))
def test_a_new_key_of_one_model_reruns_no_data_stage_and_no_other_model(model: str) -> None:
    own = {name for name, family in PARAMS.benchmark.items() if family.model == model}
    expected = {f"{stage}@{name}" for stage in ("train", "evaluate") for name in own}
    # Its teacher's section lies beside its own; compare shows the proposed model's.
    expected |= {"hdhkd": {"distil"}, "cmad": {"compare"}}.get(model, set())
    assert stages_on(LIBRARY / "models" / model / "params.py") == expected | {"params"}


@pytest.mark.parametrize(
    ("section", "readers"),
    [
        ("phantom", {"phantom"}),
        ("ingest", {"ingest"}),
        ("register", {"register", "validate", "compare"}),
        ("split", {"split", "validate", "compare"}),
        ("preprocess", {"preprocess"}),
        ("validate", {"validate", "compare"}),
        ("teacher", {"distil", "train", "evaluate"}),
        ("train", {"distil", "train"}),
        ("evaluate", {"evaluate", "evaluate_trivial", "compare"}),
        ("whole", set()),
    ],
)
def test_a_new_key_of_a_section_reruns_only_what_reads_it(section: str, readers: set[str]) -> None:
    """The report shows the data's checks, whose code knows the sections that it checks against."""
    found = {name.partition("@")[0] for name in stages_on(LIBRARY / f"params/{section}.py")}
    assert found == readers | {"params"}


def test_data_stages_wait_for_the_check_of_params_but_not_for_what_the_schema_says() -> None:
    assert stages_on(Path("data/params.checked")) == {"phantom", "ingest"}
    assert not stages_on(Path("data/params.schema.json"))


def test_more_processes_rerun_no_stage() -> None:
    """They change no byte, as the tests of each data stage show."""
    assert {name for name, stage in STAGES.items() if "workers" in params_keys(stage)} == set()


def stages_on(path: Path) -> set[str]:
    return {name for name, stage in STAGES.items() if covered(path, file_deps(stage))}


@every_stage
def test_stage_depends_on_its_own_file_and_says_what_it_does(name: str) -> None:
    stage = STAGES[name]
    assert entry(stage) in file_deps(stage)
    assert stage.desc


@every_stage
def test_params_keys_exist_in_the_schema(name: str) -> None:
    unknown = [key for key in params_keys(STAGES[name]) if not in_schema(key.split("."))]
    assert not unknown, f"{name}: params keys without a place in the schema: {unknown}"


@every_stage
def test_params_keys_are_those_that_the_stage_reads(name: str) -> None:
    stage = STAGES[name]
    read = set(keys_read(entry(stage)))
    if family := stage.addressing.partition("@")[2]:
        read = {key.replace("*", family) for key in read if belongs_to_family(key, family)}
    read.discard("workers")
    declared = params_keys(stage)
    undeclared = [key for key in read if not any(related(key, other) for other in declared)]
    unread = [key for key in declared if not any(related(key, other) for other in read)]
    assert not undeclared, f"{name}: read but not declared: {undeclared}"
    assert not unread, f"{name}: declared but not read: {unread}"


def belongs_to_family(key: str, family: str) -> bool:
    """Of the keys that a stage file may read, those that this item of the foreach does."""
    first = key.split(".", maxsplit=1)[0]
    asked = PARAMS.benchmark[family].params
    return related(key, asked) if first in ("model", "models") else True


def related(key: str, other: str) -> bool:
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def in_schema(parts: list[str]) -> bool:
    node = SCHEMA
    for part in parts:
        node = node.get("properties", {}).get(part) or node.get("additionalProperties") or {}
        if "$ref" in node:
            node = SCHEMA["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        if not node:
            return False
    return True


def keys_read(stage_file: Path) -> Iterator[str]:
    """Dotted keys that a stage takes: ``params.dataset``, sections, or only some of their keys."""
    tree = ast.parse(stage_file.read_text())
    sections = {
        node.targets[0].id: list(keys_asked(node.value.args[1]))
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and is_section(node.value)
    }
    sections["params"] = [""]
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if id(node) in inner or not isinstance(getattr(node, "ctx", None), ast.Load):
            continue
        variable, *attributes = attribute_chain(node) or [""]
        for key in sections.get(variable, ()):
            if known := longest_known([*filter(None, key.split(".")), *attributes]):
                yield ".".join(known)


def is_section(value: ast.expr) -> bool:
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and value.func.attr == "section"
    )


def keys_asked(argument: ast.expr) -> Iterator[str]:
    """Of the second argument of ``ParamsFile.section``."""
    if isinstance(argument, ast.Constant):
        yield argument.value
    elif isinstance(argument, ast.JoinedStr):  # f"benchmark.{name}"
        yield f"{argument.values[0].value}*"
    else:  # family.params
        assert attribute_chain(argument) == ["family", "params"]
        yield from ("model", "models")


def attribute_chain(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        base = attribute_chain(node.value)
        return [*base, node.attr] if base else []
    return []


def longest_known(parts: list[str]) -> list[str]:
    while parts and not in_schema(parts):
        parts = parts[:-1]
    return parts
