"""docs/first_run.md: what it says that `petct validate` and the tables say, they say."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.commands import commands_of, shown_of
from tests.e2e.conftest import ROOT, Clone, copy_of

pytestmark = pytest.mark.e2e

NAME = "docs/first_run.md"
PAGE = (ROOT / NAME).read_text(encoding="utf-8")
COMMANDS = [command.text for command in commands_of(NAME, PAGE) if not command.inline]


@pytest.fixture(scope="module")
def typed(
    built: Clone, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, subprocess.CompletedProcess[str]]:
    """What each command of the page gave, in a copy of the smoke clone."""
    clone = copy_of(built, tmp_path_factory.mktemp("first_run") / "repository")
    return {command: type_in(clone, command) for command in COMMANDS}


def type_in(clone: Clone, command: str) -> subprocess.CompletedProcess[str]:
    """As a person does; the environment is that of the other tests of whole pipelines."""
    setting = 'export PYTHONPATH=src; petct() { python -m petct_uad.cli.app "$@"; }'
    return clone.run("sh", "-c", f"{setting}; {command}; echo status $?")


def test_every_command_ends_well_but_the_one_that_finds_faults(
    typed: dict[str, subprocess.CompletedProcess[str]],
) -> None:
    failed = [command for command, done in typed.items() if "status 0" not in done.stdout]
    assert failed == ["petct validate ../export"]
    assert "status 1" in typed[failed[0]].stdout


def test_an_ablation_reruns_what_the_page_says(
    typed: dict[str, subprocess.CompletedProcess[str]],
) -> None:
    printed = typed["dvc exp run -S model.cmpt=4 evaluate@cmad"].stdout
    ran = set(
        re.findall(r"^(?:Running s|S)tage '([^']+)'(?::| is cached)", printed, flags=re.MULTILINE)
    )
    assert ran == {"params", "train@cmad", "score@cmad", "evaluate@cmad"}


def test_what_is_shown_is_what_is_printed(
    typed: dict[str, subprocess.CompletedProcess[str]],
) -> None:
    found = list(shown_of(NAME, PAGE))
    assert len(found) >= 2
    assert [item for item in found if not item.is_in(typed[item.command].stdout)] == []
