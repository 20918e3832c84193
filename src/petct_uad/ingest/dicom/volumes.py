"""Pixels of a stack of slices as HU or SUVbw."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import pixel_array

from petct_uad.core.errors import PixelError, RejectedInputError, UnitsError
from petct_uad.core.volumes import AIR_HU
from petct_uad.ingest.dicom.geometry import Stack
from petct_uad.ingest.dicom.header import Header
from petct_uad.ingest.dicom.multiframe import frame_attributes, read_as_single_frame_pet
from petct_uad.ingest.dicom.native import NativePixels, padding_ends, read_native
from petct_uad.ingest.dicom.parsing import read_dataset
from petct_uad.ingest.dicom.pet_header import PetHeader, read_pet_header
from petct_uad.ingest.dicom.suv import DEFAULT_OPTIONS, SuvBasis, SuvOptions, suv_conversion
from petct_uad.ingest.rejections import printable

_INT16 = np.iinfo(np.int16)
_MOST_HU = 1 << 20  # of an intercept that int32 has room for
_JPEG = {*uid.JPEGTransferSyntaxes, *uid.JPEGLSTransferSyntaxes, *uid.JPEG2000TransferSyntaxes}
_END_OF_IMAGE = b"\xff\xd9"  # of every JPEG, JPEG-LS and JPEG 2000 codestream


@dataclass(frozen=True)
class Volume:
    """An image on the native grid of its slices, and what had to be handled."""

    stack: Stack
    image: sitk.Image
    notes: tuple[str, ...]
    suv: SuvBasis | None = None  # of a PET
    averaged: tuple[Stack, ...] = ()  # the frames of a PET that is the mean of several

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """Every stack that went into it."""
        return self.averaged or (self.stack,)


@dataclass(frozen=True)
class _Slice:
    """One slice as it is in its file."""

    place: int  # along the normal, in its stack
    header: Header
    stored: NDArray[np.integer[Any]]  # (rows, columns)
    slope: float
    intercept: float
    padding: tuple[int, int] | None  # both ends, as stored
    lossy: bool
    pet: PetHeader | None

    @property
    def rescaled(self) -> NDArray[np.float64]:
        return self.stored.astype(np.float64) * self.slope + self.intercept

    @property
    def rounded(self) -> NDArray[np.float64] | NDArray[np.int32]:
        """Rescaled, to the nearest integer."""
        whole = self.slope == 1 and self.intercept.is_integer() and abs(self.intercept) < _MOST_HU
        if whole and self.stored.dtype.itemsize <= 2:  # most CTs: the same, in a third of the time
            return self.stored.astype(np.int32) + np.int32(self.intercept)
        return np.rint(self.rescaled)

    @property
    def padded(self) -> NDArray[np.bool_] | None:
        if self.padding is None:
            return None
        low, high = self.padding
        return np.asarray((self.stored >= low) & (self.stored <= high))


def read_ct(raw: Path, stack: Stack) -> Volume:
    """HU as int16 (z, y, x) on the CT's own grid; padding becomes -1024.

    Raises:
        UnitsError: no rescale, a rescale type other than HU, or values beyond int16.
        PixelError: pixels that cannot be decoded, or a constant image.
    """
    array = np.empty(stack.grid.size[::-1], np.int16)
    padded, lossy = 0, 0
    for item in _slices(raw, stack):
        lossy += item.lossy
        values = item.rounded
        padding = item.padded
        if padding is not None:
            values[padding] = AIR_HU
            padded += int(padding.sum())
        _check_int16(item.header, values)
        array[item.place] = values
    _check_not_constant(stack, array)
    notes = [f"{padded} padding voxels of the CT set to {AIR_HU} HU"] if padded else []
    notes += [_lossy_note("CT", lossy)] if lossy else []
    return Volume(stack, stack.grid.image(array), tuple(notes))


def read_pet(
    raw: Path,
    stack: Stack,
    options: SuvOptions = DEFAULT_OPTIONS,
    others: Sequence[PetHeader] = (),
) -> Volume:
    """SUV as float32 (z, y, x) on the PET's own grid, rescaled slice by slice; padding becomes 0.

    Args:
        others: of a frame or a gate, what the other images of its series say: the time to which
            decay is corrected is that of the whole series.

    Raises:
        UnitsError: the SUV cannot be computed from the headers.
        PixelError: pixels that cannot be decoded or are not finite, or a constant image.
    """
    # All headers come before the first voxel: the factor of one slice depends on the others' times.
    slices = sorted(_slices(raw, stack), key=lambda item: item.place)
    pets = [item.pet for item in slices if item.pet is not None]
    found = suv_conversion([*pets, *others], options)
    array = np.empty(stack.grid.size[::-1], np.float32)
    padded = 0
    for item, factor in zip(slices, found.factors[: len(pets)], strict=True):
        array[item.place], filled = _suv(item, factor)
        padded += filled
    _check_not_constant(stack, array)
    lossy = sum(item.lossy for item in slices)
    notes = [*_pet_notes(stack), *([_lossy_note("PET", lossy)] if lossy else [])]
    notes += [f"{padded} padding voxels of the PET set to SUV 0"] if padded else []
    notes += found.basis.assumed
    return Volume(stack, stack.grid.image(array), tuple(notes), found.basis)


def _suv(item: _Slice, factor: float) -> tuple[NDArray[np.float32], int]:
    """One slice as SUV (rows, columns), and of how many voxels padding (0028,0120) was taken out.

    Padding is no measurement: without a value it has no activity.
    """
    with np.errstate(over="ignore"):  # named below
        values = (item.rescaled * factor).astype(np.float32)
    padding = item.padded
    filled = 0
    if padding is not None:
        filled = int(np.count_nonzero(values[padding]))
        values[padding] = 0
    if not np.isfinite(values).all():
        expected = "finite numbers after Rescale Slope (0028,1053) and the SUV factor"
        raise _bad_pixels(item.header, "values that are not finite", expected)
    return values, filled


def pet_headers(raw: Path, headers: Iterable[Header]) -> Iterator[PetHeader]:
    """What PET slices say of their units and times, without their pixels.

    Raises:
        UnitsError: the PET modules of one cannot be read.
    """
    dataset, file = None, ""
    for header in headers:
        if header.pet is not None:
            yield header.pet
            continue
        with _any_failure_named(header):
            if dataset is None or file != header.file:
                dataset, file = read_dataset(raw / header.file), header.file
            told = _pet_header(_attributes(dataset, header), header)
        if told is not None:
            yield told


def _slices(raw: Path, stack: Stack) -> Iterator[_Slice]:
    """Every slice, file by file, so that each file is opened once."""
    ordered = sorted(enumerate(stack.headers), key=lambda pair: (pair[1].file, pair[0]))
    for file, group in groupby(ordered, key=lambda pair: pair[1].file):
        dataset = None
        for place, header in group:
            with _any_failure_named(header):
                if header.native is not None:
                    item = _native_slice(raw / file, place, header, header.native)
                else:
                    if dataset is None:
                        dataset = read_dataset(raw / file, pixels=True)
                    item = _decoded_slice(dataset, place, header)
            yield item


def _native_slice(path: Path, place: int, header: Header, pixels: NativePixels) -> _Slice:
    stored = read_native(path, pixels)
    return _Slice(
        place, header, stored, pixels.slope, pixels.intercept, pixels.padding, pixels.lossy,
        header.pet,
    )  # fmt: skip


@contextmanager
def _any_failure_named(header: Header) -> Iterator[None]:
    """Decoders raise whatever their codec does; any of it means lost pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except RejectedInputError:
        raise
    except Exception as error:
        found = printable(f"{type(error).__name__}: {error}")
        expected = f"{_matrix(header)} that a decoder of pydicom can read"
        raise _bad_pixels(header, found, expected) from error


