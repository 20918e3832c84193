"""Robustness, pixel level: from stored values to HU and SUV."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.func.ingest.hostile import (
    SLICES,
    SUV_PER_BQML,
    Arrange,
    Outcome,
    a_study,
    and_then,
    case,
    clean,
    ct,
    gives,
    noted,
    nothing,
    only,
    pet,
    refused,
    replaced,
    run_case,
    sets,
    slice_file,
)

SLOPE = "(0028,1053)"
ODD_SLOPE = "123456"  # of the same length as what is written over it


def slope(text: bytes) -> Arrange:
    """A PET slope that pydicom would not write."""
    return replaced(
        "PET/98.dcm", ODD_SLOPE.encode(), text.ljust(6), pet(only(1, sets(RescaleSlope=ODD_SLOPE)))
    )


def stored(pixels: np.ndarray, signed: bool) -> dict[str, object]:
    return {
        "PixelData": pixels.tobytes(),
        "PixelRepresentation": int(signed),
        "BitsAllocated": 8 * pixels.itemsize,
        "BitsStored": 8 * pixels.itemsize,
        "HighBit": 8 * pixels.itemsize - 1,
    }


def hu(values: np.ndarray, dtype: str, intercept: int) -> Arrange:
    """The same HU in every CT slice, stored as another type."""
    pixels = (values - intercept).astype(dtype)
    return ct(sets(**stored(pixels, dtype[0] == "i"), RescaleIntercept=intercept))


def holds(values: np.ndarray) -> Callable[[Outcome, Outcome], None]:
    def check(done: Outcome, _baseline: Outcome) -> None:
        assert np.array_equal(done.array("ct"), np.broadcast_to(values, (SLICES, 24, 24)))

    return check


RAMP = np.arange(576).reshape(24, 24) - 300  # HU
BYTES = RAMP % 256


def padded(signed: bool) -> Arrange:
    """The first row of every CT slice is padding, declared signed or unsigned."""

    def edit(dataset: Dataset, _index: int) -> None:
        value = -2000 if signed else 63536
        pixels = np.frombuffer(dataset.PixelData, np.int16).astype(np.int32)
        pixels[:24] = value
        made = pixels.astype(np.int16 if signed else np.uint16)
        sets(**stored(made, signed))(dataset, 0)
        dataset.add_new("PixelPaddingValue", "SS" if signed else "US", value)

    return ct(edit)


def first_row_is_air(before: np.ndarray) -> np.ndarray:
    after = before.copy()
    after[:, 0] = -1024
    return after


def padded_pet(value: int, limit: int | None = None) -> Arrange:
    """The first row of every PET slice is padding."""

    def edit(dataset: Dataset, _index: int) -> None:
        pixels = np.frombuffer(dataset.PixelData, np.int16).copy()
        pixels[:12] = value
        dataset.PixelData = pixels.tobytes()
        dataset.add_new("PixelPaddingValue", "SS", value)
        if limit is not None:
            dataset.add_new("PixelPaddingRangeLimit", "SS", limit)

    return pet(edit)


def first_row_is_empty(before: np.ndarray) -> np.ndarray:
    after = before.copy()
    after[:, 0] = 0
    return after


def floats(odd: float) -> Arrange:
    """Float Pixel Data (7FE0,0008) in one PET slice, with one odd value."""

    def edit(dataset: Dataset, _index: int) -> None:
        pixels = np.frombuffer(dataset.PixelData, np.int16).astype(np.float32)
        pixels[5] = odd
        del dataset.PixelData
        dataset.FloatPixelData = pixels.tobytes()
        dataset.BitsAllocated = 32
        del dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation

    return pet(only(1, edit))


def one_slice(role: str) -> Arrange:
    def leave_one(folder: Path) -> None:
        for index in range(1, SLICES):
            slice_file(folder, role, index).unlink()

    return and_then(a_study(), leave_one)


def per_slice(before: np.ndarray) -> np.ndarray:
    """``Patient`` gives PET slice i the slope 10 + i; here it has 1e-8 times that."""
    return before * 1e-8


def shrunken(dataset: Dataset, index: int) -> None:
    dataset.RescaleSlope = f"{(10 + index) * 1e-8:.10g}"


def without_slope(dataset: Dataset, _index: int) -> None:
    del dataset.RescaleSlope


def per_slice_rescale(done: Outcome, _baseline: Outcome) -> None:
    for index in range(SLICES):
        first_row = np.arange(12) + index
        expected = first_row * (10 + index) * SUV_PER_BQML
        np.testing.assert_allclose(done.array("pet")[index, 0], expected, rtol=1e-6)


CASES = {
    "per-slice RescaleSlope": case(a_study(), per_slice_rescale, clean),
    "per-slice RescaleSlope: CT": case(
        ct(only(2, sets(RescaleIntercept=-1000))),
        gives("ct", lambda before: before + 24 * (np.arange(SLICES) == 2)[:, None, None]), clean,
    ),
    "slope 1e-8": case(pet(shrunken), gives("pet", per_slice), clean),
    "slope 0": case(pet(only(1, sets(RescaleSlope=0))), refused("units", SLOPE), nothing),
    "slope 0: CT": case(ct(sets(RescaleSlope=0)), refused("units", SLOPE), nothing),
    "slope missing": case(
        pet(only(1, without_slope)), refused("units", SLOPE, file="PET/98.dcm"), nothing
    ),
    "slope missing: empty": case(slope(b""), refused("units", SLOPE, file="PET/98.dcm"), nothing),
    "slope missing: text": case(
        slope(b"ten"), refused("units", SLOPE, file="PET/98.dcm"), nothing
    ),
    "slope negative": case(
        pet(only(1, sets(RescaleSlope=-1))), refused("units", SLOPE, file="PET/98.dcm"), nothing
    ),
    "NaN and inf: slope NaN": case(
        slope(b"NaN"), refused("units", SLOPE, file="PET/98.dcm"), nothing
    ),
    "NaN and inf: slope inf": case(
        slope(b"inf"), refused("units", SLOPE, file="PET/98.dcm"), nothing
    ),
    "NaN and inf: slope 1e300": case(
        slope(b"1e300"), refused("pixels|units", file="PET/98.dcm"), nothing
    ),
    "NaN and inf: NaN in the pixels": case(
        floats(np.nan), refused("pixels", file="PET/98.dcm"), nothing
    ),
    "NaN and inf: inf in the pixels": case(
        floats(np.inf), refused("pixels", file="PET/98.dcm"), nothing
    ),
    "signed and unsigned: int16": case(hu(RAMP, "i2", 0), holds(RAMP), clean),
    "signed and unsigned: uint16": case(hu(RAMP, "u2", -1024), holds(RAMP), clean),
    "signed and unsigned: uint8": case(hu(BYTES, "u1", 0), holds(BYTES), clean),
    "signed and unsigned: int8": case(hu(BYTES, "i1", 128), holds(BYTES), clean),
    "signed and unsigned: uint32": case(hu(RAMP, "u4", -1024), holds(RAMP), clean),
    "signed and unsigned: int32": case(hu(RAMP, "i4", 0), holds(RAMP), clean),
    "signed and unsigned: HU beyond int16": case(
        ct(sets(RescaleSlope=100)), refused("units", "HU after rescale"), nothing
    ),
    "padding value: signed": case(padded(True), gives("ct", first_row_is_air), noted("padding")),
    "padding value: unsigned": case(
        padded(False), gives("ct", first_row_is_air), noted("padding")
    ),
    "padding value: of the PET": case(
        padded_pet(-32768), gives("pet", first_row_is_empty), clean,
        noted("48 padding voxels of the PET set to SUV 0"),
    ),
    "padding value: of the PET, a range": case(
        padded_pet(-32000, limit=-32768), gives("pet", first_row_is_empty), clean,
        noted("48 padding voxels of the PET"),
    ),
    "padding value: of the PET, 0 as its background": case(
        padded_pet(0), gives("pet", first_row_is_empty), clean
    ),
    "all-zero": case(
        pet(sets(PixelData=bytes(288))), refused("pixels", "in every voxel"), nothing
    ),
    "all-zero: CT": case(
        ct(sets(PixelData=bytes(1152))), refused("pixels", "in every voxel"), nothing
    ),
    "all-zero: one slice of many": case(
        pet(only(0, sets(PixelData=bytes(288)))),
        gives("pet", lambda before: before * (np.arange(SLICES) > 0)[:, None, None]), clean,
    ),
    "one-slice": case(one_slice("CT"), refused("geometry", "single slice"), nothing),
    "one-slice: PET": case(one_slice("PET"), refused("geometry", "single slice"), nothing),
    "a header that claims 65535 x 65535": case(
        ct(sets(Rows=65535, Columns=65535)),
        refused("pixels", "Rows (0028,0010) 65535", file="CT/98.dcm"), nothing,
    ),
    "a header that claims 65535 x 65535: 4096 x 4096": case(
        ct(sets(Rows=4096, Columns=4096)), refused("pixels"), nothing
    ),
    "a header that claims 65535 x 65535: 65535 frames": case(
        ct(sets(NumberOfFrames=65535)), refused("pixels|unsupported|geometry"), nothing
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_pixels(name: str, tmp_path: Path) -> None:
    run_case(CASES[name], tmp_path)
