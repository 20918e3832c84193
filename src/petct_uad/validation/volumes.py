"""Statistics of ingest's volumes, from their voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from imagecodecs import gzip_decode

from petct_uad.console import map_in_processes
from petct_uad.validation.tables import VolumeRow

_KINDS = ("ct", "label", "pet")
_VOX_OFFSET = 108  # where a NIfTI-1 header says at which byte the voxels begin
_DARKEST = 0.01  # part of the voxels: even a picture of the body alone has so much air in it


@dataclass(frozen=True)
class _Volume:
    study_id: str
    kind: str
    path: Path


def measure_volumes(folder: Path, studies: Sequence[str], workers: int) -> list[VolumeRow]:
    """One row per volume below ``folder/<study_id>``; one that is absent has no row."""
    there = [
        _Volume(path.parent.name, path.name.removesuffix(".nii.gz"), path)
        for path in volume_files(folder, studies)
    ]
    return map_in_processes(_measure, there, "measuring volumes", workers)


def volume_files(folder: Path, studies: Sequence[str]) -> list[Path]:
    """The volumes that are there, sorted by study and kind."""
    found = [
        folder / study_id / f"{kind}.nii.gz" for study_id in sorted(studies) for kind in _KINDS
    ]
    return [path for path in found if path.is_file()]


def _measure(volume: _Volume) -> VolumeRow:
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # sums in one order
    image = sitk.ReadImage(volume.path)
    statistics = sitk.StatisticsImageFilter()
    statistics.Execute(image)
    columns, rows, slices = image.GetSize()
    x_mm, y_mm, z_mm = image.GetSpacing()
    return VolumeRow(
        study_id=volume.study_id,
        kind=volume.kind,
        columns=columns,
        rows=rows,
        slices=slices,
        spacing_x_mm=x_mm,
        spacing_y_mm=y_mm,
        spacing_z_mm=z_mm,
        finite=image.GetPixelID() != sitk.sitkFloat32 or _is_finite(volume.path),
        minimum=statistics.GetMinimum(),
        maximum=statistics.GetMaximum(),
        mean=statistics.GetMean(),
        std=statistics.GetSigma(),
        air_hu=_air_hu(image) if volume.kind == "ct" else None,
    )


def _is_finite(path: Path) -> bool:
    """Is no voxel of a float32 NIfTI file NaN or infinite? ITK reads such voxels as 0."""
    content = gzip_decode(path.read_bytes())
    first = int(np.frombuffer(content, "<f4", 1, _VOX_OFFSET)[0])
    return bool(np.isfinite(np.frombuffer(content, "<f4", offset=first)).all())


def _air_hu(ct: sitk.Image) -> float:
    """The lowest percentile: air around the body, or in it where that was cut out."""
    hu = sitk.GetArrayViewFromImage(ct).ravel()
    rank = int(_DARKEST * len(hu))
    return float(np.partition(hu, rank)[rank])
