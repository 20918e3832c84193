"""pydicom, where no file is believed: bounded, quiet, and every value decoded once per process."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from pydicom import dcmread, filereader, uid
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag

from petct_uad.core.archives import find_extent

_READ_WHOLE = 1 << 26
_MOST_KNOWN = 1 << 14
_LONGEST_KNOWN = 256
# The files of a series say the same: decoded once, they are read in half the time and share their
# values.
_KNOWN: dict[tuple[object, ...], object] = {}
# Not deflated, little endian, and no guess needed.
_AS_IT_STANDS = {*uid.AllTransferSyntaxes} - {
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
}
_PIXELS = {0x7FE00008, 0x7FE00009, 0x7FE00010}  # as float, as double, as integers

Known = TypeVar("Known")


class BoundedReader(io.BufferedReader):
    """A file that never asks for more memory than it has bytes.

    pydicom reads as much as an element claims to hold, and Python makes room for it beforehand:
    four wrong bytes would cost 4 GiB.
    """

    def __init__(self, path: Path) -> None:
        extent = find_extent(path)
        super().__init__(extent.raw())
        self._size = extent.size

    def read(self, size: int | None = -1, /) -> bytes:
        """Read ``size`` bytes or what is left; all of it without a size."""
        if size is not None and size > io.DEFAULT_BUFFER_SIZE:
            size = max(0, min(size, self._size - self.tell()))
        return super().read(size)


def opened(path: Path) -> BinaryIO:
    """A file in memory, where pydicom's many small reads are fast; from the disk if it is large.

    Raises:
        ArchiveError: a member of an archive that is damaged.
    """
    extent = find_extent(path)
    return BytesIO(extent.read()) if extent.size <= _READ_WHOLE else BoundedReader(path)


def read_dataset(path: Path, pixels: bool = False) -> FileDataset:
    """Read a DICOM file without pydicom's warnings on every odd value."""
    with warnings.catch_warnings(), opened(path) as stream:
        warnings.simplefilter("ignore")
        return dcmread(stream, stop_before_pixels=not pixels)


def read_meta(stream: BinaryIO) -> Dataset:
    """The file meta information (PS3.10, 7.1) at the start of a file, without what follows it.

    Raises:
        InvalidDicomError: no preamble, or any other of pydicom's errors.
    """
    stream.seek(0)
    filereader.read_preamble(stream, False)
    return filereader.read_dataset(
        stream, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2
    )


def read_tags(stream: BinaryIO, meta: Dataset, tags: Sequence[int]) -> Dataset:
    """Some elements of what follows ``read_meta``; the stream then stands before any pixels."""
    syntax = meta.get("TransferSyntaxUID")
    if syntax in _AS_IT_STANDS:
        implicit = syntax == uid.ImplicitVRLittleEndian
        return filereader.read_dataset(
            stream, implicit, True, stop_when=_at_pixels, specific_tags=list(tags)
        )
    stream.seek(0)
    # dcmread would look up every tag again for every file.
    return filereader.read_partial(stream, _at_pixels, specific_tags=list(tags))


@cache
def tag_of(keyword: str) -> BaseTag:
    """The tag of a keyword; pydicom looks it up anew for every element of every file."""
    return Tag(keyword)


def of_element(
    dataset: Dataset, keyword: str, convert: Callable[[Dataset, BaseTag], Known]
) -> Known | None:
    """What ``convert`` makes of an element, one object for all files that say the same; or None."""
    tag = tag_of(keyword)
    return _remembered(dataset, tag, convert) if tag in dataset else None


def values(dataset: Dataset, keyword: str) -> tuple[Any, ...]:
    """The values of an element as a tuple, empty where it is absent or empty."""
    return of_element(dataset, keyword, element_values) or ()


def element_values(dataset: Dataset, tag: BaseTag) -> tuple[Any, ...]:
    """The values of an element that is there, as a tuple, empty where it is empty."""
    value = dataset[tag].value
    if value is None or value == "":
        return ()
    return tuple(value) if isinstance(value, (list, MultiValue)) else (value,)


def _remembered(
    dataset: Dataset, tag: BaseTag, convert: Callable[[Dataset, BaseTag], Known]
) -> Known:
    """What ``convert`` makes of an element that is there: once for all that hold the same bytes."""
    raw = dataset.get_item(tag, keep_deferred=True)
    if not isinstance(raw, RawDataElement) or raw.length > _LONGEST_KNOWN:
        return convert(dataset, tag)
    charset = dataset.original_character_set
    encodings = charset if isinstance(charset, str) else tuple(charset or ())
    key = (convert, *raw[:4], *raw[5:7], encodings)
    if key not in _KNOWN:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[key] = convert(dataset, tag)
    return cast(Known, _KNOWN[key])


def _at_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag in _PIXELS
