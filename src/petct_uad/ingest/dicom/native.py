"""Pixels that need no decoder: where they lie in their file, and what turns them into values.

Most slices of CT and PET are plain: one frame, uncompressed, nothing missing. Their place is noted
while the header is read, so that such a file is parsed once. Every other slice has no
``NativePixels`` and goes the long way through pydicom's decoders, which also names what is wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator

from petct_uad.core.archives import find_extent
from petct_uad.ingest.dicom.parsing import values

IMAGE_KEYWORDS = (
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "RescaleIntercept", "RescaleSlope", "RescaleType",
    "LossyImageCompression",
)  # fmt: skip
_PIXEL_DATA = 0x7FE00010
_PLAIN = {uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian}


@dataclass(frozen=True, slots=True)
class NativePixels:
    """One plain slice of (rows, columns) values."""

    at: int  # bytes from the start of the file
    rows: int
    columns: int
    dtype: str  # numpy's, such as "<i2"
    unused_bits: int  # Bits Allocated (0028,0100) less Bits Stored (0028,0101)
    slope: float
    intercept: float
    padding: tuple[int, int] | None  # both ends, as stored
    lossy: bool


def find_native(dataset: Dataset, stream: BinaryIO, syntax: str) -> NativePixels | None:
    """Where a file's pixels are; None unless all that its volume needs is there and regular.

    Args:
        dataset: the file's ``IMAGE_KEYWORDS`` at least.
        stream: the file, before its Pixel Data (7FE0,0010).
        syntax: its Transfer Syntax UID.
    """
    # Whatever is odd is named by the long way.
    try:
        return _native(dataset, stream, syntax) if syntax in _PLAIN else None
    except Exception:
        return None


def read_native(path: Path, pixels: NativePixels) -> NDArray[np.integer[Any]]:
    """The stored values (rows, columns); fewer than that raises ValueError."""
    shape = pixels.rows, pixels.columns
    extent = find_extent(path)
    at = extent.start + pixels.at
    stored = np.fromfile(extent.file, pixels.dtype, math.prod(shape), offset=at).reshape(shape)
    if pixels.unused_bits:
        stored <<= pixels.unused_bits
        stored >>= pixels.unused_bits
    return stored


def padding_ends(dataset: Dataset, kind: np.dtype[Any]) -> tuple[int, int] | None:
    """Values that mean no measurement: (0028,0120) to (0028,0121), both included, as stored."""
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    limit = limit if isinstance(limit, int) else value
    low, high = sorted(_as_stored(end, kind) for end in (value, limit))
    return low, high


def _native(dataset: Dataset, stream: BinaryIO, syntax: str) -> NativePixels | None:
    rows, columns, allocated, stored, signed, samples = (
        int(_only(dataset, keyword))
        for keyword in (
            "Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation",
            "SamplesPerPixel",
        )
    )  # fmt: skip
    slope, intercept = (float(_only(dataset, f"Rescale{name}")) for name in ("Slope", "Intercept"))
    kind = np.dtype(f"<{'ui'[signed]}{allocated // 8}")
    implicit = syntax == uid.ImplicitVRLittleEndian
    element = next(data_element_generator(stream, implicit, True, defer_size=0))
    size = rows * columns * kind.itemsize
    regular = (
        element.tag == _PIXEL_DATA
        and element.length == size + size % 2
        and stream.seek(0, 2) >= element.value_tell + element.length
        and 0 < stored <= allocated == 8 * kind.itemsize <= 32
        and samples == 1
        and _only(dataset, "PhotometricInterpretation") == "MONOCHROME2"
        and (values(dataset, "NumberOfFrames") or (1,)) == (1,)
        and _in_hu_or_pet(dataset)
        and math.isfinite(slope) and math.isfinite(intercept) and slope > 0
    )  # fmt: skip
    if not regular:
        return None
    return NativePixels(
        at=element.value_tell,
        rows=rows,
        columns=columns,
        dtype=kind.str,
        unused_bits=allocated - stored,
        slope=slope,
        intercept=intercept,
        padding=padding_ends(dataset, kind),
        lossy=values(dataset, "LossyImageCompression") == ("01",),
    )


def _in_hu_or_pet(dataset: Dataset) -> bool:
    hu = (values(dataset, "RescaleType") or ("HU",)) == ("HU",)
    return hu or values(dataset, "Modality") == ("PT",)


def _only(dataset: Dataset, keyword: str) -> Any:
    (value,) = values(dataset, keyword)
    return value


def _as_stored(value: int, kind: np.dtype[Any]) -> int:
    """Vendors write -2000 as 63536 (US), or the other way round: the bits are what counts."""
    bits = np.array(value % (1 << 8 * kind.itemsize), f"u{kind.itemsize}")
    return int(bits.view(kind))