def _decoded_slice(dataset: Dataset, place: int, header: Header) -> _Slice:
    _check_end(dataset, header)
    stored = pixel_array(dataset, index=header.frame)
    if stored.shape != (header.rows, header.columns):
        found = f"pixels of shape {stored.shape} (multi-frame or colour?)"
        raise _bad_pixels(header, found, f"one grey value for each of {_matrix(header)}")
    if stored.dtype.kind not in "iu":
        found = f"pixels of type {stored.dtype}: Float Pixel Data (7FE0,0008)?"
        raise _bad_pixels(header, found, "integers in Pixel Data (7FE0,0010)")
    if dataset.get("PhotometricInterpretation") != "MONOCHROME2":
        told = dataset.get("PhotometricInterpretation") or "missing"
        found = f"PhotometricInterpretation (0028,0004) {printable(str(told))}"
        raise _bad_pixels(header, found, "MONOCHROME2, in which more is brighter")
    attributes = _attributes(dataset, header)
    slope, intercept = _rescale(attributes, header)
    return _Slice(
        place, header, stored, slope, intercept, padding_ends(attributes, stored.dtype),
        attributes.get("LossyImageCompression") == "01", _pet_header(attributes, header),
    )  # fmt: skip


def _pet_header(dataset: Dataset, header: Header) -> PetHeader | None:
    if header.modality != "PT" or header.pet is not None:
        return header.pet
    try:
        return read_pet_header(dataset, header.file)
    except Exception as error:  # pydicom's many, from a nested sequence that is broken
        found = printable(f"{type(error).__name__}: {error}")
        raise _units(header, found, "readable PET Series and Isotope modules") from error


