"""What registration and lineage say about the run, as the report shows it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from petct_uad.core.errors import EvaluationError


@dataclass(frozen=True)
class Fact:
    """A name and what it is, in words."""

    name: str
    value: str


@dataclass(frozen=True)
class Flag:
    """A study that is flagged, and why."""

    study_id: str
    reason: str


@dataclass(frozen=True)
class Registration:
    """``metrics/registration.json``."""

    figures: tuple[Fact, ...]
    flagged: tuple[Flag, ...]


@dataclass(frozen=True)
class StageRun:
    """One ``lineage/activity.json``: what a stage was asked, by which code and packages."""

    stage: str
    source_sha256: str
    params: tuple[Fact, ...]
    packages: tuple[Fact, ...]

    @property
    def of_one_row(self) -> bool:
        """Is it a training or an evaluation, of which there is one per row?"""
        return " " in self.stage


def read_registration(path: Path) -> Registration:
    """Read the cohort summary of the register stage."""
    content = _read(path)
    counts = [
        Fact(_words(key), str(value)) for key, value in content.items() if isinstance(value, int)
    ]
    medians = [
        Fact(f"median {_words(key)}", f"{value:.3f}")
        for key, value in content.get("median", {}).items()
    ]
    flagged = tuple(Flag(item["study_id"], item["reason"]) for item in content.get("flagged", ()))
    return Registration((*counts, *medians), flagged)


def read_stage_runs(paths: Iterable[Path]) -> tuple[StageRun, ...]:
    """Read the activity records of stages, in the order given; equal ones once."""
    runs = []
    for path in paths:
        content = _read(path)
        params = tuple(Fact(*pair) for pair in _flatten(content["params"]))
        packages = tuple(Fact(*pair) for pair in sorted(content["packages"].items()))
        runs.append(StageRun(content["stage"], content["source_sha256"], params, packages))
    return tuple(dict.fromkeys(runs))


def pictures_flagged_first(folder: Path, flagged: Sequence[Flag], most: int) -> tuple[Path, ...]:
    """At most ``most`` PNG files of a folder, those of flagged studies first."""
    names = {flag.study_id for flag in flagged}
    return tuple(sorted(folder.glob("*.png"), key=lambda p: (p.stem not in names, p.stem))[:most])


def _flatten(value: Any, key: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [
            pair
            for name, inner in value.items()
            for pair in _flatten(inner, f"{key}.{name}" if key else name)
        ]
    return [(key, value if isinstance(value, str) else json.dumps(value))]


def _words(key: str) -> str:
    return key.replace("_", " ")


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EvaluationError(f"{path}: not found. Run `dvc repro compare`.") from None
    return content
