"""Robustness, file level: what a folder may hold in place of a good DICOM file."""

from __future__ import annotations

import csv
import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames

from tests.func.ingest.conftest import Edit, Patient, save
from tests.func.ingest.hostile import (
    SLICES,
    Arrange,
    Case,
    Outcome,
    a_study,
    and_then,
    as_before,
    besides,
    case,
    clean,
    ingest,
    nothing,
    refused,
    rewritten,
    right_or_refused,
    run_case,
    sets,
    slice_file,
    somebody,
    untouched,
    write_good,
)

CALLS_NOTHING = re.compile(r"[\w.-]+")  # numbers and study_ids: without ( | ! a formula is harmless
ONE_CT = "CT/98.dcm"
EXPLICIT, BIG = uid.ExplicitVRLittleEndian.encode(), uid.ExplicitVRBigEndian.encode()
ISOTOPES = b"\x54\x00\x16\x00SQ"  # Radiopharmaceutical Information Sequence
IMPLICIT = uid.ImplicitVRLittleEndian.encode()


def cut_at(tag: bytes, beyond: int) -> Callable[[bytes], bytes]:
    """Cut a file some bytes after an element's tag."""
    return lambda content: content[: content.rindex(tag) + beyond]


def longer_than_the_file(content: bytes) -> bytes:
    """Manufacturer (0008,0070) claims 65,000 bytes."""
    at = content.index(b"\x08\x00\x70\x00LO") + 6
    return content[:at] + struct.pack("<H", 65000) + content[at + 2 :]


def pixels_longer_than_the_file(content: bytes) -> bytes:
    at = content.rindex(b"\xe0\x7f\x10\x00") + 8
    return content[:at] + struct.pack("<I", 0x7FFFFFFE) + content[at + 4 :]


def endless_other_bytes(content: bytes) -> bytes:
    """A private OB of undefined length, and no delimiter, where the UIDs are still to come."""
    at = content.index(b"\x08\x00\x16\x00UI")
    odd = b"\x07\x00\x01\x10OB\x00\x00\xff\xff\xff\xff" + bytes(64)
    return content[:at] + odd + content[at:]


def endless_pixels(content: bytes) -> bytes:
    at = content.rindex(b"\xe0\x7f\x10\x00") + 8
    return content[:at] + b"\xff\xff\xff\xff" + content[at + 4 :]


def broken_sequence(content: bytes) -> bytes:
    """A sequence whose first item begins with no item tag, as in pydicom's bad_sequence.dcm."""
    at = content.index(ISOTOPES) + 12
    return content[:at] + b"\x01\x02\x03\x04" + content[at + 4 :]


def item_beyond_its_sequence(content: bytes) -> bytes:
    at = content.index(ISOTOPES) + 16
    return content[:at] + struct.pack("<I", 1_000_000) + content[at + 4 :]


def deflate_bomb(folder: Path) -> None:
    """512 MiB of zeros that deflate to half a megabyte."""
    a_study()(folder)
    content = slice_file(folder, "CT", 1).read_bytes()
    meta = content[: content.index(b"\x08\x00\x16\x00UI")]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = [packer.compress(b"\x09\x00\x01\x10OB\x00\x00" + struct.pack("<I", 512 << 20))]
    packed += [packer.compress(bytes(1 << 20)) for _ in range(512)]
    deflated = uid.DeflatedExplicitVRLittleEndian
    bomb = Dataset()
    bomb.SOPClassUID, bomb.SOPInstanceUID = uid.CTImageStorage, "1.2.3"
    save(bomb, folder / "bomb.dcm", deflated)
    head = (folder / "bomb.dcm").read_bytes()
    length = 128 + 4 + 12 + struct.unpack_from("<I", head, 140)[0]
    assert meta
    (folder / "bomb.dcm").write_bytes(head[:length] + b"".join(packed) + packer.flush())


def wide(dataset: Dataset, index: int) -> None:
    """A CT slice of 64x64, which the JPEG 2000 encoder wants at least."""
    dataset.Rows = dataset.Columns = 64
    pixels = np.random.default_rng(index).integers(0, 4000, (64, 64)).astype(np.int16)
    dataset.PixelData = pixels.tobytes()


