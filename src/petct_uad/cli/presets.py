"""Whole params.yaml files for a laptop, a test and the papers.

``params/cpu.yaml`` is a whole file; every other file in ``params/`` says only what differs from it.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from petct_uad.core.errors import ParamsError

PRESETS = Path("params")
_BASE = "cpu"
_ROWS = "benchmark"


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
        raise ParamsError(f"preset {name!r}: not found; expected one of {', '.join(names)}")
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(folder / f"{name}.yaml")
    return found


def preset_content(name: str, folder: Path = PRESETS) -> str:
    """The text of params.yaml under a preset, comments included.

    Under ``benchmark`` a preset lists the models it keeps, or gives models of its own in place of
    the base's; any other key replaces the base's value.

    Raises:
        ParamsError: there is no such preset, or it names a key or row that the base lacks.
    """
    changes = preset_values(name, folder)
    base = (folder / f"{_BASE}.yaml").read_text(encoding="utf-8")
    if name == _BASE:
        return base
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 4096
    content = yaml.load(base)
    _merge(content, changes, folder / f"{name}.yaml", ())
    out = io.StringIO()
    yaml.dump(content, out)
    return f"# The {name!r} preset, written by `petct preset {name}`.\n{_body(out.getvalue())}"


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


def _body(text: str) -> str:
    """Without the base's own two lines that say which preset it is."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("# This file is the "))
