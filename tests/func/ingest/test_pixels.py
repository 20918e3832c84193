"""Pixels of every encoding that DICOM allows for CT and PET: read to the last bit, or refused."""

from __future__ import annotations

import copy
import io
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from petct_uad.ingest.dicom.geometry import stack_slices
from petct_uad.ingest.dicom.index import index_files
from petct_uad.ingest.dicom.volumes import read_ct, read_pet
from tests.func.ingest.conftest import Patient, Run

Edit = Callable[[Dataset, int], None]

LOSSLESS = {
    "RLE": uid.RLELossless,
    "JPEG-LS": uid.JPEGLSLossless,
    "JPEG lossless, first order": uid.JPEGLosslessSV1,
    "JPEG lossless": uid.JPEGLossless,
    "deflated": uid.DeflatedExplicitVRLittleEndian,
    "implicit": uid.ImplicitVRLittleEndian,
}


def compress(dataset: Dataset, syntax: str) -> None:
    if syntax in {uid.JPEGLosslessSV1, uid.JPEGLossless}:
        stored = np.frombuffer(dataset.PixelData, np.uint16)
        codestream = jpeg_lossless(stored.reshape(dataset.Rows, dataset.Columns))
        dataset.PixelData = encapsulate([codestream])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax
    elif uid.UID(syntax).is_compressed and syntax != uid.DeflatedExplicitVRLittleEndian:
        dataset.compress(syntax, generate_instance_uid=False)
    else:
        dataset.file_meta.TransferSyntaxUID = syntax


def jpeg_lossless(image: NDArray[np.uint16]) -> bytes:
    """ISO 10918-1 process 14, 16 bit: first-order prediction, every category a five-bit code."""
    rows, columns = image.shape
    values = image.astype(np.int64)
    left = np.concatenate([np.zeros((rows, 1), np.int64), values[:, :-1]], axis=1)
    left[1:, 0] = values[:-1, 0]
    left[0, 0] = 1 << 15
    bits = "".join(_coded(int(step)) for step in (values - left).ravel())
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    table = bytes([0, *(17 if length == 5 else 0 for length in range(1, 17)), *range(17)])
    frame = struct.pack(">BHHB3B", 16, rows, columns, 1, 1, 0x11, 0)
    parts = [(b"\xc3", frame), (b"\xc4", table), (b"\xda", bytes([1, 1, 0, 1, 0, 0]))]
    head = b"".join(b"\xff" + mark + struct.pack(">H", len(p) + 2) + p for mark, p in parts)
    return b"\xff\xd8" + head + scan + b"\xff\xd9"


def _coded(step: int) -> str:
    step = (step + (1 << 15)) % (1 << 16) - (1 << 15)
    category = abs(step).bit_length()
    if category in {0, 16}:
        return f"{category:05b}"
    extra = step if step > 0 else step + (1 << category) - 1
    return f"{category:05b}{extra:0{category}b}"


def rewritten(folder: Path, edit: Edit) -> None:
    for index, file in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(file)
        edit(dataset, index)
        dataset.save_as(file, enforce_file_format=True)


def of(run: Run, name: str) -> np.ndarray:
    image = sitk.ReadImage(next(run.out.rglob(f"{name}.nii.gz")))
    voxels: np.ndarray = sitk.GetArrayFromImage(image)
    return voxels


def store(kind: str, stored_bits: int | None = None, **values: object) -> Edit:
    """Store the same HU or activity as integers of another type."""
    type_ = np.dtype(kind)

    def edit(dataset: Dataset, _index: int) -> None:
        pixels = np.frombuffer(dataset.PixelData, np.int16).astype(type_)
        dataset.BitsAllocated = 8 * type_.itemsize
        dataset.BitsStored = stored_bits or dataset.BitsAllocated
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(type_.kind == "i")
        dataset.PixelData = pixels.tobytes()
        dataset["PixelData"].VR = "OB" if type_.itemsize == 1 else "OW"
        for name, value in values.items():
            setattr(dataset, name, value)

    return edit


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_lossless_encoding_changes_no_voxel(
    name: Any, patient: Callable[..., Patient], run: Callable[..., Run], raw: Path
) -> None:
    patient().both()
    plain = run()
    for series in ("CT", "PET"):
        rewritten(raw / "P1" / series, lambda dataset, _: compress(dataset, LOSSLESS[name]))
    done = run()
    assert not done.tables.rejected
    for image in ("ct", "pet"):
        assert np.array_equal(of(done, image), of(plain, image))


