"""What stages have computed of single studies, kept by the content of all that it was made from.

An entry lies in ``.cache/studies/<stage>/<key>/``, or below the folder that ``PETCT_STORE`` names,
which workspaces may share: the files that a function wrote for one study, what it returned as
``result.json``, and ``manifest.json`` with the SHA-256 of each. The key is a
SHA-256 over the bytes of the study's inputs, the params, the source files and the packages, so that
an entry never goes stale: another input has another key. DVC stays the truth of what is current; a
run without a store, or with an empty one, writes the same bytes.

Nothing that lies in the store is believed. Each file is hashed before it is used; an entry that is
damaged, cut short or another's is reported, removed and computed anew. Who can write there can also
write both a file and its hash: the store guards against accidents, as DVC's cache does.

What is taken is hard-linked into the stage's output where the file system lets it, so an output
must be replaced, never written into; :mod:`petct_uad.core.files` does that.
"""

from __future__ import annotations

import errno
import json
import math
import os
import platform
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from time import time
from typing import Any, Generic, Self, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from petct_uad.core.archives import exists
from petct_uad.core.console import console
from petct_uad.core.errors import SettingError
from petct_uad.core.files import sha256_bytes, sha256_file, sha256_once
from petct_uad.core.machine import cores
from petct_uad.core.parallel import map_in_processes
from petct_uad.core.provenance.sources import library_modules, package_versions, source_hash

SWITCH, BOUND = "PETCT_STORE", "PETCT_STORE_GIB"  # environment variables of a machine
GIB = 1 << 30

_STORE = Path(".cache/studies")
_ELSEWHERE = "petct-studies"  # below a folder that is named: what else lies there is never trimmed
_DEFAULT_GIB = 20.0
_FORMAT = 1  # of entries; under another number nothing that lies there is found
_MANIFEST, _RESULT = "manifest.json", "result.json"
_TEMPORARY = ".tmp-"
_ABANDONED_S = 24 * 3600.0  # a temporary folder this old is of a run that was killed
_LEAST_FREE_BYTES = GIB  # of the disk: nothing is kept that would leave less
_LOOKS = 64  # a process measures the store anew each time that it has added this part of the bound
_ROOM = 0.9  # of the bound is what a full store is trimmed to, so that it is not full at once
_MOST_THREADS = 8  # that hash at once; more wait for the disk
# Where a file cannot have a second name: on another file system, or on one without hard links.
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EACCES}


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


Task = TypeVar("Task", bound=Storable)
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Manifest:
    key: str
    files: dict[str, str]  # SHA-256 by name


@dataclass(frozen=True)
class Entry:
    """What lies in the store under one key.

    Attributes:
        folder: holds its files.
        stage: whose it is; "" of what a killed run left behind.
        size_bytes: of its files; those that an output shares take no room of their own.
        used_s: when it was last written or taken, in seconds since 1970.
    """

    folder: Path
    stage: str
    size_bytes: int
    used_s: float


