"""What ``index.csv`` says of each slice: measured at full resolution, not on the model's input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from petct_uad.core.volumes import AIR_HU
from petct_uad.slices.store import Shard
from petct_uad.slices.tables import ImageRow, SliceRow
from petct_uad.volumes.motion.transforms import Transform
from petct_uad.volumes.resample import interpolate
from petct_uad.volumes.study import StudyVolumes

Floats = NDArray[np.float64]

_PARTS = 8  # of a PET slice, each of which counts as inside the body or outside


@dataclass(frozen=True)
class Measures:
    """One number per slice of the body's grid, (n,) each; of a flat image see ``images``.

    Attributes:
        suv_max: SUVbw over the body; the native PET interpolated at the body's voxels, unblurred.
        suv_mean: likewise.
        body_area_mm2: of the body.
        ct_mean_hu: over the body.
        lesion_kept_fraction: of the native lesion's area, inside the body; 1 without a lesion.
    """

    suv_max: Floats
    suv_mean: Floats
    body_area_mm2: Floats
    ct_mean_hu: Floats
    lesion_kept_fraction: Floats


@dataclass(frozen=True)
class BodyUptake:
    """The PET where the body lies, at full resolution and unblurred.

    Attributes:
        suv: (n, h, w) on the body's grid.
        inside: (n, h, w) where the body is.
        pixel_mm2: area of a pixel.
    """

    suv: NDArray[np.float32]
    inside: NDArray[np.bool_]
    pixel_mm2: float

    @classmethod
    def of(cls, study: StudyVolumes) -> BodyUptake:
        """That of a study."""
        x_mm, y_mm, _ = study.body.GetSpacing()
        inside = np.asarray(sitk.GetArrayFromImage(study.body) > 0)
        return cls(_array(interpolate(study.pet, study.body, study.transform)), inside, x_mm * y_mm)

    def area_above_mm2(self, suv: float) -> Floats:
        """Of each slice (n,): where the body's uptake is above this."""
        return _count(self.inside & (self.suv > suv)) * self.pixel_mm2

    @property
    def largest(self) -> float:
        """The largest SUV in the body, over all slices; 0 without a body."""
        return float(self.suv.max(where=self.inside, initial=0.0))


def measure_slices(study: StudyVolumes, uptake: BodyUptake) -> Measures:
    """Measure every slice of a study, whose uptake is given."""
    suv, inside = uptake.suv, uptake.inside
    hu = _array(interpolate(study.ct, study.body, outside=AIR_HU))
    return Measures(
        suv_max=suv.max(axis=(1, 2), where=inside, initial=0.0).astype(np.float64),
        suv_mean=_mean(suv, inside, 0.0),
        body_area_mm2=_count(inside) * uptake.pixel_mm2,
        ct_mean_hu=_mean(hu, inside, AIR_HU),
        lesion_kept_fraction=_lesion_kept(study),
    )


def suv_total_ratio(
    pet: sitk.Image, resampled: sitk.Image, body: sitk.Image, transform: Transform
) -> float:
    """SUV x volume of ``resampled`` over that of the native PET inside ``body``; 1 if empty.

    A native slice of which the body takes a part counts with that part. An affine map or a spline
    that changes volumes changes the ratio likewise.

    Args:
        pet: SUVbw on its native grid.
        resampled: SUVbw on any grid of the CT frame, 0 outside the body.
        body: mask on a grid of the CT frame, over the slices of ``resampled``.
        transform: from the CT frame to the PET frame.
    """
    native = _inside(body, pet, transform) * _array(pet)
    total = native.sum(dtype=np.float64) * _volume_mm3(pet)
    kept = _array(resampled).sum(dtype=np.float64) * _volume_mm3(resampled)
    return float(kept / total) if total > 0 else 1.0


@dataclass(frozen=True)
class SliceMeasures:
    """What ``ImageRow`` says of one slice under the same names, whatever its split."""

    lesion_kept_fraction: float
    suv_max: float
    suv_mean: float
    suv_total_ratio: float
    body_area_mm2: float
    ct_mean_hu: float
    ct_std: float
    pet_std: float
    sha256: str


def slice_measures(
    measures: Measures, suv_ratio: float, planes: Shard
) -> tuple[SliceMeasures, ...]:
    """One per slice of the body's grid.

    Args:
        measures: at full resolution.
        suv_ratio: of the study, see :func:`suv_total_ratio`.
        planes: every slice as the model sees it.
    """
    return tuple(
        SliceMeasures(
            lesion_kept_fraction=float(measures.lesion_kept_fraction[z]),
            suv_max=float(measures.suv_max[z]),
            suv_mean=float(measures.suv_mean[z]),
            suv_total_ratio=suv_ratio,
            body_area_mm2=float(measures.body_area_mm2[z]),
            ct_mean_hu=float(measures.ct_mean_hu[z]),
            ct_std=float(planes.ct[z].std(dtype=np.float64)),
            pet_std=float(planes.pet[z].std(dtype=np.float64)),
            sha256=planes.sha256_of(z),
        )
        for z in range(len(planes))
    )


def index_row(row: SliceRow, shard_row: int, measured: SliceMeasures) -> ImageRow:
    """The row of a slice for ``index.csv``; ``shard_row`` says where it is in its shard."""
    return ImageRow(
        slice_id=row.slice_id,
        study_id=row.study_id,
        patient=row.patient,
        scanner=row.scanner,
        split=row.split,
        label=row.label,
        position=row.position,
        shard_row=shard_row,
        lesion_area_mm2=row.lesion_area_mm2,
        **vars(measured),
    )


def _inside(body: sitk.Image, pet: sitk.Image, transform: Transform) -> NDArray[np.float32]:
    """Which part of each PET voxel's depth the body takes: 0 to 1, (z, y, x)."""
    grid = sitk.Image(pet.GetSize(), sitk.sitkUInt8)
    grid.CopyInformation(pet)
    count = np.zeros(pet.GetSize()[::-1], np.uint8)
    inverse = transform.inverse_sitk()
    for depth in (np.arange(_PARTS) + 0.5) / _PARTS - 0.5:
        grid.SetOrigin(pet.TransformContinuousIndexToPhysicalPoint((0.0, 0.0, float(depth))))
        moved = sitk.Resample(body, grid, inverse, sitk.sitkNearestNeighbor, 0.0)
        count += sitk.GetArrayViewFromImage(moved)
    return np.asarray(count / np.float32(_PARTS), dtype=np.float32)


def _lesion_kept(study: StudyVolumes) -> Floats:
    lesion = _array(study.lesion) > 0
    whole = _count(lesion)
    if not whole.any():
        return np.ones_like(whole)
    nearest = sitk.sitkNearestNeighbor
    body = sitk.Resample(study.body, study.lesion, sitk.Transform(), nearest, 0.0)
    kept = _count(lesion & (_array(body) > 0))
    return np.asarray(np.divide(kept, whole, out=np.ones_like(whole), where=whole > 0))


def _mean(values: NDArray[np.float32], inside: NDArray[np.bool_], empty: float) -> Floats:
    total = values.sum(axis=(1, 2), where=inside, dtype=np.float64)
    count = _count(inside)
    return np.asarray(np.divide(total, count, out=np.full_like(total, empty), where=count > 0))


def _count(mask: NDArray[np.bool_]) -> Floats:
    return np.asarray(mask.sum(axis=(1, 2)), dtype=np.float64)


def _array(image: sitk.Image) -> NDArray[np.float32]:
    return np.asarray(sitk.GetArrayFromImage(image))


def _volume_mm3(image: sitk.Image) -> float:
    return float(np.prod(image.GetSpacing()))
