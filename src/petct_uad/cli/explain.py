"""What a key of params.yaml means, takes and reruns: ``petct params``, and the site's reference.

All of it is read where it is kept: the question above the key in params.yaml, the schema, the
presets, and DVC's own graph of stages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import networkx
from dvc.exceptions import NotDvcRepoError
from dvc.repo import Repo

from petct_uad.cli.presets import preset_names, preset_values
from petct_uad.core.errors import ParamsError, did_you_mean
from petct_uad.core.params.reading import PARAMS_FILE, ParamsFile, allowed_in_words, schema_node
from petct_uad.models.benchmark import every_section, model_folder, model_names, sections_of
from petct_uad.schema import schema

_COMMENT = re.compile(r"^( *)# ?(.*)$")
_KEY = re.compile(r"^( *)([\w-]+):")
_ROWS = ("benchmark", "teachers")  # hold names of a person's own, not keys of the schema
_BASE, _PAPER = "cpu", "paper-"
_SCHEDULE = "schedule"
_UNITS = {
    "mm": "mm", "mm2": "mm2", "px": "pixels", "hu": "HU", "deg": "degrees", "s": "seconds",
    "fraction": "a fraction of 1", "suv": "SUV", "mbq": "MBq",
}  # fmt: skip


@dataclass(frozen=True)
class Key:
    """One key of params.yaml that holds a value, or a group of keys with a comment of its own.

    Attributes:
        path: dotted, such as ``split.guard_mm``.
        value: as params.yaml has it.
        allowed: in words, of the schema.
        meaning: the question above it in params.yaml, or above that key of ``model.schedule``;
            empty where the key above asks for both.
        asked_above: the key above it that has a question, and that question; empty where it has
            its own.
        reruns: names of the stages that a change reruns at most, in the order of the pipeline.
    """

    path: str
    value: Any
    allowed: str
    meaning: str
    asked_above: str
    reruns: tuple[str, ...]

    @property
    def section(self) -> str:
        """``split``; ``models.padim`` of a model; empty of a key at the top."""
        parts = self.path.split(".")
        return ".".join(parts[: 2 if parts[0] == "models" else 1]) if len(parts) > 1 else ""

    @property
    def unit(self) -> str:
        """Of its value, which its name ends with; empty where it has none."""
        *_, name = self.path.split(".")
        words = name.split("_")
        if not isinstance(self.value, int | float | list) or isinstance(self.value, bool):
            return ""
        return _UNITS.get(words[-1]) or ("SUV" if "suv" in words else "")


@dataclass(frozen=True)
class Explanation:
    """All that ``petct params KEY`` says.

    Attributes:
        key: see :class:`Key`.
        unit: of the value, or empty.
        default: the value of the preset ``cpu``.
        paper: the model that it belongs to, whose that is, and its page; empty of other sections.
        at_paper_size: the values of the presets of papers that have one, by preset.
    """

    key: Key
    unit: str
    default: Any
    paper: str
    at_paper_size: Mapping[str, Any]


def explain(path: str, root: Path = Path()) -> Explanation:
    """Everything about one key.

    Raises:
        ParamsError: there is no such key, naming the nearest one; params.yaml cannot be read.
    """
    found = [key for key in explained_keys(root, path) if key.path == path]
    if not found:
        raise unknown_key(path, root)
    presets = root / "params"
    papers = [name for name in preset_names(presets) if name.startswith(_PAPER)]
    values = {name: _under(preset_values(name, presets), path) for name in papers}
    default = _under(preset_values(_BASE, presets), path)
    sized = {name: value for name, value in values.items() if value is not None}
    return Explanation(found[0], found[0].unit, default, _paper(found[0].section), sized)


def as_json(found: Explanation | Sequence[Key]) -> str:
    """For a program: an object of one key, or a list of keys."""
    whole: Any = asdict(found) if isinstance(found, Explanation) else [asdict(x) for x in found]
    return json.dumps(whole, indent=2)


def as_lines(found: Explanation) -> Iterator[str]:
    """For a person: the value, its meaning, then a fact on each line."""
    key, group = found.key, isinstance(found.key.value, dict)
    yield f"{key.path} = {_shown(key.value)} {found.unit}".rstrip()
    if key.meaning:
        yield f"  {key.meaning}"
    sizes = [f"{_shown(value)} (preset {name})" for name, value in found.at_paper_size.items()]
    facts = {
        "asked above it": key.asked_above,
        "allowed": key.allowed,
        "unit": found.unit,
        "default": "" if group else f"{_shown(found.default)} (preset cpu)",
        "model": found.paper,
        "at the paper's size": "" if group else "; ".join(sizes),
        "reruns at most": ", ".join(key.reruns) or "nothing: no stage reads it now",
        "to change it": "" if group else f"dvc exp run -S {key.path}=VALUE",
    }
    yield from (f"  {name:<20} {fact}" for name, fact in facts.items() if fact)


def as_table(keys: Sequence[Key]) -> Iterator[str]:
    """For a person: a line for each key with its value and what is allowed."""
    wide = max(len(key.path) for key in keys)
    for key in keys:
        yield f"{key.path:<{wide}}  {_shown(key.value):<16}  {key.allowed}"


def _shown(value: Any) -> str:
    return "(a group)" if isinstance(value, dict) else json.dumps(value).strip('"')


def unknown_key(path: str, root: Path = Path()) -> ParamsError:
    """The error that names the key that was meant, as far as one can tell."""
    known = [".".join(names) for names, _ in _nodes(_content(root))]
    ends = [key for key in known if key.rpartition(".")[2] == path.rpartition(".")[2]]
    hint = f" Did you mean {ends[0]!r}?" if len(ends) == 1 else did_you_mean(path, known)
    return ParamsError(f"{path}: no key of params.yaml.{hint} `petct params` lists them all.")


def explained_keys(root: Path = Path(), within: str = "") -> Iterator[Key]:
    """Every key of params.yaml; of ``benchmark`` and ``teachers`` the group, not what it holds.

    Args:
        root: the repository.
        within: only this dotted key, or what lies below it.

    Raises:
        ParamsError: params.yaml or dvc.yaml cannot be read.
    """
    content, whole = _content(root), schema()
    asked = questions((root / PARAMS_FILE).read_text(encoding="utf-8"))
    above: tuple[str, ...] = ()
    for path, value in _nodes(content):
        name = ".".join(path)
        above = path if path in asked else above
        if isinstance(value, dict) and path not in asked:
            continue
        if within and name != within and not name.startswith(f"{within}."):
            continue
        node = schema_node(whole, path)
        own, allowed = asked.get(path) or asked.get(_shared(path)), allowed_in_words(node)
        meaning = own or node.get("description", "")
        near = above if above and path[: len(above) - 1] == above[:-1] else ()
        beside = f"{'.'.join(near)}: {asked[near]}" if near and not meaning else ""
        yield Key(name, value, allowed, meaning, beside, stages_of(root, name))


def _shared(path: tuple[str, ...]) -> tuple[str, ...]:
    """Where a key of a model's schedule is explained, for all models."""
    return ("model", *path[path.index(_SCHEDULE) :]) if _SCHEDULE in path[:-1] else path


