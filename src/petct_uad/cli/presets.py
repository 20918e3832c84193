"""Whole params.yaml files for a laptop, a test and the papers.

The questions above the keys are in params.yaml alone. ``params/cpu.yaml`` has the value of every
key and no question: ``python -m petct_uad.cli.presets`` writes it from params.yaml. Every other
file in ``params/`` says only what differs from it.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from petct_uad.core.errors import ParamsError, did_you_mean
from petct_uad.core.files import write_text
from petct_uad.core.params.reading import PARAMS_FILE

PRESETS = Path("params")
_BASE = "cpu"
_ROWS = "benchmark"
_WRITTEN = re.compile(r"# The '\S+' preset, written by `petct preset \S+`\.")
_GENERATED = (
    "# The values of params.yaml, whose questions are there.\n"
    "# `python -m petct_uad.cli.presets` writes this file from it."
)


def preset_names(folder: Path = PRESETS) -> tuple[str, ...]:
    """Every preset, the base first."""
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    return (_BASE, *(name for name in names if name != _BASE))


def preset_values(name: str, folder: Path = PRESETS) -> dict[str, Any]:
    """What the file of a preset says, as YAML gives it.

    Raises:
        ParamsError: there is no such preset.
    """
    names = preset_names(folder)
    if name not in names:
        raise ParamsError(
            f"preset {name!r}: not found.{did_you_mean(name, names)} There are: {', '.join(names)}."
        )
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(folder / f"{name}.yaml")
    return found


def preset_content(name: str, folder: Path = PRESETS) -> str:
    """The text of params.yaml under a preset, with the questions of the one that lies there now.

    Under ``benchmark`` a preset lists the models it keeps, or gives models of its own in place of
    the base's; any other key replaces the base's value.

    Args:
        name: of the preset.
        folder: ``params`` of a repository; its params.yaml lies beside it.

    Raises:
        ParamsError: there is no such preset, or it names a key or row that the base lacks; or no
            params.yaml.
    """
    changes = preset_values(name, folder)
    here = folder.parent / PARAMS_FILE
    if not here.is_file():
        raise ParamsError(
            f"{here}: not found; a preset writes into it. Get it back: `git restore {PARAMS_FILE}`"
        )
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 4096
    content = yaml.load(here.read_text(encoding="utf-8"))
    base = yaml.load((folder / f"{_BASE}.yaml").read_text(encoding="utf-8"))
    _set(content, base)
    content[_ROWS] = base[_ROWS]  # no question is among the rows
    if name != _BASE:
        _merge(content, changes, folder / f"{name}.yaml", ())
    out = io.StringIO()
    yaml.dump(content, out)
    return f"{_head(name)}{_body(out.getvalue())}"


def values_alone(text: str) -> str:
    """A params.yaml without its questions: what ``params/cpu.yaml`` holds."""
    return f"{_GENERATED}\n{without_questions(text)}"


def without_questions(text: str) -> str:
    """YAML without lines that are comments or blank."""
    lines = (line for line in text.splitlines() if line.strip() and line.lstrip()[0] != "#")
    return "".join(f"{line}\n" for line in lines)


def _set(content: CommentedMap, values: dict[str, Any]) -> None:
    """Give every key the base's value; what is equal keeps the way in which it is written."""
    for key in [key for key in content if key not in values]:
        del content[key]
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(content.get(key), dict):
            _set(content[key], value)
        elif key not in content or content[key] != value:
            content[key] = value


def _merge(
    base: CommentedMap, changes: dict[str, Any], source: Path, above: tuple[str, ...]
) -> None:
    for key, value in changes.items():
        if key not in base:
            raise ParamsError(f"{source}: {'.'.join((*above, key))} is no key of params/cpu.yaml")
        if key == _ROWS and not above and isinstance(value, dict):
            base[key].clear()
            base[key].update(value)
        elif key == _ROWS and not above:
            _keep(base[key], value, source)
        elif isinstance(value, dict):
            _merge(base[key], value, source, (*above, key))
        else:
            base[key] = value


def _keep(rows: CommentedMap, names: list[str], source: Path) -> None:
    if unknown := sorted(set(names) - set(rows)):
        raise ParamsError(f"{source}: {', '.join(unknown)}: no such row in params/cpu.yaml")
    for name in [name for name in rows if name not in names]:
        del rows[name]


def _head(name: str) -> str:
    return f"# The {name!r} preset, written by `petct preset {name}`.\n"


def _body(text: str) -> str:
    """Without the line that says which preset it was."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not _WRITTEN.fullmatch(line.rstrip()))


if __name__ == "__main__":
    write_text(PRESETS / f"{_BASE}.yaml", values_alone(PARAMS_FILE.read_text(encoding="utf-8")))
