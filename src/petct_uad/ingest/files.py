"""Which files lie in a folder that somebody hands in, and which of them may be opened."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath

from petct_uad.core.archives import SUFFIX, is_archive, member_path, read_members
from petct_uad.core.errors import ArchiveError, RejectedInputError, UnreadableFileError
from petct_uad.ingest.found import FoundRejection
from petct_uad.ingest.rejections import FORMULA, printable, rejected_row

# DVC with cache.type symlink turns every file of the workspace into such a link.
_DVC_CACHE_OBJECT = re.compile(r".*/files/md5/[0-9a-f]{2}/[0-9a-f]{30}")


def find_files(raw: Path) -> tuple[list[str], list[FoundRejection]]:
    """Regular files below ``raw`` as sorted POSIX paths, and what is refused by its kind or name.

    Folders behind symbolic links are never entered; a link to a file counts only when it points
    into a DVC cache.
    """
    files: list[str] = []
    rejected: list[FoundRejection] = []
    for folder, name in _walk(raw, rejected):
        try:
            check_kind(raw / name, name, folder)
        except RejectedInputError as error:
            rejected.append(rejected_row(error))
        else:
            files.append(name)
    return sorted(files), rejected


def find_inputs(raw: Path) -> tuple[list[str], list[FoundRejection]]:
    """As :func:`find_files`, with the members of archives in place of the archives."""
    files, rejected = find_files(raw)
    found: list[str] = []
    for file in files:
        try:
            packed = file.lower().endswith(SUFFIX) and is_archive(raw / file)
            found += _members(raw, file) if packed else [file]
        except RejectedInputError as error:
            rejected.append(rejected_row(error))
    return sorted(found), rejected


def _members(raw: Path, archive: str) -> list[str]:
    """What lies in an archive, by the paths that it is read under."""
    try:
        names = [member_path(archive, name) for name in read_members(raw / archive)]
    except (ArchiveError, OSError) as error:
        raise _bad_archive(archive, str(error)) from error
    beside = next((name for name in names if os.path.lexists(raw / name)), None)
    if beside is not None:
        raise _bad_archive(archive, f"{beside} beside it, which is the name of a member")
    return names


def _bad_archive(archive: str, found: str) -> UnreadableFileError:
    return UnreadableFileError(
        archive,
        found=printable(found),
        expected="an archive as `petct add --pack` writes it: plain members, stored uncompressed",
        advice="Unpack it elsewhere, look at what it holds, and add that folder with "
        "`petct add --pack`.",
    )


def check_kind(path: Path, name: str, folder: bool) -> None:
    """Refuse what is not a plain file with a UTF-8 name.

    Raises:
        UnreadableFileError: a symbolic link, FIFO, socket or device, or an undecodable name.
    """
    refuse = UnreadableFileError
    if not name.isprintable() or name[0] in FORMULA:
        raise refuse(printable(name), found="a name that is not UTF-8, holds control characters or "
                     "would be a formula in a spreadsheet",
                     expected="a plain UTF-8 name", advice="Rename the file.")  # fmt: skip
    mode = path.lstat().st_mode
    if folder or stat.S_ISLNK(mode):
        target = path.readlink()
        if folder or not _DVC_CACHE_OBJECT.fullmatch(os.path.realpath(path)):
            raise refuse(printable(name), found=f"a symbolic link to {printable(str(target))}",
                         expected="a regular file or folder",
                         advice="Replace the link by what it points to.")  # fmt: skip
    elif not stat.S_ISREG(mode):
        raise refuse(printable(name), found="a FIFO, socket or device",
                     expected="a regular file", advice="Remove it from the data set.")  # fmt: skip


def _walk(raw: Path, rejected: list[FoundRejection]) -> Iterator[tuple[bool, str]]:
    """Each file (False) and each symbolic link to a folder (True), by its name below ``raw``."""

    def refuse(error: OSError) -> None:
        name = os.path.relpath(error.filename, raw)
        found = error.strerror or "an unreadable folder"
        advice = "Check the permissions."
        rejected.append(
            FoundRejection(printable(name), "unreadable", found, "a readable folder", advice)
        )

    for folder, names, files in os.walk(raw, onerror=refuse):
        below = PurePath(folder).relative_to(raw).as_posix()
        start = "" if below == "." else f"{below}/"
        yield from ((False, start + file) for file in files)
        yield from ((True, start + n) for n in names if Path(folder, n).is_symlink())
