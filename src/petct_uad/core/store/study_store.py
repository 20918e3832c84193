"""The entries of one stage: how each is found, believed, taken and kept."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from petct_uad.core.console import console
from petct_uad.core.errors import ArchiveError
from petct_uad.core.files import sha256_bytes, sha256_file, sha256_once
from petct_uad.core.provenance.sources import library_modules, package_versions, source_hash
from petct_uad.core.store.entries import MANIFEST, TEMPORARY, remove, trim
from petct_uad.core.store.settings import GIB, bound_bytes, is_on, store_folder

_FORMAT = 1  # of entries; under another number nothing that lies there is found
_RESULT = "result.json"
_LEAST_FREE_BYTES = GIB  # of the disk: nothing is kept that would leave less
_LOOKS = 64  # a process measures the store anew each time that it has added this part of the bound
_ROOM = 0.9  # of the bound is what a full store is trimmed to, so that it is not full at once
# Where a file cannot have a second name: on another file system, or on one without hard links.
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EACCES}

Result = TypeVar("Result")


class Storable(ABC):
    """One study's share of a stage: a frozen dataclass that a worker process gets."""

    @property
    @abstractmethod
    def sources(self) -> Sequence[Path]:
        """The files that it is computed from, in a fixed order; each may be absent."""

    @property
    @abstractmethod
    def said(self) -> str:
        """All else that it is computed from, params included, as a text that tells all apart."""

    @property
    def outputs(self) -> Mapping[str, Path]:
        """The files that it may write, by plain names that are the same for every study; none."""
        return {}


@dataclass(frozen=True)
class _Manifest:
    key: str
    files: dict[str, str]  # SHA-256 by name


@dataclass
class _KnownSize:
    """Of a store, as far as this process knows."""

    total: int | None = None  # bytes; None before it was measured
    added: int = 0  # since then
    asked: bool = False  # whether there is room, by this process, since the store was last trimmed


class _DamagedError(Exception):
    """An entry is not what was kept; says how."""


