"""What lies in a store: how large and old, and how it is trimmed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import time

MANIFEST = "manifest.json"  # its time is when the entry was last used
TEMPORARY = ".tmp-"
# Megabytes for a second's work: it makes room for what stages keep of the data, however new it is.
_CHEAP = ("score",)
_ABANDONED_S = 24 * 3600.0  # a temporary folder this old is of a run that was killed


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


def entries(root: Path) -> list[Entry]:
    """All that lies in a store, by stage and key; what killed runs left behind comes first."""
    left = [_entry(path, "") for path in sorted(root.glob(f"{TEMPORARY}*"))]
    kept = [_entry(path, path.parent.name) for path in sorted(root.glob("[!.]*/*"))]
    return [*left, *kept]


def trim(root: Path, most_bytes: int) -> int:
    """Remove the least recently used entries until all take at most so much; bytes that are left.

    What a killed run left behind goes first, once no run can still be writing it; then scores.
    """
    left = entries(root)
    total = sum(entry.size_bytes for entry in left)
    abandoned = [x for x in left if not x.stage and x.used_s < time() - _ABANDONED_S]
    kept = (x for x in left if x.stage)
    oldest = sorted(kept, key=lambda x: (x.stage not in _CHEAP, x.used_s, x.folder))
    for entry in (*abandoned, *oldest):
        if total <= most_bytes and entry.stage:
            break
        remove(root, entry.folder)
        total -= entry.size_bytes
    return total


def remove(root: Path, folder: Path) -> None:
    """Under another name first, so that no run finds half of it."""
    with suppress(OSError), tempfile.TemporaryDirectory(dir=root, prefix=TEMPORARY) as name:
        folder.rename(Path(name, folder.name))


def _entry(folder: Path, stage: str) -> Entry:
    """What is there of it while another run may be removing it."""
    size, used_s = 0, 0.0
    for file in _files(str(folder)):
        with suppress(FileNotFoundError):
            stat = file.stat(follow_symlinks=False)
            size += stat.st_size
            used_s = stat.st_mtime if file.name == MANIFEST else used_s
    with suppress(FileNotFoundError):
        used_s = used_s or folder.lstat().st_mtime
    return Entry(folder, stage, size, used_s)


def _files(folder: str) -> Iterator[os.DirEntry[str]]:
    """All below a folder, but what has just gone; as text, since a store has thousands."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as found:
        for one in found:
            if one.is_dir(follow_symlinks=False):
                yield from _files(one.path)
            else:
                yield one
