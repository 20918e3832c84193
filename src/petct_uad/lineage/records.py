"""Do params.yaml, the code and the packages stand as the stages recorded them?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from petct_uad.core.files import sha256_file
from petct_uad.core.params.reading import PARAMS_FILE
from petct_uad.lineage.graph import StageLineage
from petct_uad.schema import load_params

_ABSENT = "nothing"


@dataclass(frozen=True, order=True)
class Change:
    """One thing that is not as a stage recorded it."""

    what: str  # a params key, a source file or a package
    now: str
    then: str
    stage: str


def changed_params(stages: Iterable[StageLineage]) -> list[Change]:
    """Keys whose value differs from the one that a stage ran with.

    Raises:
        ParamsError: params.yaml itself is wrong.
    """
    now = load_params(PARAMS_FILE).model_dump(mode="json", by_alias=True)
    found = [
        Change(key, repr(value), repr(recorded), stage.activity.stage)
        for stage in stages
        for name, then in stage.activity.params.items()
        for key, value, recorded in _differences(name, _lookup(now, name), then)
    ]
    return sorted(set(found))


def _lookup(params: Any, name: str) -> Any:
    for part in name.split("."):
        params = params.get(part, _ABSENT) if isinstance(params, dict) else _ABSENT
    return params


def _differences(name: str, now: Any, then: Any) -> list[tuple[str, Any, Any]]:
    """A stage may record fewer keys than there are: it leaves out those that change no output."""
    if not isinstance(then, dict) or not isinstance(now, dict):
        return [] if now == then else [(name, now, then)]
    return [
        item
        for key, value in then.items()
        for item in _differences(f"{name}.{key}", now.get(key, _ABSENT), value)
    ]


def changed_sources(stages: Iterable[StageLineage]) -> list[Change]:
    """Source files whose bytes differ from those that a stage ran."""
    hashes: dict[str, str] = {}
    found = set()
    for stage in stages:
        for name, then in stage.activity.sources.items():
            if name not in hashes:
                path = Path(name)
                hashes[name] = sha256_file(path) if path.is_file() else _ABSENT
            if hashes[name] != then:
                found.add(Change(name, hashes[name], then, stage.activity.stage))
    return sorted(found)


def changed_packages(stages: Iterable[StageLineage]) -> list[Change]:
    """Packages that are installed in another version."""
    found = {
        Change(name, _installed(name), then, stage.activity.stage)
        for stage in stages
        for name, then in stage.activity.packages.items()
    }
    return sorted(item for item in found if item.now != item.then)


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return _ABSENT
