"""A second reader of CT, PET and RTSTRUCT, to hold the first against: pydicom and numpy alone.

It shares no line with ``petct_uad`` and trusts its input: uncompressed single-frame slices that
make one even stack, one injection. Where two readers written apart agree, an error would have to be
the same one twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

Points = NDArray[np.float64]

_ON_EDGE_PX = 1e-6


@dataclass(frozen=True)
class Seen:
    """Slices as the second reader has them.

    Attributes:
        values: (z, y, x) float64 after slope and intercept, slices along the normal.
        affine: (4, 4), from voxel indices (x, y, z, 1) to the patient frame (LPS, mm).
        first: all that the first slice says.
    """

    values: NDArray[np.float64]
    affine: NDArray[np.float64]
    first: Dataset

    def corners_mm(self) -> Points:
        """Centres of the eight outermost voxels, (8, 3)."""
        ends = [(0, count - 1) for count in self.values.shape[::-1]]
        indices = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, 3)
        return indices @ self.affine[:3, :3].T + self.affine[:3, 3]


def see(folder: Path) -> Seen:
    """Read every file of a folder as one stack of slices."""
    slices = [pydicom.dcmread(path) for path in folder.iterdir()]
    along, down = np.array(slices[0].ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(along, down)
    slices.sort(key=lambda item: float(np.array(item.ImagePositionPatient, float) @ normal))
    places = np.array([item.ImagePositionPatient for item in slices], float)
    down_mm, along_mm = (float(mm) for mm in slices[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = along * along_mm, down * down_mm
    affine[:3, 2] = (places[-1] - places[0]) / (len(places) - 1)
    affine[:3, 3] = places[0]
    return Seen(np.stack([_values(item) for item in slices]), affine, slices[0])


def suv_bw(pet: Seen) -> NDArray[np.float64]:
    """(z, y, x) SUVbw in g/ml: as stored, or by dose, weight and decay to the series time."""
    if pet.first.Units == "GML":
        return pet.values
    (drug,) = pet.first.RadiopharmaceuticalInformationSequence
    waited_s = _seconds(pet.first.SeriesTime) - _seconds(drug.RadiopharmaceuticalStartTime)
    left = {"ADMIN": 1.0, "START": 0.5 ** (waited_s / float(drug.RadionuclideHalfLife))}
    bq_left = float(drug.RadionuclideTotalDose) * left[pet.first.DecayCorrection]
    return np.asarray(pet.values * float(pet.first.PatientWeight) * 1000 / bq_left)


def contours_mm(rtstruct: Path) -> list[Points]:
    """Every closed planar contour of every ROI, (n, 3) each, in the patient frame."""
    said: Any = pydicom.dcmread(rtstruct)
    return [
        np.array(contour.ContourData, float).reshape(-1, 3)
        for roi in said.ROIContourSequence
        for contour in roi.ContourSequence
        if contour.ContourGeometricType == "CLOSED_PLANAR"
    ]


def mask(ct: Seen, contours: Sequence[Points]) -> NDArray[np.bool_]:
    """Voxels of a CT (z, y, x) whose centres lie in or on a contour of the plane nearest to them.

    A plane reaches half a slice; a contour inside another is a hole.
    """
    to_index = np.linalg.inv(ct.affine)
    placed = [points @ to_index[:3, :3].T + to_index[:3, 3] for points in contours]
    drawn = np.zeros(ct.values.shape, bool)
    for index, plane in enumerate(drawn):
        for points in _nearest(placed, index):
            np.logical_xor(plane, _inside(points[:, :2], plane.shape), out=plane)
    return drawn


def _nearest(contours: Iterable[Points], index: int) -> list[Points]:
    away = [(abs(float(points[0, 2]) - index), points) for points in contours]
    least = min(distance for distance, _ in away)
    return [points for distance, points in away if distance < min(least + 1e-3, 0.5 + 1e-6)]


def _inside(points: Points, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Pixel centres in or on a polygon (n, 2), row by row: left of an odd number of its edges."""
    (x0, y0), (x1, y1) = points.T, np.roll(points, -1, axis=0).T
    x = np.arange(shape[1])[:, None]
    inside = np.zeros(shape, bool)
    first, last = np.clip([np.floor(y0.min()), np.ceil(y0.max())], 0, shape[0] - 1).astype(int)
    for y in range(first, last + 1):
        crossed = (y0 <= y) != (y1 <= y)
        at = (x0 + (y - y0) / np.where(y0 == y1, np.inf, y1 - y0) * (x1 - x0))[None]
        odd = ((x < at) & crossed).sum(axis=1) % 2 == 1
        touched = (np.minimum(y0, y1) <= y) & (y <= np.maximum(y0, y1))
        left, right = np.where(y0 == y1, [np.minimum(x0, x1), np.maximum(x0, x1)], at)
        on = touched & (left - _ON_EDGE_PX <= x) & (x <= right + _ON_EDGE_PX)
        inside[y] = odd | on.any(axis=1)
    return inside


def _values(item: Dataset) -> NDArray[np.float64]:
    kind = {0: "<u2", 1: "<i2"}[item.PixelRepresentation]
    stored = np.frombuffer(item.PixelData, kind, item.Rows * item.Columns)
    plane = stored.reshape(item.Rows, item.Columns).astype(float)
    return np.asarray(plane * float(item.RescaleSlope) + float(item.RescaleIntercept))


def _seconds(time: str) -> float:
    """Of a TM value, from midnight."""
    return int(time[:2]) * 3600 + int(time[2:4]) * 60 + float(time[4:] or 0)
