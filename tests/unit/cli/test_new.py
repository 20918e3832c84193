"""`petct new model` writes a model that the house takes in, or nothing at all."""

from __future__ import annotations

import difflib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from petct_uad.cli.app import app
from petct_uad.cli.new import RESERVED, write_model
from petct_uad.core.errors import NewModelError, PetctError

ROOT = Path(__file__).resolve().parents[3]
MODELS = Path("src/petct_uad/models")
CODE = (
    MODELS / "my_idea/__init__.py",
    MODELS / "my_idea/params.py",
    MODELS / "my_idea/my_idea.py",
    Path("tests/unit/models/test_my_idea.py"),
)
PARAMS = (Path("params.yaml"), Path("params/cpu.yaml"))
NO_CODE = shutil.ignore_patterns("__pycache__", "data", "*.png", "*.dcm")
# Before and after what the templates import from, and as long as a name may be.
NAMES = ("my_idea", "an_idea", "zz9", "a_name_of_23_characters")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """What the command looks at."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "params", tmp_path / "params")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    taken = [MODELS / "stfpm/params.py", MODELS / "common/maps.py", MODELS / "build.py"]
    for path in [*taken, Path("tests/unit/models/test_baselines.py")]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def content(path: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = YAML(typ="safe", pure=True).load(path.read_text())
    return found


def test_a_model_is_its_folder_its_test_its_section_and_its_row(repository: Path) -> None:
    before = files(repository)
    written = {path.as_posix() for path in write_model("my_idea", repository)}
    after = files(repository)
    assert {path for path in after if after[path] != before.get(path)} == written
    new = {path.as_posix() for path in (*CODE, MODELS / "my_idea/README.md")}
    assert after.keys() - before.keys() == new
    assert written - new == {path.as_posix() for path in PARAMS}


@pytest.mark.parametrize("path", PARAMS, ids=str)
def test_every_other_byte_of_params_stays(repository: Path, path: Path) -> None:
    before = (repository / path).read_text().splitlines(keepends=True)
    old = content(repository / path)
    write_model("my_idea", repository)
    after = (repository / path).read_text().splitlines(keepends=True)
    changes = {
        kind for kind, *_ in difflib.SequenceMatcher(None, before, after, False).get_opcodes()
    }
    assert changes == {"equal", "insert"}
    new = content(repository / path)
    row = new["benchmark"].pop("my_idea")
    assert row == {
        "model": "my_idea",
        "modalities": ["pet", "ct", "petct"],
        "params": "models.my_idea",
        "teacher": "teacher",
        "after": "data/validation.passed",
    }
    assert new["models"].pop("my_idea")
    assert new == old


@pytest.mark.parametrize(
    "text",
    [
        "benchmark:\n  a: {b: c}\n# of models\nmodels:\n  a:\n    b: c\n    # the end\n",
        "models:\n  a:\n    b: c\n\n# of the rows\nbenchmark:\n  a:\n    b: c",
        "models:\n  a: {b: c}\n\nbenchmark: # rows\n  # one\n  a: {b: c}\n\n\nlast: 1\n",
    ],
    ids=["models last", "no line end", "something after"],
)
def test_section_and_row_go_to_the_end_of_their_blocks(repository: Path, text: str) -> None:
    path = repository / "params.yaml"
    path.write_text(text)
    write_model("my_idea", repository)
    assert list(content(path)["models"]) == ["a", "my_idea"]
    assert list(content(path)["benchmark"]) == ["a", "my_idea"]
    kept = [line for line in path.read_text().splitlines() if line in text.splitlines()]
    assert [line for line in kept if line.startswith("#")] == [
        line for line in text.splitlines() if line.startswith("#")
    ]


def test_windows_line_ends_stay(repository: Path) -> None:
    path = repository / "params.yaml"
    text = path.read_bytes().replace(b"\n", b"\r\n")
    path.write_bytes(text)
    write_model("my_idea", repository)
    assert path.read_bytes().count(b"\r\n") == text.count(b"\r\n")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("MyIdea", "lower_snake_case"),
        ("my-idea", "lower_snake_case"),
        ("my__idea", "lower_snake_case"),
        ("2_ideas", "lower_snake_case"),
        ("../idea", "lower_snake_case"),
        ("", "lower_snake_case"),
        ("an_idea_that_is_far_too_long", "at most 23 characters"),
        ("lambda", "word of Python"),
        ("stfpm", "models/stfpm is already there"),
        ("common", "models/common is already there"),
        ("build", "build.py is already there"),
        ("baselines", "test_baselines.py is already there"),
        ("rd4ad", "holds models.rd4ad already"),
        ("gradient", "its class would be called GradientParams"),
        ("batch", "its class would be called Batch"),
        ("cnn_teacher", "its class would be called CnnTeacher"),
        *((name, "calls something else") for name in RESERVED),
    ],
)
def test_a_name_that_will_not_do_is_refused_and_nothing_is_written(
    repository: Path, name: str, reason: str
) -> None:
    before = files(repository)
    with pytest.raises(NewModelError, match=reason):
        write_model(name, repository)
    assert files(repository) == before


@pytest.mark.parametrize(
    "text",
    [
        "models: {a: {b: c}}\nbenchmark:\n  a: {b: c}\n",
        "models:\n    a: {b: c}\nbenchmark:\n  a: {b: c}\n",
        "models:\n  a: {b: c}\n",
        "models:\n  a: {b: c}\nbenchmark:\n",
        "models: [\n",
        "- 1\n",
    ],
    ids=["flow", "indented by four", "no rows", "empty", "no YAML", "a list"],
)
@pytest.mark.parametrize("path", PARAMS, ids=str)
def test_a_params_file_that_it_cannot_extend_is_refused_and_nothing_is_written(
    repository: Path, path: Path, text: str
) -> None:
    (repository / path).write_text(text)
    before = files(repository)
    with pytest.raises(PetctError, match="params"):
        write_model("my_idea", repository)
    assert files(repository) == before


def test_outside_the_repository_it_says_where_to_go(tmp_path: Path) -> None:
    with pytest.raises(NewModelError, match="Run from the repository's root"):
        write_model("my_idea", tmp_path)
    assert files(tmp_path) == {}


def test_names_of_stages_outputs_are_reserved() -> None:
    """Two stages of dvc.yaml may not have the same output."""
    stages = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text())["stages"]
    each = {name: stage for name, stage in stages.items() if "foreach" in stage}
    places = {path for stage in each.values() for path in outputs(stage["do"])}
    own = {path for name, stage in stages.items() if name not in each for path in outputs(stage)}
    ends = {place.partition("${key}")[0] for place in places if place.endswith("${key}")}
    clashes = {path.removeprefix(end) for path in own for end in ends if path.startswith(end)}
    assert {name for name in clashes if "/" not in name and "." not in name} <= set(RESERVED)
    assert clashes


def outputs(stage: dict[str, list[str | dict[str, object]]]) -> set[str]:
    listed = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in listed}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_clean(repository: Path, name: str) -> None:
    """By the rules of pyproject.toml; mypy looks at it in tests/e2e/test_new_model.py."""
    for folder in ("src", "tests"):  # by which ruff knows what is ours
        shutil.copytree(ROOT / folder, repository / folder, ignore=NO_CODE, dirs_exist_ok=True)
    written = [str(path) for path in write_model(name, repository) if path.suffix == ".py"]
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", *written]
        done = subprocess.run(ruff, cwd=repository, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_the_command_says_what_it_wrote_and_what_to_do_next(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    done = CliRunner().invoke(app, ["new", "model", "my_idea"])
    assert done.exit_code == 0, done.output
    assert all(path.as_posix() in done.output for path in (*CODE, *PARAMS))
    assert "python -m pytest tests/unit/models/test_my_idea.py" in done.output
    assert "dvc repro compare" in done.output


def test_the_command_fails_with_a_message_and_no_traceback(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    done = CliRunner().invoke(app, ["new", "model", "stfpm"])
    assert done.exit_code == 1
    assert "Choose another name" in " ".join(done.output.split())
    assert "Traceback" not in done.output
