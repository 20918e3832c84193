"""Where the thorax is: from the apex of the lungs to their base, by the CT.

Lungs are what is darker than soft tissue inside the body and still no gas: stomach, bowel and
airways are emptied first, since they are as large as they like and reach anywhere. What is then
wider than an airway, hangs together in three dimensions and is large enough is lung, right and
left, connected or not; from there the thin ends are followed, though not far: an airway that is too
blurred to be seen as gas leads out of the lungs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from petct_uad.core.store.map_stored import map_stored
from petct_uad.core.store.study_store import Storable, StudyStore
from petct_uad.core.volumes import voxel_count
from petct_uad.split.lungs import MARGIN_MM, Lungs
from petct_uad.split.thorax_figures import ThoraxFigure, draw_thorax
from petct_uad.volumes.resample import native_slices, resample_ct
from petct_uad.volumes.study import VolumeFolders, read_mask, read_native

_BYTES_PER_CT_VOXEL = 12  # float32 as read, as blurred, and what the blur takes
_BYTES_PER_PROCESS = 200 << 20  # the interpreter and its libraries
_SPACING_MM = 3.0  # in-plane, of the grid on which lungs are sought
_AIR_HU = -500.0  # half way between soft tissue and air
_GAS_HU = -940.0  # the lightest lung is -900 on average; gas is -1000
_GAS_RIM_MM = 8.0  # partly filled pixels around gas, which look like lung, in-plane
_TISSUE_HU = -300.0
_WALL_MM = 15.0  # half of a gap in the body of register, whose opening takes thin chest walls
_PARTLY_HU = -200.0  # beside lung, a pixel of which a third is lung: the recesses are thin
_VESSEL_MM = 6.0  # radius
_AIRWAY_MM = 12.0  # radius: no trachea is wider, so that none is a lung or a way to what is gas
_RECESS_MM = 60.0  # how long a thin end of a lung may be; a trachea reaches 100 mm above its fork
_LEAST_ML = 100.0  # of a lung that is seen in part; adults have 2 to 3 litres in each
_LEAST_SHARE = 0.05  # of the largest part: the other lung, however small
_LEAST_AREA_MM2 = 100.0  # of a slice that counts as one with lung


@dataclass(frozen=True)
class _Task(Storable):
    study_id: str
    ct: Path
    body: Path
    figure: Path

    @property
    def sources(self) -> tuple[Path, ...]:
        """The CT, and the body on the slices that register keeps."""
        return self.ct, self.body

    @property
    def said(self) -> str:
        """Who it is, as the figure says."""
        return json.dumps([self.study_id])

    @property
    def outputs(self) -> Mapping[str, Path]:
        """The QC figure."""
        return {"figure.png": self.figure}


def find_thoraxes(
    study_ids: Sequence[str],
    volumes: VolumeFolders,
    figures: Path,
    workers: int = 1,
    store: StudyStore | None = None,
) -> dict[str, Lungs]:
    """The lungs of every study, by study_id; draws ``<figures>/<study_id>.png`` of each.

    Raises:
        DatasetError: a volume cannot be read.
        RegistrationError: register ran on another CT.
    """
    figures.mkdir(parents=True, exist_ok=True)
    folders = {study_id: volumes.study(study_id) for study_id in sorted(study_ids)}
    tasks = [
        _Task(study_id, folder.ct, folder.body, figures / f"{study_id}.png")
        for study_id, folder in folders.items()
    ]
    found = map_stored(
        _find_thorax,
        tasks,
        Lungs,
        "finding the lungs",
        workers=workers,
        store=store,
        bytes_of=_bytes_of,
    )
    return dict(zip(folders, found, strict=True))


def lung_mask(ct: sitk.Image, body: sitk.Image) -> sitk.Image:
    """The lungs on a CT, without gas: uint8, on the grid of ``body`` at 3 mm in-plane.

    Args:
        ct: HU, on the slices of ``body``.
        body: 1 inside the patient, lungs filled in.
    """
    grid = _coarse(body)
    hu = resample_ct(ct, grid)
    inside = _closed(sitk.Resample(body, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0), hu)
    gas = sitk.BinaryMorphologicalOpening(hu < _GAS_HU, [1, 1, 0])
    rim = _pixels(_GAS_RIM_MM)[:2]
    no_gas = sitk.Not(sitk.BinaryDilate(sitk.And(gas, inside), [*rim, 1]))
    lung_like = sitk.And(sitk.And(hu < _AIR_HU, inside), no_gas)
    without_vessels = sitk.BinaryMorphologicalClosing(lung_like, _pixels(_VESSEL_MM))
    wide = sitk.BinaryMorphologicalOpening(without_vessels, _pixels(_AIRWAY_MM))
    around = sitk.And(sitk.And(hu < _PARTLY_HU, inside), no_gas)
    return _grown(_large_parts(wide), around)


def measure_lungs(lungs: sitk.Image) -> Lungs:
    """Volume and ends of a mask of :func:`lung_mask`."""
    voxels = sitk.GetArrayViewFromImage(lungs).sum(axis=(1, 2), dtype=np.int64)
    x_mm, y_mm, z_mm = lungs.GetSpacing()
    seen = np.flatnonzero(voxels * x_mm * y_mm >= _LEAST_AREA_MM2)
    if not len(seen):
        return Lungs(0.0)
    ends = [_height(lungs, int(index)) for index in (seen[0], seen[-1])]
    at_ends = [bool(seen[0] == 0), bool(seen[-1] == len(voxels) - 1)]
    if ends[0] > ends[1]:  # slices that run towards the feet
        ends, at_ends = ends[::-1], at_ends[::-1]
    volume_ml = float(voxels.sum() * x_mm * y_mm * z_mm) / 1000.0
    return Lungs(volume_ml, ends[0], ends[1], *at_ends)


def _bytes_of(task: _Task) -> int:
    return _BYTES_PER_PROCESS + _BYTES_PER_CT_VOXEL * voxel_count(task.ct)


def _find_thorax(task: _Task) -> Lungs:
    """One study, in a process of its own."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    body = read_mask(task.body)
    ct = native_slices(read_native(task.ct), body)
    mask = lung_mask(ct, body)
    lungs = measure_lungs(mask)
    ends = None if lungs.base_mm is None else (lungs.base_mm, lungs.apex_mm or 0.0)
    figure = ThoraxFigure(task.study_id, resample_ct(ct, mask), mask, ends, MARGIN_MM)
    draw_thorax(task.figure, figure)
    return lungs


