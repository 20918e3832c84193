"""Hashes of many files, two at a time."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from petct_uad.core.archives import find_extent
from petct_uad.core.console import progress_bar
from petct_uad.core.errors import ArchiveError

Algorithm = Literal["sha256", "md5"]
_IGNORE_FILE = Path(".dvcignore")
WORKERS = 2  # a disk feeds no more; hashlib lets threads run side by side


@dataclass(frozen=True)
class Expected:
    """A file and the hash that it should have; "" where any file will do."""

    path: Path
    algorithm: Algorithm
    digest: str


def hash_files(wanted: Sequence[Expected], description: str) -> list[str]:
    """The hash of each file, in the order given; "" where it cannot be read."""
    with ThreadPoolExecutor(WORKERS) as pool, progress_bar() as progress:
        results = pool.map(_digest, wanted)
        return list(progress.track(results, total=len(wanted), description=description))


def _digest(item: Expected) -> str:
    try:
        with find_extent(item.path).open() as stream:
            return hashlib.file_digest(stream, item.algorithm).hexdigest()  # type: ignore[arg-type]
    except (OSError, ArchiveError):
        return ""


def md5_of_folder(files: dict[str, str]) -> str:
    """DVC's hash of a folder: the MD5 of its list of paths and MD5s.

    Args:
        files: the MD5 of each file, by its path relative to the folder.
    """
    rows = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    return hashlib.md5(json.dumps(rows, sort_keys=True).encode()).hexdigest() + ".dir"


def files_below(folder: Path) -> list[str]:
    """Relative paths of every file that DVC would count, sorted."""
    ignored = _ignored_names()
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not ignored(name))
        base = Path(place).relative_to(folder)
        found += [(base / name).as_posix() for name in files if not ignored(name)]
    return sorted(found)


def _ignored_names() -> Callable[[str], bool]:
    """What ``.dvcignore`` says of names; its patterns of paths are of sources, not of outputs."""
    text = _IGNORE_FILE.read_text(encoding="utf-8") if _IGNORE_FILE.is_file() else ""
    lines = [line.rstrip("/") for line in text.splitlines() if not line.startswith("#")]
    patterns = [line for line in lines if line and "/" not in line]
    return lambda name: any(fnmatch(name, pattern) for pattern in patterns)
