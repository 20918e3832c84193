"""DVC's cache and lock files, read without DVC, which takes a second to import."""

from __future__ import annotations

import configparser
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import yaml
from ruamel.yaml.resolver import implicit_resolvers

from petct_uad.core.errors import LineageError

_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # C's is twenty times as fast
PIPELINE, LOCK = Path("dvc.yaml"), Path("dvc.lock")
# Where they lie: the pipeline's, and those of the data that are made here. All paths in them are
# relative to the repository's root, which is the `wdir` of the latter.
PIPELINES = (Path(), Path("data"))
_OF_DATA = "data/dvc.yaml:"  # begins the name of a stage of the latter


class _Loader(_SafeLoader):  # type: ignore[misc, valid-type]
    """PyYAML knows YAML 1.1 only; this one takes scalars for what ruamel and DVC do, by 1.2."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """An integer: ``010`` is ten, ``0o10`` eight."""
        digits = node.value.replace("_", "").lstrip("+-")
        size = int(digits, 0 if digits[:2] in ("0x", "0o", "0b") else 10)
        return -size if node.value.startswith("-") else size


for _versions, _tag, _pattern, _starts in implicit_resolvers:
    if (1, 2) in _versions:
        _Loader.add_implicit_resolver(_tag, _pattern, _starts)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


@dataclass(frozen=True, order=True)
class Tracked:
    """A file or folder that DVC tracks, as a ``dvc.lock`` or a ``.dvc`` file names it."""

    path: str  # relative to the repository's root
    md5: str  # ends in .dir for a folder
    stage: str  # as `dvc repro` takes it; "" for what `dvc add` tracks


@dataclass(frozen=True, order=True)
class Member:
    """A file in a tracked folder."""

    path: str  # relative to the folder
    md5: str


@dataclass(frozen=True)
class Store:
    """``files/md5`` of a cache or of a remote in a folder."""

    root: Path

    def path(self, md5: str) -> Path:
        """Where an object lies."""
        return self.root / md5[:2] / md5[2:]

    def objects(self) -> list[tuple[str, Path]]:
        """Every object: the MD5 that its name gives, and the file."""
        return [
            (folder.name + file.name, file)
            for folder in sorted(self.root.glob("[0-9a-f][0-9a-f]"))
            for file in sorted(folder.iterdir())
        ]

    def folder(self, md5: str) -> list[Member]:
        """What a ``.dir`` object lists; nothing of a file's, or where it is missing or damaged."""
        if not md5.endswith(".dir"):
            return []
        try:
            content = self.path(md5).read_bytes()
        except OSError:
            return []
        if hashlib.md5(content).hexdigest() != md5.removesuffix(".dir"):
            return []
        return [Member(row["relpath"], row["md5"]) for row in json.loads(content)]

    def folders(self) -> Iterator[list[Member]]:
        """Every folder that the store knows."""
        for md5, _ in self.objects():
            if md5.endswith(".dir"):
                yield self.folder(md5)


def cache_store(root: Path = Path()) -> Store:
    """The cache that ``.dvc/config`` names, or ``.dvc/cache``."""
    folder = _config(root).get("cache", "dir", fallback="cache")
    return Store(root / ".dvc" / folder / "files" / "md5")


def remotes(root: Path = Path()) -> dict[str, str]:
    """Names and addresses of the remotes."""
    config = _config(root)
    names = {section: section[len("'remote \"") : -len("\"'")] for section in config.sections()}
    return {
        name: config.get(section, "url", fallback="")
        for section, name in names.items()
        if section.startswith("'remote ")
    }


def _config(root: Path) -> configparser.ConfigParser:
    config = configparser.ConfigParser(interpolation=None)
    config.read([root / ".dvc/config", root / ".dvc/config.local"], encoding="utf-8")
    return config


def tracked(root: Path = Path()) -> list[Tracked]:
    """Every output in a ``dvc.lock`` and every file or folder under ``dvc add``, sorted.

    A lock keeps stages that its ``dvc.yaml`` no longer has; those are left out, as DVC does.

    Raises:
        LineageError: a lock, ``dvc.yaml`` or a ``.dvc`` file cannot be read.
    """
    found: list[Tracked] = []
    for folder in (folder for folder in PIPELINES if (root / folder / LOCK).is_file()):
        known = stage_names(_text(root / folder / PIPELINE), _text(root / "params.yaml"))
        outs = outputs_of_lock(_text(root / folder / LOCK), (folder / LOCK).as_posix())
        prefix = f"{(folder / PIPELINE).as_posix()}:" if folder.parts else ""
        found += [replace(out, stage=prefix + out.stage) for out in outs if out.stage in known]
    for file in sorted(root.glob("data/*/*.dvc")):  # where `petct add` puts them
        listed = parse_yaml(_text(file), file.as_posix()).get("outs", [])
        folder = file.parent.relative_to(root)
        found += [Tracked((folder / out["path"]).as_posix(), out["md5"], "") for out in listed]
    return sorted(found)


def due(outs: Iterable[Tracked], root: Path = Path()) -> list[Tracked]:
    """Those that should be here: all but data that are made here and that params.yaml does not ask
    for, such as the phantom's beside a data set of one's own. What is here is due.
    """
    every = list(outs)
    if not any(out.stage.startswith(_OF_DATA) for out in every):
        return every
    chosen = parse_yaml(_text(root / "params.yaml"), "params.yaml").get("dataset")
    return [
        out
        for out in every
        if not out.stage.startswith(_OF_DATA)
        or Path(out.path).name == chosen
        or (root / out.path).exists()
    ]


def absent_folders(outs: Iterable[Tracked], root: Path = Path()) -> list[Tracked]:
    """Those of a stage's folders that are not here at all, as in a fresh clone.

    Args:
        outs: those that are :func:`due`.
        root: the repository's.
    """
    return [
        out
        for out in outs
        if out.stage and out.md5.endswith(".dir") and not (root / out.path).is_dir()
    ]


def stage_names(pipeline: str, values: str) -> set[str]:
    """The stages of a ``dvc.yaml`` under a ``params.yaml``, one for each item of a ``foreach``.

    Raises:
        LineageError: either is no YAML mapping.
    """
    stages = parse_yaml(pipeline, "dvc.yaml").get("stages", {})
    params = parse_yaml(values, "params.yaml")
    names: set[str] = set()
    for name, stage in stages.items():
        items = stage.get("foreach") if isinstance(stage, dict) else None
        if isinstance(items, str):
            items = _value(params, items.removeprefix("${").removesuffix("}"))
        names |= {name} if items is None else {f"{name}@{item}" for item in items}
    return names


def _value(params: Any, name: str) -> Any:
    for part in name.split("."):
        params = params.get(part, {}) if isinstance(params, dict) else {}
    return params


def outputs_of_lock(text: str, name: str) -> list[Tracked]:
    """The outputs of every stage in a ``dvc.lock``.

    Raises:
        LineageError: it is no lock file.
    """
    stages = parse_yaml(text, name).get("stages", {})
    return [
        Tracked(out["path"], out["md5"], stage)
        for stage, entry in stages.items()
        for out in entry.get("outs", [])
    ]


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """A YAML mapping.

    Raises:
        LineageError: it is none; names the file.
    """
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise LineageError(f"{name}: is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise LineageError(f"{name}: holds no mapping. Restore it with `git restore {name}`.")
    return content


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LineageError(
            f"{path}: cannot be read ({error}). Restore it with `git restore {path}`."
        ) from error
