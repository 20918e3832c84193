"""Reference pages from the code itself: params, commands, figures of merit, tables, errors.

Each function takes the repository's root and gives Markdown. Nothing here reads data or results, so
a page changes only where the code, params.yaml or dvc.yaml does.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from typer import Context
from typer.cli import get_docs_for_click
from typer.main import get_command

import petct_uad
from petct_uad.cli.app import app
from petct_uad.cli.explain import Key, explained_keys, questions
from petct_uad.comparison.markdown import markdown_table
from petct_uad.core import errors
from petct_uad.core.params.reading import PARAMS_FILE
from petct_uad.evaluation.figures import FIGURES, Figure


def params_page(root: Path) -> str:
    """Every key of params.yaml: its value, what is allowed, what it means, what it reruns."""
    keys = list(explained_keys(root))
    asked = questions((root / PARAMS_FILE).read_text(encoding="utf-8"))
    text = [
        "# Params",
        "Every key of `params.yaml` as it is committed. *Allowed* is what the first stage checks "
        "within a second. A change reruns at most the stages that are named: a stage whose inputs "
        "come out with the same bytes is left out. Set one with `dvc exp run -S split.guard_mm=8`.",
    ]
    for section in dict.fromkeys(key.section for key in keys):
        text += [f"## {section or 'At the top'}", asked.get(tuple(section.split(".")), "")]
        inside = [key for key in keys if key.section == section]
        for reruns in dict.fromkeys(key.reruns for key in inside):
            rows = [_cells(key) for key in inside if key.reruns == reruns]
            text += [_reruns(reruns), markdown_table(("key", "value", "allowed", "meaning"), rows)]
    return _joined(text)


def _cells(key: Key) -> tuple[str, str, str, str]:
    inside = key.path.removeprefix(f"{key.section}.")
    value = json.dumps(key.value).strip('"')
    shown = "" if isinstance(key.value, dict) else f"`{value}`"
    return f"`{inside}`", shown, key.allowed.replace("'", "`"), key.meaning


def _reruns(stages: tuple[str, ...]) -> str:
    if not stages:
        return "Reruns nothing."
    return "Reruns at most: " + ", ".join(f"`{name}`" for name in stages) + "."


def commands_page(root: Path) -> str:
    """Every command of ``petct``, as Typer documents it."""
    command = get_command(app)
    return get_docs_for_click(obj=command, ctx=Context(command), name="petct")


def figures_page(root: Path) -> str:
    """Every figure of merit, from its declaration."""
    header = ("key", "figure", "interval", "threshold", "tables for people")
    return _joined(
        [
            "# Figures of merit",
            "Declared once, in `evaluation/figures.py`. The *key* names it in `metrics.json` and "
            "`summary.csv`; `_low` and `_high` are its interval over patients, `_deviation` its "
            "standard deviation over training seeds. How each is computed and tested is in "
            "[Protocol and statistics](../protocol.md#figures).",
            markdown_table(header, [_figure(figure) for figure in FIGURES]),
        ]
    )


def _figure(figure: Figure) -> tuple[str, ...]:
    return (
        f"`{figure.name}`",
        figure.title,
        "yes" if figure.of_draws else "",
        figure.threshold,
        "yes" if figure.for_people else "",
    )


def tables_page(root: Path) -> str:
    """Every row of a table that a stage writes, from its dataclass."""
    text = [
        "# Tables and columns",
        "The fields of each frozen dataclass are the columns of its CSV, in this order. Which "
        "stage writes which file is in [Files between stages](../contracts.md).",
    ]
    for kind in _rows():
        text += [
            f"## {kind.__name__}",
            f"`{kind.__module__}`",
            inspect.cleandoc(kind.__doc__ or "").replace("``", "`"),
            markdown_table(("column", "type", "what"), list(_columns(kind))),
        ]
    return _joined(text)


def _rows() -> Iterator[type[Any]]:
    modules = pkgutil.walk_packages(petct_uad.__path__, "petct_uad.")
    for name in (module.name for module in modules if module.name.endswith(".tables")):
        for kind in vars(import_module(name)).values():
            if dataclasses.is_dataclass(kind) and kind.__module__ == name:
                assert isinstance(kind, type)
                yield kind


def _columns(kind: type[Any]) -> Iterator[tuple[str, str, str]]:
    """Each field with the comment at its end."""
    said = dict(re.findall(r"^    (\w+): [^#\n]*# (.*)$", inspect.getsource(kind), re.MULTILINE))
    for field in dataclasses.fields(kind):
        yield f"`{field.name}`", f"`{field.type}`".replace("|", "or"), said.get(field.name, "")


def errors_page(root: Path) -> str:
    """The tree of every deliberate failure, as the code draws it."""
    _, _, tree = inspect.cleandoc(errors.__doc__ or "").partition("\n\n")
    drawn, _, codes = tree.partition("\n\n")
    return _joined(
        [
            "# Errors",
            "Every failure that the code raises on purpose. Each names the file or tag, what was "
            "found, what was expected and what to do. Refused inputs are in "
            "[Refusals](../rejections.md).",
            f"```text\n{drawn}\n```",
            codes,
        ]
    )


def _joined(parts: list[str]) -> str:
    return "\n\n".join(part.rstrip() for part in parts if part) + "\n"


PAGES: Mapping[str, Callable[[Path], str]] = {
    "params": params_page,
    "commands": commands_page,
    "figures": figures_page,
    "tables": tables_page,
    "errors": errors_page,
}