@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless])
def test_a_compressed_phantom_is_the_phantom(
    syntax: Any, phantom_raw: Path, run: Callable[..., Run], raw: Path
) -> None:
    shutil.copytree(phantom_raw / "PHANTOM-0001", raw)
    plain = run()
    for series in ("CT", "PET"):
        rewritten(raw / series, lambda dataset, _: compress(dataset, syntax))
    done = run()
    assert not done.tables.rejected
    for image in ("ct", "pet"):
        assert np.array_equal(of(done, image), of(plain, image))


def jpeg(dataset: Dataset, _index: int) -> None:
    pixels = np.frombuffer(dataset.PixelData, np.uint8).reshape(dataset.Rows, dataset.Columns)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "jpeg", quality=95)
    dataset.PixelData = encapsulate([out.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    dataset.LossyImageCompression = "01"


def test_baseline_jpeg_is_read_and_its_loss_noted(
    patient: Callable[..., Patient], run: Callable[..., Run], raw: Path
) -> None:
    def narrow(dataset: Dataset, index: int) -> None:
        pixels = np.frombuffer(dataset.PixelData, np.int16) // 4
        dataset.PixelData = pixels.astype(np.int16).tobytes()
        store("uint8")(dataset, index)

    case = patient()
    case.ct(edit=narrow)
    case.pet()
    plain = of(run(), "ct").astype(int)
    rewritten(raw / "P1" / "CT", jpeg)
    done = run()
    assert np.abs(of(done, "ct") - plain).max() < 8
    assert "compressed with loss" in done.tables.studies[0].notes


def jpeg_12_bit(dataset: Dataset, _index: int) -> None:
    pixels = np.frombuffer(dataset.PixelData, np.uint16).reshape(dataset.Rows, dataset.Columns)
    codestream = imagecodecs.jpeg8_encode(pixels, level=95, bitspersample=12)
    assert codestream[codestream.index(b"\xff\xc1") + 4] == 12  # extended sequential, 12 bit
    dataset.PixelData = encapsulate([codestream])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = uid.JPEGExtended12Bit
    dataset.LossyImageCompression = "01"


def test_extended_jpeg_of_12_bits_is_read_and_its_loss_noted(
    phantom_raw: Path, run: Callable[..., Run], raw: Path
) -> None:
    def narrow(dataset: Dataset, index: int) -> None:
        pixels = np.frombuffer(dataset.PixelData, np.int16).astype(np.int32)
        shifted = (pixels * dataset.RescaleSlope + dataset.RescaleIntercept + 1024).clip(0, 4095)
        dataset.PixelData = shifted.astype(np.int16).tobytes()
        store("uint16", 12, RescaleSlope=1, RescaleIntercept=-1024)(dataset, index)

    shutil.copytree(phantom_raw / "PHANTOM-0001", raw)
    rewritten(raw / "CT", narrow)
    plain = of(run(), "ct").astype(int)
    rewritten(raw / "CT", jpeg_12_bit)
    done = run()
    assert not done.tables.rejected
    assert np.abs(of(done, "ct") - plain).mean() < 4
    assert "the CT was compressed with loss" in done.tables.studies[0].notes


def test_lossy_jpeg_2000_of_the_pet_is_noted(
    phantom_raw: Path, run: Callable[..., Run], raw: Path
) -> None:
    shutil.copytree(phantom_raw / "PHANTOM-0001", raw)
    plain = of(run(), "pet")

    def lossy(dataset: Dataset, _index: int) -> None:
        dataset.compress(uid.JPEG2000, j2k_cr=[4], generate_instance_uid=False)
        dataset.LossyImageCompression = "01"

    rewritten(raw / "PET", lossy)
    done = run()
    assert np.corrcoef(of(done, "pet").ravel(), plain.ravel())[0, 1] > 0.99
    assert "the PET was compressed with loss" in done.tables.studies[0].notes


@pytest.mark.parametrize("kind", ["<u2", "<i4", "<u4"])
@pytest.mark.parametrize("series", ["ct", "pet"])
def test_integers_of_any_width_and_sign_give_the_same_volume(
    kind: str, series: str, patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    patient().both()
    plain = of(run(), series)
    case = patient()
    getattr(case, series)(edit=store(kind))
    assert np.array_equal(of(run(), series), plain)


def test_twelve_stored_bits_keep_their_sign(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    def twelve(dataset: Dataset, index: int) -> None:
        pixels = np.frombuffer(dataset.PixelData, np.int16) - np.int16(300)
        dataset.PixelData = (pixels & 0x0FFF).astype(np.uint16).tobytes()
        dataset.BitsStored, dataset.HighBit = 12, 11

    case = patient()
    case.ct(edit=twelve)
    case.pet()
    assert of(run(), "ct")[3, 0, 5] == 3 + 5 - 300 - 1024


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_eight_bits_are_read(
    kind: str, patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    def eight(dataset: Dataset, index: int) -> None:
        pixels = np.frombuffer(dataset.PixelData, np.int16) % 100 - (50 if kind == "int8" else 0)
        dataset.PixelData = pixels.astype(np.int16).tobytes()
        store(kind)(dataset, index)

    case = patient()
    case.ct(edit=eight)
    case.pet()
    assert of(run(), "ct")[3, 0, 5] == 8 - (50 if kind == "int8" else 0) - 1024


def test_values_that_a_type_cannot_hold_are_refused_not_wrapped(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    patient("good").both()
    case = patient("bad")
    case.ct(edit=store("<u4", RescaleIntercept=2_000_000))
    case.pet()
    assert any("after rescale" in row.found for row in run().tables.rejected)


@pytest.mark.parametrize("series", ["ct", "pet"])
def test_a_negative_slope_is_refused_by_name(
    series: str, patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    """It would turn hot into cold; no scanner writes one, so it is a broken header."""
    patient("good").both()
    case = patient("bad").both()
    getattr(case, series)(edit=lambda dataset, _: setattr(dataset, "RescaleSlope", -1))
    done = run()
    assert [study.patient for study in done.tables.studies] == ["good"]
    assert any("Rescale Slope (0028,1053)" in row.found for row in done.tables.rejected)


def padded(kind: str, stored: int, vr: str, written: int, limit: int | None = None) -> Edit:
    """A first row of padding, stored as ``stored`` and named as ``written`` with ``vr``."""

    def edit(dataset: Dataset, index: int) -> None:
        store(kind)(dataset, index)
        pixels = np.frombuffer(dataset.PixelData, kind).copy()
        pixels[: dataset.Columns] = stored
        dataset.PixelData = pixels.tobytes()
        dataset.add_new("PixelPaddingValue", vr, written)
        if limit is not None:
            dataset.add_new("PixelPaddingRangeLimit", vr, limit)

    return edit


PADDING = {
    "signed": padded("<i2", -2000, "SS", -2000),
    "signed, written as unsigned": padded("<i2", -2000, "US", 63536),
    "unsigned": padded("<u2", 63536, "US", 63536),
    "unsigned, written as signed": padded("<u2", 63536, "SS", -2000),
    "a range": padded("<i2", -2000, "SS", -2100, -1900),
    "a range, written as unsigned": padded("<i2", -2000, "US", 63436, 63636),
}


@pytest.mark.parametrize("name", PADDING)
def test_padding_becomes_air_whatever_its_sign(
    name: Any, patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    patient().both()
    plain = of(run(), "ct")
    patient().ct(edit=PADDING[name])
    done = run()
    assert (of(done, "ct")[:, 0] == -1024).all()
    assert np.array_equal(of(done, "ct")[:, 1:], plain[:, 1:])
    assert "288 padding voxels" in done.tables.studies[0].notes


def bombs() -> Iterator[tuple[str, bytes]]:
    for name, kilobytes in (("small", 1), ("bomb", 300 * 1024)):
        yield name, bytes(1024) * kilobytes


def test_a_deflated_bomb_is_refused_and_does_not_fill_the_memory(
    patient: Callable[..., Patient], run: Callable[..., Run], raw: Path
) -> None:
    case = patient().both()
    for name, content in bombs():
        dataset = copy.deepcopy(case.datasets["CT"][0])
        dataset.SOPInstanceUID = case.uid(name)
        dataset.PixelData = content
        dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
        dataset.SeriesInstanceUID = case.uid("deflated")
        dataset.save_as(raw / f"{name}.dcm", enforce_file_format=True)
    done = run()
    refused = [row.subject for row in done.tables.rejected if row.code == "unsupported"]
    assert refused == ["bomb.dcm"]
    assert len(done.tables.studies) == 1


def unused_bits_set(dataset: Dataset, index: int) -> None:
    store("int16", 12)(dataset, index)
    pixels = np.frombuffer(dataset.PixelData, np.uint16) ^ np.uint16(0x7000)
    dataset.PixelData = pixels.tobytes()


def odd_bytes(dataset: Dataset, index: int) -> None:
    """One byte per pixel, an odd number of them, and so a byte of padding."""
    dataset.Rows = dataset.Columns = 23
    pixels = np.frombuffer(dataset.PixelData, np.int16)[: 23 * 23].astype(np.int16)
    dataset.PixelData = pixels.tobytes()
    store("uint8", RescaleSlope=1.5)(dataset, index)
    dataset.PixelData += b"\0"


PLAIN = {
    "signed": store("int16"),
    "unsigned, 12 bits": store("uint16", 12),
    "32 bits": store("int32"),
    "unused bits set": unused_bits_set,
    "odd bytes": odd_bytes,
    "padding": store("int16", PixelPaddingValue=-2000, PixelPaddingRangeLimit=40),
    "slope and loss": store("uint16", RescaleSlope="0.37", LossyImageCompression="01"),
}


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_plain_slices_are_read_as_pydicoms_decoders_read_them(
    name: Any, syntax: Any, patient: Callable[..., Patient], raw: Path
) -> None:
    patient().ct(edit=PLAIN[name])
    rewritten(raw / "P1" / "CT", lambda dataset, _: compress(dataset, syntax))
    headers = index_files(raw, 1).headers
    assert all(header.native is not None for header in headers)
    fast = stack_slices(headers, 0.1)
    slow = replace(fast, headers=tuple(replace(h, native=None) for h in fast.headers))
    one, other = read_ct(raw, fast), read_ct(raw, slow)
    assert (
        sitk.GetArrayFromImage(one.image).tolist() == sitk.GetArrayFromImage(other.image).tolist()
    )
    assert one.notes == other.notes


def test_plain_pet_slices_are_read_as_pydicoms_decoders_read_them(phantom_raw: Path) -> None:
    headers = [h for h in index_files(phantom_raw, 1).headers if h.modality == "PT"]
    for uid_ in sorted({header.series_instance_uid for header in headers}):
        fast = stack_slices([h for h in headers if h.series_instance_uid == uid_], 0.1)
        slow = replace(fast, headers=tuple(replace(h, native=None) for h in fast.headers))
        assert all(header.native is not None for header in fast.headers)
        one, other = read_pet(phantom_raw, fast).image, read_pet(phantom_raw, slow).image
        assert np.array_equal(sitk.GetArrayFromImage(one), sitk.GetArrayFromImage(other))
