"""Every command on every page: its program, options and keys exist, and some test runs it.

``tests/commands.py`` keeps account of which test runs what; here nothing is run.
"""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
from dvc.cli import parse_args
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps
from typer.main import get_command

from petct_uad.cli.app import app
from petct_uad.schema import load_params
from tests.commands import (
    ELSEWHERE,
    FOLLOWED,
    PARSED_ONLY,
    ROOT,
    RUN,
    Command,
    Shown,
    commands,
    commands_of,
    shown,
    shown_of,
)

ALL = commands()
each_command = pytest.mark.parametrize("command", ALL, ids=lambda x: f"{x.page}: {x.text}")
PETCT = get_command(app)
MADE = "my_idea"  # the model that docs/your_model.md makes
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def parse_petct(words: list[str]) -> None:
    """Down to the command that would run, without running it."""
    command: Any = PETCT
    context = None
    while True:
        context = command.make_context(command.name or "petct", words, parent=context)
        if not hasattr(command, "commands"):
            return
        rest = [*context._protected_args, *context.args]
        if not rest and command.invoke_without_command:
            return
        _, command, words = command.resolve_command(context, rest)


def is_a_name(command: Command) -> bool:
    """A sentence that speaks of a command by its name, such as `petct lineage impact --withdraw`,
    without what it needs."""
    program, *words = command.text.split()
    if program == "dvc":
        return command.inline and len(words) == 1
    found: Any = PETCT if program == "petct" else None
    while words and hasattr(found, "commands") and not words[0].startswith("-"):
        found = found.commands.get(words.pop(0))
    if found is None or not command.inline:
        return False
    options = {option for param in found.params for option in param.opts}
    return options.issuperset(words)


def parse_dvc(words: list[str], folder: Path) -> None:
    """And where it sets params, that params.yaml takes them."""
    asked = to_path_overrides(getattr(parse_args(words), "set_param", None) or [])
    for sweep in get_hydra_sweeps(asked) if asked else []:
        path = folder / "params.yaml"
        shutil.copy(ROOT / "params.yaml", path)
        apply_overrides(path, next(iter(sweep.values())))
        load_params(path)


def parse_pip(words: list[str]) -> None:
    for extra in re.findall(r"\.\[(\w+)\]", " ".join(words)):
        assert extra in PROJECT["optional-dependencies"]


def parse_python(words: list[str]) -> None:
    """A file that exists, or a module of ours."""
    if words[0] != "-m":
        assert (ROOT / words[0]).is_file()
    elif words[1].startswith("docs."):
        assert (ROOT / f"{words[1].replace('.', '/')}.py").is_file()


@each_command
def test_program_options_and_keys_exist(command: Command, tmp_path: Path) -> None:
    text = re.sub(r"\.\.\.|\s&$", "", command.text)
    program, *words = [word for word in shlex.split(text) if not re.match(r"[A-Z_]+=", word)]
    followed = command.page in FOLLOWED and not command.inline  # its own test parses and runs it
    spoken_of = command.inline and not any(word.startswith("-") for word in words)
    synopsis = command.inline and re.search(r"[\[|]", text)
    if (
        synopsis
        or is_a_name(command)
        or (program == "dvc" and (followed or spoken_of or command.has_blanks or MADE in text))
    ):
        return
    if program == "petct":
        parse_petct(["1" if word == "N" else word for word in words])
    elif program == "dvc":
        parse_dvc(words, tmp_path)
    elif program == "make":
        assert re.search(rf"^{words[0]}:", MAKEFILE, re.MULTILINE)
    elif program == "pip":
        parse_pip(words)
    elif program == "python":
        parse_python(words)
    else:
        assert shutil.which(program) or program in {"dask", "petct"}


@each_command
def test_a_test_runs_it_or_a_reason_is_given(command: Command) -> None:
    known = command.text in RUN or command.text in ELSEWHERE
    followed = command.page in FOLLOWED and not command.inline
    excused = any(command.text.startswith(start) for start in PARSED_ONLY)
    assert known or followed or excused or command.has_blanks or is_a_name(command), (
        f"{command.page}: {command.text}: add it to RUN, ELSEWHERE or PARSED_ONLY of "
        "tests/commands.py"
    )


@pytest.mark.parametrize("item", shown(), ids=lambda x: f"{x.page}: {x.command}")
def test_what_a_page_shows_is_compared_by_a_test(item: Shown) -> None:
    assert item.page in FOLLOWED or item.command in RUN


def test_no_account_is_kept_of_what_no_page_says() -> None:
    said = {command.text for command in ALL}
    assert sorted({*RUN, *ELSEWHERE} - said) == []
    starts = [x for x in PARSED_ONLY if not any(text.startswith(x) for text in said)]
    assert starts == []


@pytest.mark.parametrize("path", sorted({*ELSEWHERE.values(), *FOLLOWED.values()}))
def test_a_test_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).is_file()


def test_commands_of_a_page_are_found_in_fences_and_sentences() -> None:
    page = (
        "Type `petct preset NAME` or `no command`.\n\n```\npetct cache  # what\ndvc repro && \\\n"
        "  dvc status\n```\n\n```text\npetct not this\n```\n"
    )
    found = list(commands_of("x.md", page))
    assert [command.text for command in found] == [
        "petct cache",
        "dvc repro",
        "dvc status",
        "petct preset NAME",
    ]
    assert [command.has_blanks for command in found] == [False, False, False, True]


def test_shown_lines_are_whole_and_in_their_order() -> None:
    page = "```\npetct cache\npetct doctor\n```\n\n```text\nfirst ... of\nlast\n```\n"
    (found,) = shown_of("x.md", page)
    assert found == Shown("x.md", "petct doctor", ("first ... of", "last"))
    assert found.is_in("first 7 of\nlast\n")
    assert found.is_in("before\nfirst 7 of\nbetween\nlast\nafter\n")
    assert not found.is_in("last\nfirst 7 of\n")
    assert not found.is_in("first 7 of\nthe last\n")
    assert list(shown_of("x.md", "```yaml\na: 1\n```\n\n```text\na formula\n```\n")) == []