def _check_end(dataset: Dataset, header: Header) -> None:
    """Decoders of JPEG-LS make up the rest of a codestream that was cut short, without a word."""
    if dataset.file_meta.TransferSyntaxUID in _JPEG:
        frames = int(dataset.get("NumberOfFrames") or 1)
        codestream = get_frame(dataset.PixelData, header.frame or 0, number_of_frames=frames)
        if not codestream.rstrip(b"\0").endswith(_END_OF_IMAGE):
            found = "Pixel Data (7FE0,0010) compressed, but cut short"
            raise _bad_pixels(header, found, "a codestream with its end-of-image marker (FFD9)")


def _attributes(dataset: Dataset, header: Header) -> Dataset:
    """All that a slice says but its pixels."""
    if header.frame is None:
        dataset.pop("PixelData", None)
        return dataset
    attributes = frame_attributes(dataset, header.frame)
    if dataset.SOPClassUID == uid.EnhancedPETImageStorage:
        read_as_single_frame_pet(attributes, header.file)
    return attributes


def _rescale(dataset: Dataset, header: Header) -> tuple[float, float]:
    try:
        slope = float(dataset["RescaleSlope"].value)
        intercept = float(dataset["RescaleIntercept"].value)
    except (KeyError, TypeError, ValueError):
        slope = intercept = math.nan
    if not (math.isfinite(slope) and math.isfinite(intercept) and slope > 0):
        found = [dataset.get_item(name) for name in ("RescaleSlope", "RescaleIntercept")]
        told = [None if item is None else item.value for item in found]
        raise _units(header, f"Rescale Slope (0028,1053) and Intercept (0028,1052) {told}",
                     "a positive and a finite number")  # fmt: skip
    kind = str(dataset.get("RescaleType") or "HU")
    if header.modality == "CT" and kind != "HU":
        raise _units(header, f"Rescale Type (0028,1054) {kind}", "HU")
    return slope, intercept


def _check_int16(header: Header, values: NDArray[Any]) -> None:
    if not (values.min() >= _INT16.min and values.max() <= _INT16.max):  # NaN is neither
        found = f"{values.min():.0f} to {values.max():.0f} HU after rescale"
        raise _units(header, found, f"{_INT16.min} to {_INT16.max} HU")


def _check_not_constant(stack: Stack, array: NDArray[np.generic]) -> None:
    if array.min() == array.max():
        found = f"the value {array.min()} in every voxel of the series"
        raise _bad_pixels(stack.headers[0], found, f"{_matrix(stack.headers[0])} that vary")


def _lossy_note(name: str, slices: int) -> str:
    return f"the {name} was compressed with loss (0028,2110) in {slices} slices"


def _pet_notes(stack: Stack) -> Iterator[str]:
    first = stack.headers[0]
    if not first.corrected_image:
        yield "the PET does not say whether it is attenuation corrected (0028,0051)"
    if first.number_of_slices not in {None, len(stack.headers)}:
        count = first.number_of_slices
        yield f"Number of Slices (0054,0081) says {count}, the PET has {len(stack.headers)}"


def _units(header: Header, found: str, expected: str) -> UnitsError:
    advice = "Export the series again with its original tags."
    return UnitsError(header.file, found=found, expected=expected, advice=advice)


def _matrix(header: Header) -> str:
    return f"{header.rows}x{header.columns} pixels"


def _bad_pixels(header: Header, found: str, expected: str) -> PixelError:
    return PixelError(
        header.file,
        found=found,
        expected=expected,
        advice="Export the series again; the other series of the study are not touched.",
    )
