"""Pixels of a stack of slices as HU or SUVbw."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from petct_uad.dicom.geometry import Stack
from petct_uad.dicom.index import Header, printable, read_dataset
from petct_uad.dicom.suv import PetHeader, SuvKind, read_pet_header, suv_factors
from petct_uad.errors import PixelError, RejectedInputError, UnitsError

_PADDING_HU = -1024  # the least value that a 12-bit CT stores
_INT16 = np.iinfo(np.int16)
# The whole private groups are read: specific_tags does not reach their creator elements otherwise.
_PET_TAGS = [
    "Units", "SUVType", "DecayCorrection", "CorrectedImage", "PatientWeight", "PatientSize",
    "PatientSex", "RadiopharmaceuticalInformationSequence", "SeriesDate", "SeriesTime",
    "AcquisitionDate", "AcquisitionTime", "TimezoneOffsetFromUTC", "ActualFrameDuration",
    *(Tag(0x0009, 0x0010 + block) for block in range(16)),
    *(Tag(0x0009, 0x100D + 0x100 * block) for block in range(16)),
    *(Tag(0x7053, 0x0010 + block) for block in range(16)),
    *(Tag(0x7053, 0x1000 + 0x100 * block + item) for block in range(16) for item in (0, 9)),
]  # fmt: skip


@dataclass(frozen=True)
class Volume:
    """An image on the native grid of its slices, and what had to be handled."""

    stack: Stack
    image: sitk.Image
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Slice:
    values: NDArray[np.float64]  # (rows, columns), rescaled
    padding: NDArray[np.bool_] | None


def read_ct(raw: Path, stack: Stack) -> Volume:
    """HU as int16 (z, y, x) on the CT's own grid; padding becomes -1024.

    Raises:
        UnitsError: no rescale, a rescale type other than HU, or values beyond int16.
        PixelError: pixels that cannot be decoded, or a constant image.
    """
    array = np.empty(stack.grid.size[::-1], np.int16)
    padded = 0
    for index, (header, item) in enumerate(_slices(raw, stack)):
        values = np.rint(item.values)
        if item.padding is not None:
            values[item.padding] = _PADDING_HU
            padded += int(item.padding.sum())
        _check_int16(header, values)
        array[index] = values
    _check_not_constant(stack, array)
    notes = (f"{padded} padding voxels of the CT set to {_PADDING_HU} HU",) if padded else ()
    return Volume(stack, stack.grid.image(array), notes)


def read_pet(raw: Path, stack: Stack, kind: SuvKind = "bw") -> Volume:
    """SUV of a kind as float32 (z, y, x) on the PET's own grid, rescaled slice by slice.

    Raises:
        UnitsError: the SUV cannot be computed from the headers.
        PixelError: pixels that cannot be decoded or are not finite, or a constant image.
    """
    factors = suv_factors([_pet_header(raw, header) for header in stack.headers], kind)
    array = np.empty(stack.grid.size[::-1], np.float32)
    for index, (header, item) in enumerate(_slices(raw, stack)):
        array[index] = item.values * factors[index]
        if not np.isfinite(array[index]).all():
            raise _bad_pixels(header, "values that are not finite")
    _check_not_constant(stack, array)
    return Volume(stack, stack.grid.image(array), tuple(_pet_notes(stack)))


def _pet_header(raw: Path, header: Header) -> PetHeader:
    try:
        return read_pet_header(read_dataset(raw / header.file, _PET_TAGS), header.file)
    except Exception as error:  # pydicom's many, from a nested sequence that is broken
        found = printable(f"{type(error).__name__}: {error}")
        raise _units(header, found, "readable PET Series and Isotope modules") from error


def _slices(raw: Path, stack: Stack) -> Iterator[tuple[Header, _Slice]]:
    for header in stack.headers:
        # Decoders raise whatever their codec does; any of it means this file's pixels are lost.
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                item = _read_slice(raw / header.file, header)
        except RejectedInputError:
            raise
        except Exception as error:
            raise _bad_pixels(header, printable(f"{type(error).__name__}: {error}")) from error
        yield header, item


def _read_slice(path: Path, header: Header) -> _Slice:
    dataset = read_dataset(path, pixels=True)
    stored = dataset.pixel_array
    if stored.shape != (header.rows, header.columns):
        found = f"pixels of shape {stored.shape} (multi-frame or colour?)"
        raise _bad_pixels(header, found)
    if dataset.get("PhotometricInterpretation") != "MONOCHROME2":
        found = f"PhotometricInterpretation (0028,0004) {dataset.get('PhotometricInterpretation')}"
        raise _bad_pixels(header, found)
    slope, intercept = _rescale(dataset, header)
    padding = _padding(dataset, stored)
    return _Slice(stored.astype(np.float64) * slope + intercept, padding)


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


def _padding(dataset: Dataset, stored: NDArray[np.integer[Any]]) -> NDArray[np.bool_] | None:
    """Where a CT slice holds padding: (0028,0120) to (0028,0121), both ends included."""
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = sorted((value, limit if isinstance(limit, int) else value))
    return np.asarray((stored >= ends[0]) & (stored <= ends[1]))


def _check_int16(header: Header, values: NDArray[np.float64]) -> None:
    if values.min() < _INT16.min or values.max() > _INT16.max:
        found = f"{values.min():.0f} to {values.max():.0f} HU after rescale"
        raise _units(header, found, f"{_INT16.min} to {_INT16.max} HU")


def _check_not_constant(stack: Stack, array: NDArray[np.generic]) -> None:
    if array.min() == array.max():
        raise _bad_pixels(stack.headers[0], f"the value {array.min()} in every voxel of the series")


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


def _bad_pixels(header: Header, found: str) -> PixelError:
    return PixelError(
        header.file,
        found=found,
        expected=f"{header.rows}x{header.columns} grey values that vary",
        advice="Export the series again; the other series of the study are not touched.",
    )
