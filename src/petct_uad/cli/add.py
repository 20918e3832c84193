"""Bringing a folder of whatever kind into the repository: ``petct add``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from petct_uad.core.console import track
from petct_uad.core.errors import DatasetError
from petct_uad.core.files import atomic_folder
from petct_uad.ingest.files import find_files

RAW = Path("data/raw")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MADE_HERE = "phantom"
_SHOWN = 5


def add_dataset(name: str, source: Path, raw: Path = RAW) -> Path:
    """Copy a folder to ``raw/name`` and put it under DVC; returns ``raw/name``.

    The source is only read. Files are copied, never hard-linked: with ``cache.type hardlink``,
    ``dvc add`` makes its files read-only, and through a shared inode the source would be too.

    Raises:
        DatasetError: a name that params.yaml would not take, one that exists already, a source
            that is missing, empty, or holds links, FIFOs or undecodable names; ``dvc add`` failed.
    """
    target = raw / name
    _check_name(name, target)
    _check_source(source, target)
    copy_tree(source, target)
    track_with_dvc(target)
    return target


def copy_tree(source: Path, target: Path) -> None:
    """Copy every file below ``source``, all or nothing.

    Raises:
        DatasetError: nothing to copy, or something that is no regular file, by name.
    """
    files, refused = find_files(source)
    if refused:
        lines = [f"  {row.subject}: {row.found}. {row.advice}" for row in refused[:_SHOWN]]
        more = len(refused) - len(lines)
        lines += [f"  and {more} more"] if more > 0 else []
        raise DatasetError(
            "\n".join([f"{source}: {len(refused)} entries cannot be added:", *lines])
        )
    if not files:
        raise DatasetError(f"{source}: holds no files. Name the folder that holds the data set.")
    with atomic_folder(target) as folder:
        for file in track(files, "copying"):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            _copy(source / file, folder / file)


def track_with_dvc(target: Path) -> None:
    """Run ``dvc add``.

    Raises:
        DatasetError: it failed; the copied files stay.
    """
    done = subprocess.run([sys.executable, "-m", "dvc", "add", str(target)], check=False)
    if done.returncode:
        raise DatasetError(
            f"{target}: the files are there, but `dvc add {target}` failed. Mend what it says and "
            "run that command again."
        )


def _check_name(name: str, target: Path) -> None:
    if not _NAME.fullmatch(name):
        raise DatasetError(
            f"{name!r}: not a name for a data set; use letters, digits, - and _, at most 64."
        )
    if name == _MADE_HERE:
        raise DatasetError(f"{name!r} is made by the phantom stage. Choose another name.")
    if os.path.lexists(target) or os.path.lexists(f"{target}.dvc"):
        raise DatasetError(
            f"{target}: exists already and is not overwritten. Choose another name, or remove it "
            f"with `dvc remove {target}.dvc` and `rm -r {target}`."
        )


def _check_source(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise DatasetError(f"{source}: not a folder. Name the folder that holds the data set.")
    inside, outside = target.resolve(), source.resolve()
    if inside.is_relative_to(outside) or outside.is_relative_to(inside.parent):
        raise DatasetError(f"{source}: lies around or in {target.parent}. Add a folder elsewhere.")


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise DatasetError(
            f"{source}: cannot be copied: {error.strerror}. Nothing was added."
        ) from error