@dataclass
class _KnownSize:
    """Of a store, as far as this process knows."""

    total: int | None = None  # bytes; None before it was measured
    added: int = 0  # since then


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
            code: files below the working directory, from whose imports the code follows.

        Raises:
            SettingError: an environment variable that cannot be taken.
        """
        if not is_on():
            return None
        modules = library_modules(*code)
        files = [*(path for path in code if path not in modules), *modules]
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
            found = _adapter(result).validate_json((folder / _RESULT).read_bytes())
        except (OSError, _DamagedError, ValidationError) as error:
            if folder.exists():  # else another run has just trimmed it
                why = str(error).splitlines()[0]
                _warn(f"{folder}: {why}. The entry is removed, and its study computed anew")
                _remove(self.root, folder)
            return None
        try:
            _place({folder / name: path for name, path in task.outputs.items() if name in files})
        except FileNotFoundError:  # likewise
            return None
        with suppress(OSError):  # a store that may only be read
            os.utime(folder / _MANIFEST)
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

    def _add(self, key: str, written: Mapping[str, Path], content: bytes) -> None:
        with tempfile.TemporaryDirectory(dir=self.root, prefix=_TEMPORARY) as name:
            entry = Path(name, key)
            entry.mkdir(mode=0o700)
            (entry / _RESULT).write_bytes(content)
            _place({path: entry / name for name, path in written.items()})
            files = {path.name: sha256_file(path) for path in sorted(entry.iterdir())}
            manifest = _adapter(_Manifest).dump_json(_Manifest(key, files))
            (entry / _MANIFEST).write_bytes(manifest)
            entry.rename(self._folder(key))

    def _has_room(self, size: int) -> bool:
        """Is there room on the disk, and below the bound once the least recently used have gone?"""
        if shutil.disk_usage(self.root).free < _LEAST_FREE_BYTES + size:
            return False
        known = _known_size(self.root)
        if known.total is None or known.added + size > self.bound_bytes / _LOOKS:
            known.total, known.added = sum(item.size_bytes for item in entries(self.root)), 0
        if known.total + size > self.bound_bytes:
            known.total = trim(self.root, int(_ROOM * self.bound_bytes) - size)
        fits = known.total + size <= self.bound_bytes
        if fits:
            known.total, known.added = known.total + size, known.added + size
        return fits

    def _folder(self, key: str) -> Path:
        return self.root / self.stage / key


def map_stored(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    result: type[Result],
    description: str,
    *,
    workers: int,
    store: StudyStore | None,
    bytes_of: Callable[[Task], int] | None = None,
    finish: Callable[[Task, Result], None] | None = None,
) -> list[Result]:
    """:func:`map_in_processes` for studies: those in the store are taken, the others computed.

    Args:
        function: of a module, by whose name and ``task.said`` and sources a result is found again.
        tasks: one per study.
        result: the function's, a dataclass of plain values.
        description: of the progress.
        workers: number of processes; 0 means one per core.
        store: None computes every study, and keeps nothing.
        bytes_of: as :func:`map_in_processes` has it.
        finish: what is done with each study once its files are there, wherever they came from;
            by the process that computed it, or by a thread of this one.
    """
    work = _Work(function, result, store, finish)
    with ThreadPoolExecutor(min(workers or cores(), _MOST_THREADS)) as pool:  # hashing frees them
        looked = list(pool.map(work.look, tasks))
    missing = [item for item in looked if item.found is None]
    if store is not None and (taken := len(tasks) - len(missing)):
        text = f"{description}: {taken} of {len(tasks)} taken from {store.root}"
        console.print(text, markup=False, soft_wrap=True)
    weigh = None if bytes_of is None else partial(_weigh, bytes_of=bytes_of)
    done = map_in_processes(work, missing, description, workers, weigh) if missing else []
    if missing and store is not None:
        trim(store.root, store.bound_bytes)
    computed = iter(done)
    return [next(computed) if item.found is None else item.found for item in looked]


@dataclass(frozen=True)
class _Work(Generic[Task, Result]):
    """What is done with every task."""

    function: Callable[[Task], Result]
    result: type[Result]
    store: StudyStore | None
    finish: Callable[[Task, Result], None] | None

    def look(self, task: Task) -> _Looked[Task, Result]:
        """Take it from the store, if it is there."""
        if self.store is None:
            return _Looked(task, "", None)
        _clear(task)
        key = self.store.key(self.function.__qualname__, task)
        found = self.store.take(key, task, self.result)
        if found is not None and self.finish is not None:
            self.finish(task, found)
        return _Looked(task, key, found)

    @property
    def func(self) -> Callable[[Task], Result]:
        """What it calls, named as a partial's is: pools import its module beforehand."""
        return self.function

    def __call__(self, item: _Looked[Task, Result]) -> Result:
        """Compute it, and keep it."""
        if self.store is not None:
            _clear(item.task)
        done = self.function(item.task)
        content = _as_json(done, self.result) if item.key else None
        if self.store is not None and content is not None:
            self.store.keep(item.key, item.task, content)
        if self.finish is not None:
            self.finish(item.task, done)
        return done


@dataclass(frozen=True)
class _Looked(Generic[Task, Result]):
    """A task and what the store has of it; under "" nothing is kept."""

    task: Task
    key: str
    found: Result | None


def _as_json(done: Result, kind: type[Result]) -> bytes | None:
    """What gives back the same values to the bit; None where nothing does.

    JSON has no text that is not UTF-8, which a hostile file's name may be; and a whole number in a
    field for fractions would come back as another Python value.
    """
    adapter = _adapter(kind)
    try:
        content = json.dumps(adapter.dump_python(done), ensure_ascii=False).encode()
        same = repr(adapter.validate_json(content)) == repr(done)
    except (UnicodeEncodeError, ValidationError):
        return None
    return content if same else None


def _weigh(item: _Looked[Any, Any], *, bytes_of: Callable[[Any], int]) -> int:
    return bytes_of(item.task)


