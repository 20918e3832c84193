"""``petct params`` says of each key what it means, takes and reruns, and knows what was meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from petct_uad.cli.app import app
from petct_uad.cli.explain import Key, explain, explained_keys, questions
from petct_uad.schema import load_params

# DVC's own.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def keys() -> dict[str, Key]:
    return {key.path: key for key in explained_keys(ROOT)}


def test_every_key_of_params_yaml_is_explained(keys: dict[str, Key]) -> None:
    sections = load_params(ROOT / "params.yaml").model_dump(by_alias=True)
    for name in ("phantom", "ingest", "split", "preprocess", "train", "evaluate"):
        assert {f"{name}.{key}" for key in sections[name]} <= set(keys)
    assert [key.path for key in keys.values() if "another value" in key.allowed] == []


def test_a_key_says_which_stages_a_change_reruns(keys: dict[str, Key]) -> None:
    assert keys["evaluate.confidence"].reruns == ("evaluate_trivial", "evaluate", "compare")
    assert keys["split.guard_mm"].reruns[:3] == ("split", "preprocess", "validate")
    assert keys["split.guard_mm"].reruns[-1] == "compare"
    assert "register" not in keys["split.guard_mm"].reruns
    assert keys["model.cmpt"].reruns == ("train@cmad", "score@cmad", "evaluate@cmad", "compare")
    assert keys["workers"].reruns == ()


def test_a_question_above_a_key_is_its_meaning() -> None:
    text = "# Whose?\nsplit:\n  # How\n  # far?\n  guard_mm: 5\n  seed: 0\n\n# Lost.\n\nlast: 1\n"
    assert questions(text) == {
        ("split",): "Whose?",
        ("split", "guard_mm"): "How far?",
    }


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def said(*words: str) -> str:
    found = CliRunner().invoke(app, ["params", *words])
    assert found.exit_code == 0, found.output
    return found.stdout


def test_a_key_is_explained_with_meaning_unit_default_and_how_to_change_it() -> None:
    lines = said("split.guard_mm").splitlines()
    assert lines[0] == "split.guard_mm = 5.0 mm"
    assert "excluded, in mm" in lines[1]
    facts = {line[2:22].strip(): line[22:].strip() for line in lines[2:]}
    assert facts["allowed"] == "a number, at least 0, at most 100"
    assert facts["unit"] == "mm"
    assert facts["default"] == "5.0 (preset cpu)"
    assert facts["reruns at most"].startswith("split, preprocess, validate")
    assert facts["to change it"] == "dvc exp run -S split.guard_mm=VALUE"


def test_a_models_key_names_its_paper_and_the_value_there() -> None:
    found = explain("model.heads")
    assert found.paper.startswith("CMAD (Xu et al. 2026)")
    assert found.at_paper_size["paper-cmad"] == 12
    assert found.key.asked_above.startswith("model.width: Token width")


def test_a_key_of_any_schedule_has_the_one_explanation() -> None:
    asked = explain("model.schedule.warmup_iterations").key.meaning
    assert asked
    assert explain("models.qfae.schedule.warmup_iterations").key.meaning == asked


def test_a_section_is_listed_and_rows_of_ones_own_are_a_group() -> None:
    listed = said("split").splitlines()
    assert {line.partition(" ")[0] for line in listed} >= {"split.seed", "split.guard_mm"}
    assert all(line.startswith("split.") for line in listed)
    assert "a group of keys" in said("benchmark")


@pytest.mark.parametrize("misspelt", ["split.gard_mm", "guard_mm", "splt.guard_mm"])
def test_a_misspelt_key_is_answered_with_the_nearest_and_exit_code_1(misspelt: str) -> None:
    found = CliRunner().invoke(app, ["params", misspelt])
    assert found.exit_code == 1
    assert f"{misspelt}: no key of params.yaml. Did you mean 'split.guard_mm'?" in found.stderr


def test_programs_read_one_key_as_an_object_and_several_as_a_list() -> None:
    one = json.loads(said("model.cmpt", "--json"))
    assert (one["key"]["path"], one["default"]) == ("model.cmpt", 8)
    many = json.loads(said("split", "--json"))
    assert {key["path"] for key in many} >= {"split.seed", "split.guard_mm"}


def test_outside_the_repository_it_says_where_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, ["params", "split.guard_mm"])
    assert found.exit_code == 1
    assert "repository's root" in found.stderr
