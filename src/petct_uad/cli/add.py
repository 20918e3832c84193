"""Bringing a folder of whatever kind into the repository: ``petct add``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.misc import is_dicom

from petct_uad.core.archives import (
    SUFFIX,
    find_extent,
    is_archive,
    member_path,
    read_members,
    write_archive,
)
from petct_uad.core.console import track
from petct_uad.core.errors import ArchiveError, DatasetError
from petct_uad.core.files import atomic_folder, sha256_file
from petct_uad.ingest.files import find_files
from petct_uad.ingest.run import ACCEPTED, READERS, whose_file

RAW = Path("data/raw")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MADE_HERE = "phantom"
_SHOWN = 5


@dataclass(frozen=True)
class Added:
    """What became of a folder that was handed in.

    Attributes:
        target: the data set.
        new: files or archives that were not there.
        extended: archives of studies that have more files than before.
        known: how many files were there already, with the same bytes.
    """

    target: Path
    new: tuple[str, ...]
    extended: tuple[str, ...]
    known: int


@dataclass(frozen=True, order=True)
class _Piece:
    """A file of the data set that may be written.

    Attributes:
        name: below the data set.
        files: what it is made of: an archive of its members, a loose file of itself alone.
        packed: is it an archive that is made here?
    """

    name: str
    files: tuple[tuple[str, Path], ...]
    packed: bool


def add_dataset(name: str, source: Path, raw: Path = RAW, *, pack: bool = False) -> Added:
    """Copy a folder to ``raw/name`` and put it under DVC; a data set that is there gets the rest.

    The source is only read. Files are copied, never hard-linked: with ``cache.type hardlink``,
    ``dvc add`` makes its files read-only, and through a shared inode the source would be too.

    Args:
        name: of the data set.
        source: any folder tree.
        raw: where data sets lie.
        pack: put each study of DICOM into one archive, ``<StudyInstanceUID>.zip``, whose bytes
            follow from its files alone. A data set that is packed stays so without it.

    Raises:
        DatasetError: a name that params.yaml would not take; a file that is there with other bytes;
            a source that is missing, empty, or holds links, FIFOs or undecodable names; a new data
            set without DICOM or pictures; one whose files are loose, for ``pack``; ``dvc add``
            failed.
    """
    target = raw / name
    _check_name(name, target)
    _check_source(source, target)
    files = _files(source)
    if not target.is_dir():
        _check_kind(source, files)
    pieces = _pieces(source, target, files, pack)
    writes, added = _compare(target, pieces)
    put_in_place(target, writes)
    track_with_dvc(target)
    return added


def put_in_place(target: Path, pieces: Sequence[_Piece]) -> None:
    """Write pieces of a data set: a new one all or nothing, else each whole or not at all."""
    if not target.is_dir():
        with atomic_folder(target) as folder:
            _write(folder, pieces)
        return
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".tmp-") as name:
        _write(Path(name), pieces)
        for piece in pieces:
            (target / piece.name).parent.mkdir(parents=True, exist_ok=True)
            Path(name, piece.name).replace(target / piece.name)


def track_with_dvc(target: Path) -> None:
    """Run ``dvc add``, whose advice on git is not shown: whoever calls says what comes next.

    Raises:
        DatasetError: it failed; the copied files stay.
    """
    command = [sys.executable, "-m", "dvc", "add", str(target)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:  # why, DVC has said on standard error
        raise DatasetError(
            f"{target}: the files are there, but `dvc add {target}` failed. Fix what it says and "
            "run that command again."
        )


def _files(source: Path) -> list[str]:
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
    return files


def _check_kind(source: Path, files: Sequence[str]) -> None:
    """A data set that is there may get a table alone; a new one begins with what can be read."""
    *others, _ = READERS  # the last, of DICOM, takes what nobody else knows
    if any(reader.recognises(source) for reader in others):
        return
    if not any(_is_dicom(source / file) or is_archive(source / file) for file in files):
        raise DatasetError(
            f"{source}: none of its {len(files):,} files is DICOM, and its folders are no layout "
            f"of pictures (docs/image_benchmarks.md). Name a folder that holds {ACCEPTED}; nothing "
            "was added."
        )


def _is_dicom(path: Path) -> bool:
    try:
        return bool(is_dicom(path))
    except OSError:  # why, the copying will say
        return True


def _pieces(source: Path, target: Path, files: Sequence[str], pack: bool) -> list[_Piece]:
    there = sorted(target.iterdir()) if target.is_dir() else []
    packed = any(is_archive(path) for path in there)
    if pack and there and not packed:
        raise DatasetError(
            f"{target}: its files are loose. Add to it without --pack, or add all of it under "
            "another name with --pack."
        )
    if not (pack or packed):
        return [_loose(source, file) for file in files]
    pieces = list(_by_study(source, files))
    if not packed and not any(piece.packed or is_archive(source / piece.name) for piece in pieces):
        raise DatasetError(f"{source}: holds no DICOM file to be packed. Add it without --pack.")
    _check_names(source, pieces)
    return pieces


def _check_names(source: Path, pieces: Sequence[_Piece]) -> None:
    """An archive that is handed in may have the name of one that would be made."""
    twice = [name for name, count in Counter(piece.name for piece in pieces).items() if count > 1]
    if twice:
        raise DatasetError(
            f"{source}: {twice[0]} is there, and loose files of the same study are too. Add the "
            "archives alone first, then the loose files."
        )


def _loose(source: Path, file: str) -> _Piece:
    return _Piece(file, ((file, source / file),), packed=False)


def _by_study(source: Path, files: Sequence[str]) -> Iterator[_Piece]:
    """An archive per study; what is of no study, such as a table, stays a file."""
    studies: dict[str, list[str]] = defaultdict(list)
    for file in track(files, "looking for studies"):
        if uid := whose_file(source / file).study:
            studies[uid].append(file)
        else:
            yield _loose(source, file)
    for uid, members in sorted(studies.items()):
        yield _Piece(uid + SUFFIX, tuple((x, source / x) for x in sorted(members)), packed=True)


def _compare(target: Path, pieces: Sequence[_Piece]) -> tuple[list[_Piece], Added]:
    """What must be written so that the data set holds all, and what is there already."""
    writes: list[_Piece] = []
    extended: list[str] = []
    known = 0
    for piece in track(pieces, "comparing"):
        path = target / piece.name
        if not path.exists():
            writes.append(piece)
            continue
        fresh = _fresh(path, piece)
        known += len(piece.files) - len(fresh)
        if fresh:
            writes.append(_extended(path, piece, fresh))
            extended.append(piece.name)
    new = tuple(piece.name for piece in writes if piece.name not in extended)
    return writes, Added(target, new, tuple(extended), known)


def _fresh(path: Path, piece: _Piece) -> tuple[tuple[str, Path], ...]:
    """The files of a piece that the data set lacks.

    Raises:
        DatasetError: it has a file of that name with other bytes, or an archive that is damaged.
    """
    try:
        there = _members(path) if piece.packed else {piece.name: path}
        digests = {sha256_file(file) for file in there.values()}
    except (OSError, ArchiveError) as error:
        raise DatasetError(
            f"{path}: {error}. Restore it with `dvc checkout --force {path.parent}`; nothing was "
            "added."
        ) from error
    fresh = tuple(item for item in piece.files if sha256_file(item[1]) not in digests)
    taken = [name for name, _ in fresh if name in there]
    if taken:
        raise DatasetError(
            f"{path}: {taken[0]} is there with other bytes and is not overwritten; nothing was "
            "added. Rename the new file, or put it there by hand and run "
            f"`dvc add {path.parent}`."
        )
    return fresh


def _members(archive: Path) -> dict[str, Path]:
    names = read_members(archive)
    return {name: archive.parent / member_path(archive.name, name) for name in names}


def _extended(path: Path, piece: _Piece, fresh: tuple[tuple[str, Path], ...]) -> _Piece:
    return replace(piece, files=tuple(sorted((_members(path) | dict(fresh)).items())))


def _write(folder: Path, pieces: Sequence[_Piece]) -> None:
    if not pieces:
        return
    for piece in track(pieces, "packing" if any(x.packed for x in pieces) else "copying"):
        path = folder / piece.name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if piece.packed:
                write_archive(path, piece.files)
            else:
                shutil.copyfile(find_extent(piece.files[0][1]).file, path)
        except (OSError, ArchiveError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise DatasetError(
                f"{piece.files[0][1]}: cannot be copied: {why}. Nothing was added."
            ) from error


def _check_name(name: str, target: Path) -> None:
    if not _NAME.fullmatch(name):
        raise DatasetError(
            f"{name!r}: not a name for a data set; use letters, digits, - and _, at most 64."
        )
    if name == _MADE_HERE:
        raise DatasetError(f"{name!r} is made by the phantom stage. Choose another name.")
    if os.path.lexists(target) and (target.is_symlink() or not target.is_dir()):
        raise DatasetError(f"{target}: exists and is no folder. Choose another name.")
    if os.path.lexists(f"{target}.dvc") and not target.is_dir():
        raise DatasetError(
            f"{target}: DVC has files of it that are not here. Get them with `dvc pull {target}`, "
            "then add to them."
        )


def _check_source(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise DatasetError(f"{source}: not a folder. Name the folder that holds the data set.")
    inside, outside = target.resolve(), source.resolve()
    if inside.is_relative_to(outside) or outside.is_relative_to(inside.parent):
        raise DatasetError(f"{source}: lies around or in {target.parent}. Add a folder elsewhere.")
