"""Where a command writes, if the user says it: refused before any work if it cannot be.

Callbacks of typer, for every option or argument that names what is written.
"""

from __future__ import annotations

from pathlib import Path

import typer


def out_file(path: Path | None) -> Path | None:
    """A file to write or to replace.

    Raises:
        BadParameter: it is a folder, or it would lie below a file.
    """
    if path is not None:
        if path.is_dir():
            raise typer.BadParameter(f"{path} is a folder. Name a file.")
        _refuse_below_a_file(path)
    return path


def out_folder(path: Path) -> Path:
    """A folder to write into or to replace.

    Raises:
        BadParameter: it is a file, or it would lie below one.
    """
    if path.exists() and not path.is_dir():
        raise typer.BadParameter(f"{path} is a file. Name a folder.")
    _refuse_below_a_file(path)
    return path


def pages_folder(path: Path) -> Path:
    """A folder of pages, which is replaced whole.

    Raises:
        BadParameter: it cannot be one, or it holds anything but pages.
    """
    out_folder(path)
    others = (
        [item.name for item in path.iterdir() if item.suffix != ".html"] if path.is_dir() else []
    )
    if others:
        raise typer.BadParameter(
            f"{path} would be replaced, and holds {min(others)}. Name a new folder, or one that "
            "holds pages only."
        )
    return path


def _refuse_below_a_file(path: Path) -> None:
    for folder in path.parents:
        if folder.exists() and not folder.is_dir():
            raise typer.BadParameter(f"{folder} is a file, so nothing can lie below it.")