@dataclass(frozen=True)
class StudyStore:
    """The entries of one stage under one version of its code.

    Attributes:
        root: holds a folder per stage.
        stage: its name.
        code: SHA-256 over source files and packages.
        bound_bytes: what all entries of all stages may take; the least recently used go first.
    """

    root: Path
    stage: str
    code: str
    bound_bytes: int

    @classmethod
    def of_stage(cls, stage: str, *code: Path) -> Self | None:
        """The store of this machine; None where ``PETCT_STORE`` is ``off``.

        Args:
            stage: its name.
            code: files below the working directory, or folders of them, from whose imports the code
                follows.

        Raises:
            SettingError: an environment variable that cannot be taken.
        """
        if not is_on():
            return None
        modules = library_modules(*code)
        files = [*(path for path in code if path.is_file() and path not in modules), *modules]
        packages = json.dumps(package_versions(files), sort_keys=True)
        told = (source_hash(files), packages, platform.python_version())
        return cls(store_folder(), stage, sha256_bytes("\0".join(told).encode()), bound_bytes())

    def key(self, function: str, task: Storable) -> str:
        """SHA-256 of all that a function's result on a task is made from; "" if it cannot be known.

        It cannot where a source cannot be read: whoever computes says what is wrong with it.
        """
        try:
            sources = [(path.name, _digest(path)) for path in task.sources]
        except OSError:
            return ""
        parts = (_FORMAT, self.stage, self.code, function, task.said, sources)
        return sha256_bytes(json.dumps(parts).encode())

    def take(self, key: str, task: Storable, result: type[Result]) -> Result | None:
        """Put an entry's files where the task wants them; what was returned, or None if absent.

        Raises:
            OSError: the files cannot be put there, for which the entry is not to blame.
        """
        folder = self._folder(key)
        if not key or not folder.is_dir():
            return None
        try:
            files = _verified(folder, key, task.outputs)
            found = adapter_of(result).validate_json((folder / _RESULT).read_bytes())
        except (OSError, _DamagedError, ValidationError) as error:
            if folder.exists():  # else another run has just trimmed it
                why = str(error).splitlines()[0]
                _warn(f"{folder}: {why}. The entry is removed, and its study computed anew")
                remove(self.root, folder)
            return None
        try:
            _place({folder / name: path for name, path in task.outputs.items() if name in files})
        except FileNotFoundError:  # likewise
            return None
        with suppress(OSError):  # a store that may only be read
            os.utime(folder / MANIFEST)
        return found

    def keep(self, key: str, task: Storable, content: bytes) -> None:
        """Add what a task has just written and returned; where there is no room, nothing is kept.

        Two runs may keep the same entry at once: that which ends first stays, and both are whole.

        Args:
            content: what it returned, as JSON.
        """
        written = {name: path for name, path in task.outputs.items() if path.is_file()}
        size = len(content) + sum(path.stat().st_size for path in written.values())
        try:
            for folder in (self.root, self.root / self.stage):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # ingest's name people
            if self._has_room(size):
                self._add(key, written, content)
        except OSError as error:
            if not self._folder(key).is_dir():  # else another run was faster
                _warn_once(f"{self.root}: {error.strerror}; what {self.stage} computes is not kept")

    def trim(self) -> None:
        """Keep to the bound what several processes may have added together beyond it.

        Where this process has added something since, it knows that there was room.
        """
        known = _known_size(self.root)
        if not known.asked:
            trim(self.root, self.bound_bytes)
        known.asked = False

    def _add(self, key: str, written: Mapping[str, Path], content: bytes) -> None:
        with tempfile.TemporaryDirectory(dir=self.root, prefix=TEMPORARY) as name:
            entry = Path(name, key)
            entry.mkdir(mode=0o700)
            (entry / _RESULT).write_bytes(content)
            _place({path: entry / name for name, path in written.items()})
            files = {path.name: sha256_file(path) for path in sorted(entry.iterdir())}
            manifest = adapter_of(_Manifest).dump_json(_Manifest(key, files))
            (entry / MANIFEST).write_bytes(manifest)
            entry.rename(self._folder(key))

    def _has_room(self, size: int) -> bool:
        """Is there room on the disk, and below the bound once the least recently used have gone?"""
        if shutil.disk_usage(self.root).free < _LEAST_FREE_BYTES + size:
            return False
        known = _known_size(self.root)
        known.asked = True
        if known.total is None or known.added + size > self.bound_bytes / _LOOKS:
            known.total, known.added = trim(self.root, self.bound_bytes), 0
        if known.total + size > self.bound_bytes:
            known.total = trim(self.root, int(_ROOM * self.bound_bytes) - size)
        fits = known.total + size <= self.bound_bytes
        if fits:
            known.total, known.added = known.total + size, known.added + size
        return fits

    def _folder(self, key: str) -> Path:
        return self.root / self.stage / key


def adapter_of(kind: type[Result]) -> TypeAdapter[Result]:
    """What reads and writes a dataclass as JSON."""
    found: TypeAdapter[Result] = _adapter_of(cast("Any", kind))  # a class can be hashed
    return found


@cache
def _adapter_of(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@cache
def _known_size(_root: Path) -> _KnownSize:
    return _KnownSize()


def _digest(path: Path) -> str | None:
    """None where there is no such file, or no such member of an archive."""
    try:
        return sha256_once(path)
    except (FileNotFoundError, NotADirectoryError, ArchiveError):
        return None


def _verified(folder: Path, key: str, outputs: Mapping[str, Path]) -> dict[str, str]:
    """The files of an entry, each of which was hashed."""
    manifest = adapter_of(_Manifest).validate_json((folder / MANIFEST).read_bytes())
    if manifest.key != key:
        raise _DamagedError(f"its manifest is that of {manifest.key[:12]}")
    with os.scandir(folder) as found:
        links = {item.name: item.is_symlink() for item in found if item.name != MANIFEST}
    there = links.keys()
    if there != manifest.files.keys() or not {_RESULT} <= there <= {_RESULT, *outputs}:
        raise _DamagedError(f"it holds {', '.join(sorted(there))}, which is not what was kept")
    for name, kept in manifest.files.items():
        if links[name] or sha256_file(folder / name) != kept:
            raise _DamagedError(f"{name} differs from its SHA-256")
    return manifest.files


def _place(targets: Mapping[Path, Path]) -> None:
    """Give each file a second name, or a copy where that cannot be; all or none."""
    placed: list[Path] = []
    try:
        for source, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            placed.append(target)
            _link_or_copy(source, target)
    except BaseException:
        for target in placed:
            target.unlink(missing_ok=True)
        raise


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copyfile(source, target)


def _warn(text: str) -> None:
    console.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)


@cache
def _warn_once(text: str) -> None:
    """Not for each of a thousand studies."""
    _warn(text)