def _content(root: Path) -> Any:
    content = ParamsFile.read(root / PARAMS_FILE).content
    if not isinstance(content, dict):
        raise ParamsError(f"{root / PARAMS_FILE}: expected keys and values.")
    return content


def _nodes(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every key below a section, groups before what they hold."""
    whole = path[:1] in {(name,) for name in _ROWS}
    if not isinstance(node, dict) or whole or len(path) > (2 if path[:1] == ("models",) else 1):
        yield path, node
    if isinstance(node, dict) and not whole:
        for name, inner in node.items():
            yield from _nodes(inner, (*path, name))


def _under(content: Any, path: str) -> Any:
    """What lies under a dotted key; None where nothing does."""
    for name in path.split("."):
        content = content.get(name) if isinstance(content, dict) else None
    return content


def _paper(section: str) -> str:
    """The first line of what declares a model's section, and its page."""
    if section not in every_section():
        return ""
    (model, *_) = [name for name in model_names() if section in sections_of(name)]
    said = (every_section()[section].__doc__ or "").strip().partition("\n")[0]
    return f"{said} {model_folder(model)}/README.md"


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
    try:
        return Repo(str(root)).index.graph
    except NotDvcRepoError as error:
        raise ParamsError(f"{root}: no DVC repository. Run it from its root.") from error


def stages_of(root: Path, key: str) -> tuple[str, ...]:
    """Which stages a change of a dotted key reruns at most: ``train@cmad``; ``train``: all."""
    graph = _pipeline(root.resolve())
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
    """Is the key in what a stage asks for, or a group that holds it?"""
    return key == asked or key.startswith(f"{asked}.") or asked.startswith(f"{key}.")


def _name(stage: Any) -> str:
    """``data/dvc.yaml:phantom`` is phantom."""
    return str(stage.addressing.rpartition(":")[2])


def _base(stage: Any) -> str:
    """``train@cmad`` is train."""
    return _name(stage).partition("@")[0]
