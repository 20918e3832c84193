"""A ZIP archive whose members are stored as they are, so that each is a run of bytes of one file.

``study.zip!/CT/1.dcm`` names the member ``CT/1.dcm`` of ``study.zip``: functions that read raw data
take such a path as that of a file. An archive is read only if it is plain: what could be damaged,
hidden or larger than it looks refuses it whole (APPNOTE.TXT of PKWARE, 4.3 and 4.4).
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from petct_uad.core.errors import ArchiveError

SUFFIX = ".zip"
INSIDE = "!"  # after the archive's name, as in a jar: URL

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that the format can tell: the same of each member
_REGULAR_FILE = 0o100644 << 16
_UNIX = 3
_LOCAL = struct.Struct("<4s5H3L2H")  # the header in front of a member's bytes
_LOCAL_MAGIC, _EMPTY_MAGIC = b"PK\3\4", b"PK\5\6"
_ENCRYPTED, _UTF8 = 0x1, 0x800
_LARGEST_DIRECTORY = 1 << 24  # bytes: 100,000 members
_PIECE = 1 << 20


@dataclass(frozen=True)
class Extent:
    """Where the bytes of a file or of a member of an archive lie.

    Attributes:
        file: that holds them.
        start: of the first byte.
        size: in bytes.
        crc32: of a member; None of a file.
    """

    file: Path
    start: int
    size: int
    crc32: int | None = None

    def read(self) -> bytes:
        """All of it.

        Raises:
            ArchiveError: a member that is not what was stored.
        """
        with self.file.open("rb") as stream:
            stream.seek(self.start)
            content = stream.read(self.size)
        if self.crc32 is not None and zlib.crc32(content) != self.crc32:
            raise ArchiveError("its bytes do not have the CRC-32 that they were stored with")
        return content

    def raw(self) -> io.RawIOBase:
        """An unbuffered stream over it."""
        return io.FileIO(self.file) if self.crc32 is None else _Window(self)

    def open(self) -> BinaryIO:
        """A stream over it that holds no more than a buffer."""
        return io.BufferedReader(self.raw())


class _Window(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, extent: Extent) -> None:
        self._extent, self._at = extent, 0
        self._file = io.FileIO(extent.file)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._extent.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        size = min(len(buffer), max(0, self._extent.size - self._at))
        place = self._extent.start + self._at
        count = os.preadv(self._file.fileno(), [memoryview(buffer)[:size]], place)
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class _Cautious(io.BufferedReader):
    """Whoever reads the directory of an archive makes room for what it claims to hold."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _LARGEST_DIRECTORY:
            raise ArchiveError(f"a directory of {size} bytes; at most {_LARGEST_DIRECTORY}")
        return super().read(size)


def is_archive(path: Path) -> bool:
    """Is it named and does it begin like one?"""
    if path.suffix.lower() != SUFFIX or not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(4) in {_LOCAL_MAGIC, _EMPTY_MAGIC}


def member_path(archive: str, member: str) -> str:
    """The path of a member, by that of its archive."""
    return f"{archive}{INSIDE}/{member}"


def archive_of(path: Path) -> Path | None:
    """The archive that a member's path names; None where it names no member."""
    for folder in path.parents:
        if folder.name.lower().endswith(SUFFIX + INSIDE):
            archive = folder.with_name(folder.name.removesuffix(INSIDE))
            return archive if archive.is_file() else None
    return None


def find_extent(path: Path) -> Extent:
    """Where the bytes of a file or of a member lie.

    Raises:
        FileNotFoundError: there is none, or what has the name is no file: a pipe waits for ever.
        ArchiveError: the archive cannot be read.
    """
    try:
        seen = path.stat()
    except OSError:
        archive = None if os.path.lexists(path) else archive_of(path)
        if archive is None:
            raise
    else:
        if not stat.S_ISREG(seen.st_mode):
            raise FileNotFoundError(f"{path}: is no file")
        return Extent(path, 0, seen.st_size)
    name = path.relative_to(archive.with_name(archive.name + INSIDE)).as_posix()
    extent = read_members(archive).get(name)
    if extent is None:
        raise FileNotFoundError(f"{archive}: holds no {name}")
    return extent