def _coarse(body: sitk.Image) -> sitk.Image:
    """An empty image on the body's slices, coarser in-plane."""
    columns, rows, slices = body.GetSize()
    x_mm, y_mm, z_mm = body.GetSpacing()
    size = [int(columns * x_mm // _SPACING_MM), int(rows * y_mm // _SPACING_MM), slices]
    grid = sitk.Image([max(side, 1) for side in size], sitk.sitkUInt8)
    grid.SetOrigin(body.GetOrigin())
    grid.SetDirection(body.GetDirection())
    grid.SetSpacing((_SPACING_MM, _SPACING_MM, z_mm))
    return grid


def _closed(body: sitk.Image, hu: sitk.Image) -> sitk.Image:
    """The body with what tissue beside it encloses: lung behind a wall that register left out."""
    beside = sitk.And(hu > _TISSUE_HU, sitk.BinaryDilate(body, _pixels(_WALL_MM)))
    wall = sitk.GetArrayViewFromImage(sitk.Or(body, beside))
    in_plane = ndimage.generate_binary_structure(2, 1)[np.newaxis]
    closed = sitk.GetImageFromArray(ndimage.binary_fill_holes(wall, in_plane).astype(np.uint8))
    closed.CopyInformation(body)
    return closed


def _pixels(radius_mm: float) -> list[int]:
    """A radius in-plane on the coarse grid."""
    side = round(radius_mm / _SPACING_MM)
    return [side, side, 0]


def _grown(lungs: sitk.Image, around: sitk.Image) -> sitk.Image:
    """The lungs with what is thin and hangs together with them, so far along the body."""
    free = sitk.GetArrayViewFromImage(around).astype(bool)
    grown = ndimage.binary_dilation(
        sitk.GetArrayViewFromImage(lungs),
        ndimage.generate_binary_structure(3, 2),
        iterations=math.ceil(_RECESS_MM / lungs.GetSpacing()[2]),
        mask=free,
    )
    image = sitk.GetImageFromArray((grown & free).astype(np.uint8))
    image.CopyInformation(lungs)
    return image


def _large_parts(mask: sitk.Image) -> sitk.Image:
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(mask))  # the largest is 1
    voxels: NDArray[np.int64] = np.bincount(sitk.GetArrayViewFromImage(parts).ravel())[1:]
    volume_ml = voxels * float(np.prod(mask.GetSpacing())) / 1000.0
    if not len(volume_ml) or volume_ml[0] < _LEAST_ML:
        return sitk.Cast(parts < 0, sitk.sitkUInt8)
    kept = int((volume_ml >= _LEAST_SHARE * volume_ml[0]).sum())
    return sitk.BinaryThreshold(sitk.Cast(parts, sitk.sitkFloat32), 0.5, kept + 0.5)


def _height(image: sitk.Image, index: int) -> float:
    return float(image.TransformIndexToPhysicalPoint((0, 0, index))[2])
