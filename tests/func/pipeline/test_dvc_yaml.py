"""dvc.yaml says the truth about what each stage reads."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from dvc.stage import PipelineStage

from petct_uad.core.provenance.sources import library_modules
from petct_uad.models.benchmark import model_folder, model_names, params_class
from petct_uad.schema import load_params, schema

ROOT = Path(__file__).resolve().parents[3]
LIBRARY = Path("src/petct_uad")
PARAMS = load_params(ROOT / "params.yaml")
SCHEMA: dict[str, Any] = schema()
# What all stages share, and what the check of params.yaml looks into by folder.
WHOLE = {"params": {LIBRARY / "core", LIBRARY / "models"}}
LOADS_A_MODEL = ("train", "score")


def pipeline_stages() -> list[PipelineStage]:
    with Repo(str(ROOT)) as repo:
        stages = [stage for stage in repo.index.stages if isinstance(stage, PipelineStage)]
    return sorted(stages, key=lambda stage: stage.name)


STAGES = {stage.name: stage for stage in pipeline_stages()}
every_stage = pytest.mark.parametrize("name", STAGES)


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def entry(stage: PipelineStage) -> Path:
    found = re.search(r" (stages/\w+\.py)", str(stage.cmd))
    assert found, f"{stage.name}: runs no stage file: {stage.cmd}"
    return Path(found[1])


def group(name: str) -> str:
    return name.partition("@")[0]


def file_deps(stage: PipelineStage) -> set[Path]:
    return {Path(dep.def_path) for dep in stage.deps if not hasattr(dep, "params")}


def params_keys(stage: PipelineStage) -> set[str]:
    return {key for dep in stage.deps if hasattr(dep, "params") for key in dep.params}


def covered(path: Path, deps: set[Path]) -> bool:
    return any(path.is_relative_to(dep) for dep in deps)


@cache
def modules_of(name: str) -> frozenset[Path]:
    """What a stage file imports, and the model that it loads by name."""
    stage, key = STAGES[name], name.partition("@")[2]
    loads = key and group(name) in LOADS_A_MODEL
    loaded = [model_folder(PARAMS.benchmark[key].model)] if loads else []
    return frozenset(library_modules(entry(stage), *loaded))


@every_stage
def test_deps_cover_every_library_module_that_the_stage_uses(name: str) -> None:
    missing = [x for x in modules_of(name) if not covered(x, file_deps(STAGES[name]))]
    assert not missing, f"{name}: add to deps in dvc.yaml: {sorted(map(str, missing))}"


@every_stage
def test_deps_hold_no_file_that_the_stage_does_not_use(name: str) -> None:
    """Rows of one foreach share their deps, so one row that uses a file is enough."""
    used = {path for other in STAGES if group(other) == group(name) for path in modules_of(other)}
    whole = WHOLE.get(name, {LIBRARY / "core"})
    idle = [
        str(path)
        for dep in file_deps(STAGES[name])
        if dep.is_relative_to(LIBRARY) and dep not in whole
        for path in ([dep] if dep.is_file() else dep.rglob("*.py"))
        if path.name != "__init__.py" and path not in used
    ]
    assert not idle, f"{name}: depends on files that it does not use: {sorted(idle)}"


@pytest.mark.parametrize("model", model_names())
def test_a_change_of_a_model_reruns_it_and_no_other(model: str) -> None:
    """Beside it the check of params.yaml, which takes a second and gives the same bytes."""
    own = {name for name, rows in PARAMS.benchmark.items() if rows.model == model}
    expected = {f"{stage}@{name}" for stage in LOADS_A_MODEL for name in own}
    assert stages_on(model_folder(model) / f"{model}.py") == expected | {"params"}
    # What another stage makes for it, that stage reads too.
    makes = {"distil"} if params_class(model).waits_for == "models/distil" else set()
    teacher = model_folder(model) / "teacher/teacher.py"
    assert not makes or stages_on(teacher) == expected | {"params"} | makes


def test_a_change_of_what_compares_reruns_compare_only() -> None:
    for path in sorted((LIBRARY / "comparison").glob("*.py")):
        assert stages_on(path) == {"compare"}, path


def test_a_change_of_the_report_reruns_compare_only() -> None:
    for path in sorted((LIBRARY / "report").glob("*.py")):
        assert stages_on(path) == {"compare"}, path


def test_a_change_of_a_figure_reruns_what_measures_and_compares() -> None:
    """And no training, and no scoring."""
    found = {group(name) for name in stages_on(LIBRARY / "evaluation/figures.py")}
    assert found == {"evaluate", "evaluate_trivial", "compare"}


@pytest.mark.parametrize("room", ["lineage", "audit", "cli"])
def test_a_better_audit_rebuilds_nothing(room: str) -> None:
    assert all(not stages_on(path) for path in (LIBRARY / room).glob("*.py"))


@pytest.mark.parametrize(
    ("params", "readers"),
    [
        ("phantom/params.py", {"phantom"}),
        ("ingest/params.py", {"ingest"}),
        ("registration/params.py", {"register"}),
        ("split/params.py", {"split"}),
        ("preprocess/params.py", {"preprocess"}),
        ("validation/params.py", {"validate", "compare"}),
        ("teachers/params.py", {"distil", "train", "score"}),
        ("training/params.py", {"distil", "train"}),
        ("evaluation/params.py", {"evaluate", "evaluate_trivial", "compare"}),
        ("schema.py", set()),
    ],
)
def test_a_new_key_of_a_section_reruns_only_what_reads_it(params: str, readers: set[str]) -> None:
    """The report shows the data's checks, whose code knows the bounds that it checks against."""
    assert {group(name) for name in stages_on(LIBRARY / params)} == readers | {"params"}


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


def in_schema(parts: list[str]) -> bool:
    node = SCHEMA
    for part in parts:
        node = node.get("properties", {}).get(part) or node.get("additionalProperties") or {}
        if "$ref" in node:
            node = SCHEMA["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        if not node:
            return False
    return True