def exists(path: Path) -> bool:
    """Is there a file, or a member of an archive?"""
    try:
        find_extent(path)
    except (OSError, ArchiveError):
        return False
    return True


def read_members(archive: Path) -> Mapping[str, Extent]:
    """Where each member lies, by its name, sorted.

    Raises:
        OSError: it cannot be opened.
        ArchiveError: it is no plain archive; says why.
    """
    seen = archive.stat()
    return _members(archive, seen.st_ino, seen.st_size, seen.st_mtime_ns)


@lru_cache(64)
def _members(archive: Path, _inode: int, size: int, _changed_ns: int) -> Mapping[str, Extent]:
    with _Cautious(io.FileIO(archive)) as stream:
        try:
            with zipfile.ZipFile(stream) as opened:
                told, end = opened.infolist(), opened.start_dir
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            raise ArchiveError(f"cut short or no ZIP archive ({error})") from error
        for info in told:
            _check_member(info)
        found = {x.filename: _extent(archive, stream, x) for x in told if not x.is_dir()}
    if len(found) < sum(not x.is_dir() for x in told):
        raise ArchiveError("two members of one name")
    _check_apart(found, min(end, size))
    return dict(sorted(found.items()))


def _check_member(info: zipfile.ZipInfo) -> None:
    """Refuse what could lie elsewhere, be something else or be larger than it looks."""
    name = info.orig_filename
    parts = PurePosixPath(name).parts
    reasons = {
        "a name that leads out of the archive": name.startswith("/")
        or ".." in parts
        or "\\" in name
        or ":" in name[1:2],
        "a name that is not plain text": not name.isprintable() or name != info.filename,
        "a name that no file system would give it": not info.is_dir()
        and (not parts or name != "/".join(parts)),
        "encrypted": bool(info.flag_bits & _ENCRYPTED),
        "compressed": info.compress_type != zipfile.ZIP_STORED
        or info.compress_size != info.file_size,
        "an archive in an archive": name.lower().endswith(SUFFIX),
        "a folder with bytes of its own": info.is_dir() and info.file_size > 0,
    }
    for reason, holds in reasons.items():
        if holds:
            raise ArchiveError(f"member {name!r}: {reason}")


def _extent(archive: Path, stream: BinaryIO, info: zipfile.ZipInfo) -> Extent:
    """By the header in front of the bytes, which must say the same as the directory."""
    stream.seek(info.header_offset)
    header = stream.read(_LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(_LOCAL_MAGIC):
        raise ArchiveError(f"member {info.filename!r}: not where the directory has it")
    _, _, flags, method, *_, name_bytes, extra_bytes = _LOCAL.unpack(header)
    name = stream.read(name_bytes).decode("utf-8" if flags & _UTF8 else "cp437", "replace")
    if name != info.filename or method != zipfile.ZIP_STORED or flags & _ENCRYPTED:
        raise ArchiveError(f"member {info.filename!r}: its own header says something else")
    start = info.header_offset + _LOCAL.size + name_bytes + extra_bytes
    return Extent(archive, start, info.file_size, info.CRC)


def _check_apart(found: Mapping[str, Extent], end: int) -> None:
    """No two members share bytes, and all lie before the directory."""
    placed = sorted((x.start, x.start + x.size, name) for name, x in found.items())
    for (_, stop, name), (start, _, other) in pairwise(placed):
        if start < stop:
            raise ArchiveError(f"members {name!r} and {other!r} share bytes")
    if placed and placed[-1][1] > end:
        raise ArchiveError(f"member {placed[-1][2]!r}: ends behind the directory")


def write_archive(path: Path, members: Iterable[tuple[str, Path]]) -> None:
    """Write files, or members of other archives, as an archive: the same files, the same bytes.

    Args:
        path: is replaced; the caller makes that atomic.
        members: name in the archive, and whose bytes.

    Raises:
        OSError: one cannot be read.
        ArchiveError: one lies in an archive that is damaged.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, source in sorted(members):
            extent = find_extent(source)
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr, info.create_system = _REGULAR_FILE, _UNIX
            info.file_size = extent.size
            with extent.open() as read, archive.open(info, "w") as written:
                shutil.copyfileobj(read, written, _PIECE)
            if extent.crc32 not in {None, info.CRC}:
                raise ArchiveError(f"{source}: its bytes do not have the CRC-32 of their archive")
