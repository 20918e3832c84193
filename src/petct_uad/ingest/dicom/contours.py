"""``labels.csv``: lesion contours as a table, for hospitals without DICOM SEG or RTSTRUCT.

One closed planar contour per line, in three columns: ``sop_instance_uid`` of the CT or PET slice
that it was drawn on, ``roi`` (its name), and ``points_mm``: x y z of every point in the patient
frame (LPS, mm; PS3.3 C.7.6.2.1.1), separated by spaces. A contour inside another of the same roi
and slice is a hole. The file is UTF-8, with or without a byte order mark, with any line ends.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from petct_uad.core.errors import LabelError
from petct_uad.ingest.dicom.geometry import Stack
from petct_uad.ingest.dicom.header import UID_EXPECTED, Header
from petct_uad.ingest.found import FoundRejection
from petct_uad.ingest.reader import is_uid
from petct_uad.ingest.rejections import printable, rejected_row

LABELS_CSV = "labels.csv"
LABEL_ADVICE = "Correct the label, or remove it and its study: unlabelled lesions count as normal."
_COLUMNS = ["sop_instance_uid", "roi", "points_mm"]
_FEWEST_POINTS = 3


@dataclass(frozen=True)
class Contour:
    """One line of ``labels.csv``, and the slice that it names."""

    line: int
    header: Header
    roi: str
    points_mm: str  # as it is in the file; ``parsed`` checks it


def read_contours(
    path: Path, headers: Iterable[Header]
) -> tuple[dict[str, tuple[Contour, ...]], list[FoundRejection]]:
    """The contours by the StudyInstanceUID of their slices, and the lines that were passed over.

    Raises:
        LabelError: the file is missing, is not UTF-8, or a line has not the three columns or names
            its slice by what is no UID: then lesions could be missing from any study.
    """
    slices = {h.sop_instance_uid: h for h in headers if h.modality in {"CT", "PT"}}
    contours: dict[str, list[Contour]] = {}
    refused: list[FoundRejection] = []
    first_line: dict[tuple[str, ...], int] = {}
    for line, fields in _lines(path):
        uid, roi, points = fields
        header, first = slices.get(uid), first_line.setdefault(fields, line)
        if list(fields) == _COLUMNS:
            refused.append(_again(line, 1))
        elif not is_uid(uid):
            raise _wrong(line, f"SOPInstanceUID {printable(uid) or 'missing'}", UID_EXPECTED)
        elif header is None:
            refused.append(_unknown(line, uid))
        elif first != line:
            refused.append(_again(line, first))
        else:
            contour = Contour(line, header, printable(roi), points)
            contours.setdefault(header.study_instance_uid, []).append(contour)
    return {uid: tuple(items) for uid, items in contours.items()}, refused


def parsed(contour: Contour, ct: Stack, slice_spacing_mm: float) -> NDArray[np.float64]:
    """Points (n, 3) in mm (LPS), on the plane of the contour's slice.

    Raises:
        LabelError: no three finite points, or they lie off the slice, or the slice does not share
            the CT's frame of reference.
    """
    frame, own = contour.header.frame_of_reference_uid, ct.headers[0].frame_of_reference_uid
    if frame != own:
        found = f"a slice in Frame of Reference UID (0020,0052) {frame or 'missing'}"
        raise _wrong(contour.line, found, f"{own or 'one'}, that of the CT")
    try:
        numbers = np.array([float(text) for text in contour.points_mm.split()])
    except ValueError:
        numbers = np.array([np.nan])
    if len(numbers) % 3 or len(numbers) < 3 * _FEWEST_POINTS or not np.isfinite(numbers).all():
        found = f"points_mm {printable(contour.points_mm[:60])!r}"
        raise _wrong(contour.line, found, "x y z of at least three points, finite numbers in mm")
    points = numbers.reshape(-1, 3)
    distance = _distance_mm(points, contour.header)
    if distance > slice_spacing_mm / 2:
        found = f"points {distance:.2f} mm from the plane of their slice"
        raise _wrong(contour.line, found, f"at most {slice_spacing_mm / 2:.2f} mm, half a slice")
    return points


def _lines(path: Path) -> Iterable[tuple[int, tuple[str, str, str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise _wrong(0, "no such file", "one, since ingest.labels is csv") from None
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(0, printable(f"{type(error).__name__}: {error}"), "UTF-8 text") from error
    rows = _rows(text)
    header = [name.strip() for name in next(rows, (1, []))[1]]
    if header != _COLUMNS:
        raise _wrong(1, f"columns {printable(','.join(header)) or 'missing'}", ",".join(_COLUMNS))
    for line, row in rows:
        if not row:
            continue
        if len(row) != len(_COLUMNS):
            raise _wrong(line, f"{len(row)} columns", ",".join(_COLUMNS))
        uid, roi, points = (item.strip() for item in row)
        yield line, (uid, roi, points)


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of each line."""
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        with _fields_as_long_as(len(text)):
            rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise _wrong(reader.line_num, printable(str(error)), "a table in CSV") from error
    return iter(rows)


@contextmanager
def _fields_as_long_as(characters: int) -> Iterator[None]:
    """A field holds a whole contour, and csv's bound of 131,072 characters some 5,000 points.

    That bound is one for the whole process.
    """
    before = csv.field_size_limit()
    csv.field_size_limit(max(characters, before))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _distance_mm(points: NDArray[np.float64], header: Header) -> float:
    """How far the farthest point lies from the plane of a slice; 0 where the slice is unplaced."""
    if header.position_mm is None or header.orientation is None:
        return 0.0
    normal = np.cross(header.orientation[:3], header.orientation[3:])
    return float(np.abs((points - np.asarray(header.position_mm)) @ normal).max())


def _unknown(line: int, uid: str) -> FoundRejection:
    found = f"SOPInstanceUID {printable(uid) or 'missing'}"
    return rejected_row(_wrong(line, found, "that of a CT or PET slice that could be read"))


def _again(line: int, first: int) -> FoundRejection:
    what = "columns" if first == 1 else "contour"
    return rejected_row(
        LabelError(
            LABELS_CSV,
            found=f"line {line}: the {what} of line {first} again",
            expected="every line once",
            advice=f"Nothing is lost: line {first} is used.",
        )
    )


def _wrong(line: int, found: str, expected: str) -> LabelError:
    return LabelError(
        LABELS_CSV,
        found=f"line {line}: {found}" if line else found,
        expected=expected,
        advice=LABEL_ADVICE,
    )


def by_roi(contours: Sequence[Contour]) -> dict[tuple[str, str], list[Contour]]:
    """Contours that may hold holes in one another: those of one roi on one modality."""
    groups: dict[tuple[str, str], list[Contour]] = {}
    for contour in contours:
        groups.setdefault((contour.roi, contour.header.modality), []).append(contour)
    return groups
