"""docs/your_model.md, done as it says: from a name to a row in the report."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess

import pytest

from tests.e2e.conftest import ROOT, Clone, copy_of

pytestmark = pytest.mark.e2e

PAGE = (ROOT / "docs/your_model.md").read_text(encoding="utf-8")
NAME = "my_idea"
ROWS = {f"{NAME}-{modality}" for modality in ("pet", "ct", "petct")}
OWN = {"params", f"train@{NAME}", f"score@{NAME}", f"evaluate@{NAME}"}


def commands() -> list[str]:
    """What the page tells a person to type, in its order."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def type_in(clone: Clone, command: str) -> str:
    """As a person does whose environment is this clone's own: `petct` is of its package."""
    setting = 'export PYTHONPATH=src; petct() { python -m petct_uad.cli.app "$@"; }'
    return clone.run("sh", "-c", f"{setting}; {command}").stdout


@pytest.fixture(scope="module")
def typed(built: Clone, tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, dict[str, str]]:
    """A copy of the smoke clone after all that the page says, and what each command printed."""
    clone = copy_of(built, tmp_path_factory.mktemp("your_model") / "repository")
    return clone, {command: type_in(clone, command) for command in commands()}


def test_the_page_goes_from_a_name_to_the_report() -> None:
    assert commands() == [
        f"petct new model {NAME}",
        f"python -m pytest tests/unit/models/test_{NAME}.py",
        "dvc status",
        f"dvc repro evaluate@{NAME}",
        "dvc repro",
        f"grep {NAME} metrics/summary.md",
    ]


def test_what_is_written_passes_its_own_test(typed: tuple[Clone, dict[str, str]]) -> None:
    _, printed = typed
    assert re.search(r"\d+ passed", printed[f"python -m pytest tests/unit/models/test_{NAME}.py"])


def test_a_new_model_reruns_what_is_new_and_the_comparison(
    typed: tuple[Clone, dict[str, str]],
) -> None:
    clone, printed = typed
    announced = set(re.findall(r"^(\S+):$", printed["dvc status"], flags=re.MULTILINE))
    assert announced == OWN | {"compare"}
    assert clone.stages_run(printed[f"dvc repro evaluate@{NAME}"]) == OWN
    assert clone.stages_run(printed["dvc repro"]) == {"compare"}
    assert all(f"`{stage}`" in PAGE for stage in announced)


def test_its_rows_are_in_the_table_and_in_the_report(typed: tuple[Clone, dict[str, str]]) -> None:
    clone, printed = typed
    with (clone.root / "metrics/summary.csv").open(encoding="utf-8", newline="") as stream:
        auroc = {row["run"]: row["auroc"] for row in csv.DictReader(stream)}
    assert {run for run in auroc if run.startswith(NAME)} == ROWS
    assert all(0 <= float(auroc[run]) <= 1 for run in ROWS)
    report = (clone.root / "reports/index.html").read_text(encoding="utf-8")
    assert all(run in report for run in ROWS)
    assert all(run in printed[f"grep {NAME} metrics/summary.md"] for run in ROWS)


def test_the_house_takes_it_as_one_of_its_own(typed: tuple[Clone, dict[str, str]]) -> None:
    """What `make lint` and the tests of the house ask of any model."""
    clone, _ = typed
    known = ROOT / ".mypy_cache"  # of `make lint`: torch is not read again
    if known.is_dir():
        shutil.copytree(known, clone.root / known.name)
    type_in(clone, "ruff check && ruff format --check")
    type_in(clone, f"mypy src/petct_uad/models/{NAME}")
    house = "tests/unit/test_house.py tests/unit/models/test_sections.py"
    type_in(clone, f"python -m pytest -q {house} -k '{NAME} or declare'")


def test_every_file_that_the_page_names_is_there(typed: tuple[Clone, dict[str, str]]) -> None:
    clone, _ = typed
    named = set(re.findall(r"`((?:src|tests|params|metrics|docs)[\w/]*/[\w/.]+)`", PAGE))
    assert f"src/petct_uad/models/{NAME}/params.py" in named
    assert {path for path in named if not (clone.root / path).exists()} == set()


def test_a_second_time_it_is_refused_and_nothing_changes(
    typed: tuple[Clone, dict[str, str]],
) -> None:
    clone, _ = typed
    before = clone.run("git", "diff").stdout
    with pytest.raises(AssertionError, match="already there"):
        type_in(clone, f"petct new model {NAME}")
    assert clone.run("git", "diff").stdout == before


def test_the_page_is_what_the_readme_leads_to() -> None:
    tracked = subprocess.run(
        ["git", "grep", "-l", "docs/your_model.md", "--", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert {"README.md", "CONTRIBUTING.md"} <= set(tracked)
