"""Statistics of ingest's volumes, from their voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from imagecodecs import gzip_decode
from numpy.typing import NDArray

from petct_uad.core.store.map_stored import map_stored
from petct_uad.core.store.study_store import Storable, StudyStore
from petct_uad.validation.tables import VolumeRow

_KINDS = ("ct", "label", "pet")
_VOX_OFFSET = 108  # where a NIfTI-1 header says at which byte the voxels begin
# NIfTI's types of what ingest writes: CT, PET and label.
_TYPES = {sitk.sitkInt16: "<i2", sitk.sitkFloat32: "<f4", sitk.sitkUInt8: "|u1"}
_DARKEST = 0.01  # part of the voxels: even a picture of the body alone has so much air in it


@dataclass(frozen=True)
class _Volume(Storable):
    study_id: str
    kind: str
    path: Path

    @property
    def sources(self) -> tuple[Path, ...]:
        """The volume."""
        return (self.path,)

    @property
    def said(self) -> str:
        """Whose it is."""
        return self.study_id


def measure_volumes(
    folder: Path, studies: Sequence[str], workers: int, store: StudyStore | None = None
) -> list[VolumeRow]:
    """One row per volume below ``folder/<study_id>``; one that is absent has no row."""
    there = [
        _Volume(path.parent.name, path.name.removesuffix(".nii.gz"), path)
        for path in volume_files(folder, studies)
    ]
    return map_stored(
        _measure_volume, there, VolumeRow, "measuring volumes", workers=workers, store=store
    )


def volume_files(folder: Path, studies: Sequence[str]) -> list[Path]:
    """The volumes that are there, sorted by study and kind."""
    found = [
        folder / study_id / f"{kind}.nii.gz" for study_id in sorted(studies) for kind in _KINDS
    ]
    return [path for path in found if path.is_file()]


def _measure_volume(volume: _Volume) -> VolumeRow:
    header = sitk.ImageFileReader()
    header.SetFileName(volume.path)
    header.ReadImageInformation()
    columns, rows, slices = header.GetSize()
    x_mm, y_mm, z_mm = header.GetSpacing()
    voxels = _voxels(volume.path, _TYPES[header.GetPixelID()])
    # A label's voxels say on which images they were drawn; how much of it is lesion, its mean.
    measured = voxels.astype(np.bool_) if volume.kind == "label" else voxels
    mean, std = _moments(measured.reshape(slices, -1))
    return VolumeRow(
        study_id=volume.study_id,
        kind=volume.kind,
        columns=columns,
        rows=rows,
        slices=slices,
        spacing_x_mm=x_mm,
        spacing_y_mm=y_mm,
        spacing_z_mm=z_mm,
        finite=bool(np.isfinite(voxels).all()),
        minimum=float(voxels.min()),
        maximum=float(voxels.max()),
        mean=mean,
        std=std,
        air_hu=_air_hu(voxels) if volume.kind == "ct" else None,
    )


def _voxels(path: Path, pixel_type: str) -> NDArray[np.generic]:
    """All voxels (n,), as they lie in the file: ITK would read NaN as 0."""
    content = gzip_decode(path.read_bytes())
    first = int(np.frombuffer(content, "<f4", 1, _VOX_OFFSET)[0])
    return np.frombuffer(content, pixel_type, offset=first)


def _moments(slices: NDArray[np.generic]) -> tuple[float, float]:
    """Mean and standard deviation, slice by slice: a whole CT in float64 is half a gigabyte."""
    planes = (plane.astype(np.float64) for plane in slices)
    sums = np.array([(plane.sum(), np.dot(plane, plane)) for plane in planes])
    mean, square = sums.sum(axis=0) / slices.size
    return float(mean), float(np.sqrt(max(square - mean**2, 0.0)))


def _air_hu(hu: NDArray[np.generic]) -> float:
    """The lowest percentile: air around the body, or in it where that was cut out."""
    rank = int(_DARKEST * len(hu))
    return float(np.partition(hu, rank)[rank])