def entries(root: Path) -> list[Entry]:
    """All that lies in a store, by stage and key; what killed runs left behind comes first."""
    left = [_entry(path, "") for path in sorted(root.glob(f"{_TEMPORARY}*"))]
    kept = [_entry(path, path.parent.name) for path in sorted(root.glob("[!.]*/*"))]
    return [*left, *kept]


def trim(root: Path, most_bytes: int) -> int:
    """Remove the least recently used entries until all take at most so much; bytes that are left.

    What a killed run left behind goes first, once no run can still be writing it.
    """
    left = entries(root)
    total = sum(entry.size_bytes for entry in left)
    abandoned = [x for x in left if not x.stage and x.used_s < time() - _ABANDONED_S]
    oldest = sorted((x for x in left if x.stage), key=lambda x: (x.used_s, x.folder))
    for entry in (*abandoned, *oldest):
        if total <= most_bytes and entry.stage:
            break
        _remove(root, entry.folder)
        total -= entry.size_bytes
    return total


def is_on() -> bool:
    """Does this machine keep what it computes? Yes, unless ``PETCT_STORE`` is ``off``."""
    return _told() != "off"


def store_folder() -> Path:
    """Where this machine's store lies: in the workspace, or below the folder of ``PETCT_STORE``.

    Raises:
        SettingError: it is none of ``on``, ``off`` and an absolute path.
    """
    told = _told()
    if told in {"on", "off"}:
        return _STORE
    if not Path(told).is_absolute():
        raise SettingError(
            f"{SWITCH}={told!r} in the environment: expected on, off or a folder's absolute path."
        )
    return Path(told, _ELSEWHERE)


def _told() -> str:
    return os.environ.get(SWITCH, "") or "on"


def bound_bytes() -> int:
    """What a store may take on this machine: ``PETCT_STORE_GIB``, by default 20 GiB.

    Raises:
        SettingError: it is no number, or negative.
    """
    told = os.environ.get(BOUND, "") or str(_DEFAULT_GIB)
    try:
        found = float(told)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise SettingError(f"{BOUND}={told!r} in the environment: expected GiB, 0 or more.")
    return int(found * GIB)


def _adapter(kind: type[Result]) -> TypeAdapter[Result]:
    found: TypeAdapter[Result] = _adapter_of(cast("Any", kind))  # a class can be hashed
    return found


@cache
def _adapter_of(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@cache
def _known_size(_root: Path) -> _KnownSize:
    return _KnownSize()


def _digest(path: Path) -> str | None:
    return sha256_once(path) if exists(path) else None


def _verified(folder: Path, key: str, outputs: Mapping[str, Path]) -> dict[str, str]:
    """The files of an entry, each of which was hashed."""
    manifest = _adapter(_Manifest).validate_json((folder / _MANIFEST).read_bytes())
    if manifest.key != key:
        raise _DamagedError(f"its manifest is that of {manifest.key[:12]}")
    there = {path.name for path in folder.iterdir()} - {_MANIFEST}
    if there != manifest.files.keys() or not {_RESULT} <= there <= {_RESULT, *outputs}:
        raise _DamagedError(f"it holds {', '.join(sorted(there))}, which is not what was kept")
    for name, kept in manifest.files.items():
        if (folder / name).is_symlink() or sha256_file(folder / name) != kept:
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


def _clear(task: Storable) -> None:
    """Nothing is written into a file that the store may share, such as a lost worker's."""
    for path in task.outputs.values():
        path.unlink(missing_ok=True)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copyfile(source, target)


def _entry(folder: Path, stage: str) -> Entry:
    """What is there of it while another run may be removing it."""
    size, used_s = 0, 0.0
    for parent, _, names in os.walk(folder):  # which passes over what has just gone
        for path in (Path(parent, name) for name in names):
            with suppress(FileNotFoundError):
                stat = path.lstat()
                size += stat.st_size
                used_s = stat.st_mtime if path.name == _MANIFEST else used_s
    with suppress(FileNotFoundError):
        used_s = used_s or folder.lstat().st_mtime
    return Entry(folder, stage, size, used_s)


def _remove(root: Path, folder: Path) -> None:
    """Under another name first, so that no run finds half of it."""
    with suppress(OSError), tempfile.TemporaryDirectory(dir=root, prefix=_TEMPORARY) as name:
        folder.rename(Path(name, folder.name))


def _warn(text: str) -> None:
    console.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)


@cache
def _warn_once(text: str) -> None:
    """Not for each of a thousand studies."""
    _warn(text)