def compressed(syntax: uid.UID, change: Callable[[bytes], bytes]) -> Arrange:
    """CT slice 1 compressed, and its codestream changed."""

    def arrange(folder: Path) -> None:
        path = slice_file(folder, "CT", 1)
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax, generate_instance_uid=False)
        (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
        dataset.PixelData = encapsulate([change(frame)])
        dataset.save_as(path)

    return and_then(a_study(ct=wide), arrange)


def another_syntax(syntax: bytes) -> Arrange:
    """CT slice 1 claims a transfer syntax that its bytes do not have."""
    length = len(EXPLICIT) + len(EXPLICIT) % 2

    def change(content: bytes) -> bytes:
        assert len(syntax) <= length
        return content.replace(EXPLICIT.ljust(length, b"\0"), syntax.ljust(length, b"\0"), 1)

    return rewritten(ONE_CT, change, a_study())


def without_syntax(content: bytes) -> bytes:
    """File meta information without (0002,0010)."""
    at = content.index(b"\x02\x00\x10\x00UI")
    end = at + 8 + struct.unpack_from("<H", content, at + 6)[0]
    length = struct.unpack_from("<I", content, 140)[0] - (end - at)
    return content[:140] + struct.pack("<I", length) + content[144:at] + content[end:]


def big_endian(folder: Path) -> None:
    made = Patient(folder, "Q7", slices=SLICES).both()
    made.write_big_endian("CT")
    made.write_big_endian("PET")


def dicomdir(folder: Path) -> None:
    """A directory that points at a slice outside of the data set."""
    a_study()(folder)
    outside = folder.parent.parent / "outside.dcm"
    slice_file(folder, "CT", 1).rename(outside)
    record, found = Dataset(), Dataset()
    record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", ["..", "..", "outside.dcm"]
    found.SOPClassUID, found.SOPInstanceUID = uid.MediaStorageDirectoryStorage, "1.2.3"
    found.DirectoryRecordSequence = [record]
    save(found, folder / "DICOMDIR")


def linked(target: Callable[[Path], Path]) -> Arrange:
    return and_then(a_study(), lambda folder: (folder / "link").symlink_to(target(folder)))


def slice_outside(folder: Path) -> Path:
    outside = folder.parent.parent / "outside.dcm"
    shutil.copy(slice_file(folder, "CT", 0), outside)
    return outside


def renamed(name: bytes) -> Arrange:
    def rename(folder: Path) -> None:
        path = slice_file(folder, "CT", 0)
        path.rename(os.fsdecode(os.fsencode(path.parent) + b"/" + name))

    return and_then(a_study(), rename)


def says(text: str) -> Arrange:
    """The same text in everything that a table could repeat."""
    edit: Edit = sets(
        Manufacturer=text, ManufacturerModelName=text, SeriesDescription=text,
        PatientName=text, InstitutionName=text, StationName=text, ImageType=[text, text],
    )  # fmt: skip
    return a_study(ct=edit, pet=edit)


def inert(done: Outcome, _baseline: Outcome) -> None:
    """No cell of a table holds a control character or starts a formula."""
    for path in done.out.glob("*.csv"):
        content = path.read_bytes().decode()
        assert all(letter.isprintable() or letter == "\n" for letter in content)
        for cell in (cell for row in csv.reader(content.splitlines()) for cell in row):
            assert cell[:1] not in {"=", "+", "-", "@"} or CALLS_NOTHING.fullmatch(cell), cell


def wide_ct(done: Outcome, _baseline: Outcome) -> None:
    pixels = np.random.default_rng(1).integers(0, 4000, (64, 64))
    assert np.array_equal(done.array("ct")[1], pixels - 1024)


def short(size: int) -> Case:
    content = (bytes(128) + b"DICM")[:size]
    return case(besides("odd.dcm", content), refused("unreadable", file="odd.dcm"), as_before)


FILES = {
    "empty": case(besides("odd.dcm", b""), refused("unreadable", file="odd.dcm"), as_before),
    **{f"1 to 131 bytes: {size}": short(size) for size in (1, 127, 128, 131)},
    "no preamble": case(
        rewritten(ONE_CT, lambda content: content[132:], a_study()),
        refused("unreadable", "preamble", file=ONE_CT), nothing,
    ),
    "random bytes after DICM": case(
        besides("odd.dcm", bytes(128) + b"DICM" + bytes(range(256))),
        refused("unreadable|unsupported", file="odd.dcm"), as_before,
    ),
    "executable header in the preamble: MZ": case(
        rewritten("*.dcm", lambda content: b"MZ\x90\0".ljust(128, b"\xcc") + content[128:],
                  a_study()), as_before, clean,
    ),
    "executable header in the preamble: ELF": case(
        rewritten("*.dcm", lambda content: b"\x7fELF\2\1\1".ljust(128, b"\0") + content[128:],
                  a_study()), as_before, clean,
    ),
    "truncated mid-element": case(
        rewritten(ONE_CT, cut_at(b"\x20\x00\x0d\x00UI", 20), a_study()),
        refused("unreadable|identity", file=ONE_CT), nothing,
    ),
    "truncated mid-element: inside a tag": case(
        rewritten(ONE_CT, cut_at(b"\x28\x00\x10\x00US", 5), a_study()),
        refused("unreadable|geometry", file=ONE_CT), nothing,
    ),
    "truncated mid-pixel": case(
        rewritten(ONE_CT, lambda content: content[:-100], a_study()),
        refused("pixels|unreadable", file=ONE_CT), nothing,
    ),
    "truncated mid-pixel: before the first": case(
        rewritten(ONE_CT, cut_at(b"\xe0\x7f\x10\x00", 0), a_study()),
        refused("pixels|unreadable", file=ONE_CT), nothing,
    ),
    "declared length beyond the file": case(
        rewritten(ONE_CT, longer_than_the_file, a_study()),
        refused("unreadable|identity", file=ONE_CT), nothing,
    ),
    "declared length beyond the file: pixels": case(
        rewritten(ONE_CT, pixels_longer_than_the_file, a_study()),
        right_or_refused("pixels|unreadable", file=ONE_CT),
    ),
    "undefined-length OB": case(
        rewritten(ONE_CT, endless_other_bytes, a_study()),
        refused("unreadable|unsupported", file=ONE_CT), nothing,
    ),
    "undefined-length OB: native pixels": case(
        rewritten(ONE_CT, endless_pixels, a_study()),
        refused("pixels|unreadable", file=ONE_CT), nothing,
    ),
    "deflate bomb": case(
        deflate_bomb, refused("unreadable|unsupported", file="bomb.dcm"), as_before
    ),
    "JPEG 2000 cut short: not at all": case(
        compressed(uid.JPEG2000Lossless, lambda frame: frame), wide_ct, clean
    ),
    "JPEG 2000 cut short": case(
        compressed(uid.JPEG2000Lossless, lambda frame: frame[: len(frame) // 2]),
        refused("pixels", file=ONE_CT), nothing,
    ),
    "JPEG 2000 cut short: in its last packet": case(
        compressed(uid.JPEG2000Lossless, lambda frame: frame[:-40]),
        refused("pixels", file=ONE_CT), nothing,
    ),
    "JPEG 2000 cut short: JPEG-LS": case(
        compressed(uid.JPEGLSLossless, lambda frame: frame[: len(frame) // 2]),
        refused("pixels", file=ONE_CT), nothing,
    ),
    "JPEG 2000 cut short: RLE": case(
        compressed(uid.RLELossless, lambda frame: frame[: len(frame) // 2]),
        refused("pixels", file=ONE_CT), nothing,
    ),
    "emri_small_jpeg_2k_lossless_too_short": case(
        compressed(uid.JPEG2000Lossless, lambda frame: frame[:-2]),
        refused("pixels", file=ONE_CT), nothing,
    ),
    "unsupported transfer syntax: MPEG-2": case(
        another_syntax(b"1.2.840.10008.1.2.9"), refused("pixels|unsupported|unreadable",
                                                       file=ONE_CT), nothing,
    ),
    "unsupported transfer syntax: private": case(
        another_syntax(b"1.3.6.1.4.1.9999.1"), refused("pixels|unsupported|unreadable",
                                                       file=ONE_CT), nothing,
    ),
    "big-endian": case(big_endian, as_before, clean),
    "missing TransferSyntaxUID": case(
        rewritten(ONE_CT, without_syntax, a_study()),
        refused("unreadable", "(0002,0010)", file=ONE_CT), nothing,
    ),
    "wrong TransferSyntaxUID: big-endian": case(
        another_syntax(BIG), refused("unreadable|unsupported", file=ONE_CT), nothing
    ),
    "wrong TransferSyntaxUID: implicit": case(another_syntax(IMPLICIT), as_before, clean),
    "wrong TransferSyntaxUID: RLE": case(
        another_syntax(uid.RLELossless.encode()), refused("pixels|unreadable", file=ONE_CT),
        nothing,
    ),
    "DICOMDIR with ../": case(
        dicomdir, refused("unsupported", file="DICOMDIR"), refused("geometry", "gap"), nothing
    ),
    "symlink loop": case(
        linked(lambda folder: folder.parent), refused("unreadable", "link", file="link"), as_before
    ),
    "symlink loop: onto itself": case(
        linked(lambda folder: folder / "link"), refused("unreadable", "link", file="link"),
        as_before,
    ),
    "symlink out of the tree": case(
        linked(slice_outside), refused("unreadable", "link", file="link"), as_before
    ),
    "symlink out of the tree: dangling": case(
        linked(lambda folder: folder / "nowhere"), refused("unreadable", "link", file="link"),
        as_before,
    ),
    "FIFO": case(
        and_then(a_study(), lambda folder: os.mkfifo(folder / "pipe.dcm")),
        refused("unreadable", "FIFO", file="pipe.dcm"), as_before,
    ),
    "non-UTF-8 names": case(
        renamed(b"\xff\xfe.dcm"), refused("unreadable", "UTF-8", file="\\xff\\xfe.dcm")
    ),
    "non-UTF-8 names: control characters": case(
        renamed(b"a\x1b[31m\n.dcm"), refused("unreadable", "control", file=".dcm")
    ),
    "255-byte names": case(renamed(b"x" * 251 + b".dcm"), as_before, clean),
    "255-byte names: Cyrillic": case(
        renamed("я".encode() * 125 + b"z.dcm"), as_before, clean
    ),
    "HTML text in tags": case(says("<script>alert(1)</script><img src=x onerror=y>"), inert),
    "CSV-formula text in tags": case(says("=HYPERLINK(0)+cmd|' /C calc'!A0"), inert),
    "CSV-formula text in tags: after a tab": case(says("\t@SUM(1+1)"), inert),
    "CSV-formula text in tags: PatientID": case(
        a_study(ct=sets(PatientID="=1+cmd"), pet=sets(PatientID="=1+cmd")), inert, as_before, clean
    ),
    "CSV-formula text in tags: a folder's name": case(
        and_then(a_study(), lambda folder: (folder.parent / "=1+1.dcm").touch()),
        refused("unreadable", "formula", file="=1+1.dcm"), inert, as_before,
    ),
    "NUL text in tags": case(says("GE\0MEDICAL\0\0SYSTEMS"), inert, as_before),
    "ANSI-escape text in tags": case(says("\x1b[2J\x1b]0;owned\x07GE\x9b31m"), inert, as_before),
    "a .dcm that is a JPEG": case(
        besides("odd.dcm", b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(500)),
        refused("unreadable", "preamble", file="odd.dcm"), as_before,
    ),
    "a .DS_Store": case(
        besides(".DS_Store", b"\0\0\0\1Bud1" + bytes(500)),
        refused("unreadable", file=".DS_Store"), as_before,
    ),
    "bad_sequence": case(
        rewritten("PET/98.dcm", broken_sequence, a_study()),
        right_or_refused("units|unreadable", file="PET/98.dcm"),
    ),
    "bad_sequence: an item longer than its sequence": case(
        rewritten("PET/98.dcm", item_beyond_its_sequence, a_study()),
        right_or_refused("units|unreadable", file="PET/98.dcm"),
    ),
}  # fmt: skip


# pydicom's own odd files: the code, and what the row says.
ODD = {
    "MR_truncated": ("unsupported", "MR Image Storage"),
    "rtplan_truncated": ("unsupported", "RT Plan Storage"),
    "no_meta": ("unreadable", "preamble"),
    "meta_missing_tsyntax": ("unsupported", "SOP Class UID (0008,0016) missing"),
    "badVR": ("unsupported", "RT Dose Storage"),
    "ExplVR_BigEndNoMeta": ("unreadable", "preamble"),
    "UN_sequence": ("unsupported", "SOP Class UID (0008,0016) missing"),
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """All of pydicom's test files beside a good study, ingested once."""
    raw = tmp_path_factory.mktemp("odd") / "raw"
    write_good(raw)
    data = Path(pydicom.data.__file__).parent
    shutil.copytree(data / "test_files", raw / "case")
    shutil.copytree(data / "charset_files", raw / "case" / "charset_files")
    return ingest(raw, raw.parent / "out")


@pytest.mark.parametrize("name", ODD)
def test_odd_file(name: str, odd: Outcome) -> None:
    code, words = ODD[name]
    file = f"{name}.dcm"
    (row,) = [row for row in odd.tables.rejected if row.subject == f"case/{file}"]
    assert row.code == code
    assert words in f"{row.found}; {row.expected}"


def test_every_odd_file_is_told_of(odd: Outcome) -> None:
    files = {path.relative_to(odd.raw).as_posix() for path in odd.raw.rglob("*") if path.is_file()}
    assert len(files) > 180
    assert files <= odd.told()
    assert len(odd.tables.studies) == 1
    assert odd.volume_bytes("good") == untouched().volume_bytes("good")


def test_unreadable_file() -> None:
    """A file that the user may not read; root, who may read all, becomes nobody for a while."""
    raw = Path(mkdtemp(prefix="petct-unreadable-")) / "raw"
    try:
        write_good(raw)
        a_study()(raw / "case")
        slice_file(raw / "case", "CT", 1).chmod(0)
        with somebody(raw.parent):
            done = ingest(raw, raw.parent / "out")
        refused("unreadable", "Permission denied", file=ONE_CT)(done, done)
        nothing(done, done)
    finally:
        shutil.rmtree(raw.parent)


@pytest.mark.parametrize("name", FILES)
def test_file(name: str, tmp_path: Path) -> None:
    run_case(FILES[name], tmp_path)


CASES = {
    **FILES,
    **ODD,
    "unreadable file": test_unreadable_file,
    "every file that pydicom ships": test_every_odd_file_is_told_of,
}
