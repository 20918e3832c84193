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
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import networkx
from dvc.repo import Repo
from ruamel.yaml import YAML
from typer import Context
from typer.cli import get_docs_for_click
from typer.main import get_command

import petct_uad
from petct_uad.cli.app import app
from petct_uad.comparison.markdown import markdown_table
from petct_uad.core import errors
from petct_uad.core.params.reading import PARAMS_FILE, allowed_in_words, schema_node
from petct_uad.evaluation.figures import FIGURES, Figure
from petct_uad.schema import schema

_COMMENT = re.compile(r"^( *)# ?(.*)$")
_KEY = re.compile(r"^( *)([\w-]+):")


@dataclass(frozen=True)
class Key:
    """One key of params.yaml that holds a value, or a group of keys with a comment of its own.

    Attributes:
        path: dotted, such as ``split.guard_mm``.
        value: as params.yaml has it.
        allowed: in words, of the schema.
        meaning: the question above it in params.yaml; empty where the key above asks for both.
        reruns: names of the stages that a change reruns at most, in the order of the pipeline.
    """

    path: str
    value: Any
    allowed: str
    meaning: str
    reruns: tuple[str, ...]

    @property
    def section(self) -> str:
        """``split``; ``models.padim`` of a model; empty of a key at the top."""
        parts = self.path.split(".")
        return ".".join(parts[: 2 if parts[0] == "models" else 1]) if len(parts) > 1 else ""

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """As its table shows it."""
        inside = self.path.removeprefix(f"{self.section}.")
        value = json.dumps(self.value).strip('"')
        shown = "" if isinstance(self.value, dict) else f"`{value}`"
        return f"`{inside}`", shown, self.allowed, self.meaning


def params_page(root: Path) -> str:
    """Every key of params.yaml: its value, what is allowed, what it means, what it reruns."""
    keys = list(params(root))
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
            rows = [key.cells for key in inside if key.reruns == reruns]
            text += [_reruns(reruns), markdown_table(("key", "value", "allowed", "meaning"), rows)]
    return _joined(text)


def _reruns(stages: tuple[str, ...]) -> str:
    if not stages:
        return "Reruns nothing."
    return "Reruns at most: " + ", ".join(f"`{name}`" for name in stages) + "."


def params(root: Path) -> Iterator[Key]:
    """Every key of params.yaml that is explained; ``benchmark`` and ``teachers`` hold rows.

    Raises:
        ParamsError: of DVC or ours, where dvc.yaml or params.yaml cannot be read.
    """
    text = (root / PARAMS_FILE).read_text(encoding="utf-8")
    asked = questions(text)
    whole = schema()
    for path, value in _nodes(YAML(typ="safe", pure=True).load(text)):
        if path[0] in ("benchmark", "teachers") or (isinstance(value, dict) and path not in asked):
            continue
        meaning = asked.get(path, "") or schema_node(whole, path).get("description", "")
        allowed = allowed_in_words(schema_node(whole, path)).replace("'", "`")
        yield Key(".".join(path), value, allowed, meaning, stages_of(root, ".".join(path)))


def _nodes(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every key below a section, groups before what they hold."""
    if not isinstance(node, dict) or len(path) > (2 if path[:1] == ("models",) else 1):
        yield path, node
    if isinstance(node, dict):
        for name, inner in node.items():
            yield from _nodes(inner, (*path, name))


def questions(text: str) -> Mapping[tuple[str, ...], str]:
    """The comment that stands directly above each key of a YAML file, as one line."""
    found: dict[tuple[str, ...], str] = {}
    above: list[str] = []
    place: list[tuple[int, str]] = []
    for line in text.splitlines():
        if comment := _COMMENT.match(line):
            above.append(comment[2])
        elif key := _KEY.match(line):
            place = [*(x for x in place if x[0] < len(key[1])), (len(key[1]), key[2])]
            if above:
                found[tuple(name for _, name in place)] = " ".join(above)
            above = []
        else:
            above = []
    return found


@cache
def _pipeline(root: Path) -> Any:
    """DVC's own graph of stages, an edge from each stage to those that it reads."""
    return Repo(str(root)).index.graph


def stages_of(root: Path, key: str) -> tuple[str, ...]:
    """Which stages a change of a dotted key reruns at most: ``train@cmad``; ``train``: all."""
    graph = _pipeline(root)
    reading = {stage for stage in graph if any(_covers(name, key) for name in _asked(stage))}
    after = reading.union(*(networkx.ancestors(graph, stage) for stage in reading))
    spared = {_base(stage) for stage in graph if stage not in after}
    order = (stage for stage in reversed(list(networkx.topological_sort(graph))) if stage in after)
    return tuple(
        dict.fromkeys(_name(stage) if _base(stage) in spared else _base(stage) for stage in order)
    )


def _asked(stage: Any) -> Iterator[str]:
    for dep in stage.deps:
        yield from getattr(dep, "params", ())


def _covers(asked: str, key: str) -> bool:
    return key == asked or key.startswith(f"{asked}.")


def _name(stage: Any) -> str:
    """``data/dvc.yaml:phantom`` is phantom."""
    return str(stage.addressing.rpartition(":")[2])


def _base(stage: Any) -> str:
    """``train@cmad`` is train."""
    return _name(stage).partition("@")[0]


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
