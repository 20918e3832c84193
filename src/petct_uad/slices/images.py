"""From registered volumes to model input: body crop, windows, bilateral filter, resize."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from petct_uad.console import map_in_processes
from petct_uad.errors import DatasetError
from petct_uad.lineage.record import Derivation, Entity
from petct_uad.params import PreprocessParams
from petct_uad.slices.store import Shard, shard_path, write_shard
from petct_uad.slices.tables import ImageRow, SliceRow

_AIR_HU = -1000.0


@dataclass(frozen=True)
class _Study:
    study_id: str
    rows: tuple[SliceRow, ...]


@dataclass(frozen=True)
class _Planes:
    """Everything about one study on one grid, as SimpleITK images (x, y, z)."""

    ct: sitk.Image
    pet: sitk.Image
    lesion: sitk.Image
    body: sitk.Image


def write_shards(
    slices: Sequence[SliceRow], volumes: Path, processed: Path, params: PreprocessParams
) -> list[ImageRow]:
    """Write one shard per study with a kept slice; return index rows sorted by slice_id.

    Args:
        slices: rows of ``slices.csv``; excluded ones are left out.
        volumes: ``<study_id>/{ct,pet,body,label}.nii.gz`` on the target grid.
        processed: receives ``shards/<study_id>.safetensors``.
    """
    kept: dict[str, list[SliceRow]] = {}
    for row in slices:
        if row.split != "excluded":
            kept.setdefault(row.study_id, []).append(row)
    studies = [_Study(study_id, tuple(rows)) for study_id, rows in sorted(kept.items())]
    work = partial(_write_study, volumes=volumes, processed=processed, params=params)
    tables = map_in_processes(work, studies, "cropping and filtering", params.workers)
    return sorted((row for table in tables for row in table), key=lambda row: row.slice_id)


def shard_derivations(
    rows: Sequence[ImageRow], volumes: Path, processed: Path, slices_file: Path
) -> list[Derivation]:
    """Every slice from the volumes of its study, every shard and the index from those slices."""
    table = Entity.of_file(slices_file)
    sources = {
        study_id: tuple(Entity.of_file(path) for path in sorted((volumes / study_id).glob("*.gz")))
        for study_id in sorted({row.study_id for row in rows})
    }
    slices = {row.slice_id: Entity(f"slice:{row.slice_id}", row.sha256) for row in rows}
    derivations = [Derivation(slices[row.slice_id], sources[row.study_id]) for row in rows]
    for study_id in sources:
        members = tuple(slices[row.slice_id] for row in rows if row.study_id == study_id)
        shard = Entity.of_file(shard_path(processed, study_id))
        derivations.append(Derivation(shard, members))
    index = Entity.of_file(processed / "index.csv")
    return [*derivations, Derivation(index, (table, *slices.values()))]


def _write_study(
    study: _Study, *, volumes: Path, processed: Path, params: PreprocessParams
) -> list[ImageRow]:
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    native = _read(volumes / study.study_id)
    picked = [row.slice_index for row in study.rows]
    whole = model_input(native, params)
    shard = Shard(whole.ct[picked], whole.pet[picked], whole.lesion[picked], whole.body[picked])
    write_shard(shard_path(processed, study.study_id), shard)
    in_roi = _lesion_area_px(native.lesion * native.body)
    return [
        _index_row(row, i, native, shard, float(in_roi[row.slice_index]))
        for i, row in enumerate(study.rows)
    ]


def _read(folder: Path) -> _Planes:
    ct = sitk.ReadImage(str(folder / "ct.nii.gz"), sitk.sitkFloat32)
    pet = sitk.ReadImage(str(folder / "pet.nii.gz"), sitk.sitkFloat32)
    body = sitk.ReadImage(str(folder / "body.nii.gz"), sitk.sitkUInt8)
    label = folder / "label.nii.gz"
    if label.is_file():
        lesion = sitk.ReadImage(str(label)) > 0
    else:
        lesion = sitk.Image(ct.GetSize(), sitk.sitkUInt8)
        lesion.CopyInformation(ct)
    return _Planes(ct, pet, sitk.Cast(lesion, sitk.sitkUInt8), body)


def model_input(native: _Planes, params: PreprocessParams) -> Shard:
    """All slices of a study as the model sees them.

    Outside the body the CT is air and the PET zero. The crop is the square around the body's
    bounding box over the whole study, so that the aspect and the scale are one for all its slices.
    """
    box = _square_around(native.body, params.roi_margin_mm)
    outside = sitk.Cast(1 - native.body, sitk.sitkFloat32)
    inside = sitk.Cast(native.body, sitk.sitkFloat32)
    ct = sitk.IntensityWindowing(
        native.ct * inside + _AIR_HU * outside, params.ct_low_hu, params.ct_high_hu, 0.0, 1.0
    )
    pet = sitk.IntensityWindowing(native.pet * inside, 0.0, params.suv_high, 0.0, 1.0)
    if params.bilateral_ct:
        ct = _bilateral(ct, params)
    if params.bilateral_pet:
        pet = _bilateral(pet, params)
    size = params.image_size_px
    return Shard(
        ct=_fit(ct, box, size).astype(np.float16),
        pet=_fit(pet, box, size).astype(np.float16),
        lesion=(_fit(native.lesion, box, size) >= 0.5).astype(np.uint8),
        body=(_fit(native.body, box, size) >= 0.5).astype(np.uint8),
    )


@dataclass(frozen=True)
class _Square:
    """An axial square in continuous pixel indices: first corner and side."""

    x: float
    y: float
    side: float


def _square_around(body: sitk.Image, margin_mm: float) -> _Square:
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(body)
    if not statistics.HasLabel(1):
        raise DatasetError(
            "a registered CT holds no body: lower register.body_threshold_hu, or look at "
            "reports/registration for the study"
        )
    x, y, _, width, height, _ = statistics.GetBoundingBox(1)
    side = max(width, height) + 2 * margin_mm / body.GetSpacing()[0]
    return _Square(x + (width - side) / 2, y + (height - side) / 2, side)


def _bilateral(image: sitk.Image, params: PreprocessParams) -> sitk.Image:
    """Edge-preserving smoothing of each slice on its own (Tomasi and Manduchi, 1998)."""
    filtered = [
        sitk.Bilateral(
            image[:, :, z],
            domainSigma=params.bilateral_sigma_mm,
            rangeSigma=params.bilateral_range_fraction,
        )
        for z in range(image.GetSize()[2])
    ]
    joined = sitk.JoinSeries(filtered)
    joined.CopyInformation(image)
    return joined


def _fit(image: sitk.Image, box: _Square, size_px: int) -> NDArray[np.float32]:
    """Crop a [0, 1] image to ``box`` and resize to (n, S, S), averaging where that shrinks."""
    shrink = box.side / size_px
    spacing = image.GetSpacing()
    smooth = sitk.Cast(image, sitk.sitkFloat32)
    if shrink > 1:
        # Half the new pixel's width as sigma: the usual antialiasing for linear interpolation.
        sigma = [shrink * spacing[0] / 2, shrink * spacing[1] / 2]
        smooth = _gaussian_in_plane(smooth, sigma)
    grid = sitk.Image(size_px, size_px, image.GetSize()[2], sitk.sitkFloat32)
    corner = (box.x + (shrink - 1) / 2, box.y + (shrink - 1) / 2, 0.0)
    grid.SetOrigin(image.TransformContinuousIndexToPhysicalPoint(corner))
    grid.SetSpacing((spacing[0] * shrink, spacing[1] * shrink, spacing[2]))
    grid.SetDirection(image.GetDirection())
    fitted = np.asarray(sitk.GetArrayFromImage(sitk.Resample(smooth, grid)), dtype=np.float32)
    return fitted.clip(0.0, 1.0)  # the recursive Gaussian overshoots edges by a hair


def _gaussian_in_plane(image: sitk.Image, sigma_mm: Sequence[float]) -> sitk.Image:
    smooth = sitk.RecursiveGaussian(image, sigma=sigma_mm[0], direction=0)
    return sitk.RecursiveGaussian(smooth, sigma=sigma_mm[1], direction=1)


def _lesion_area_px(lesion: sitk.Image) -> NDArray[np.int64]:
    return np.asarray(sitk.GetArrayViewFromImage(lesion).sum(axis=(1, 2), dtype=np.int64))


def _index_row(row: SliceRow, i: int, native: _Planes, shard: Shard, in_roi: float) -> ImageRow:
    ct, pet, lesion, body = (
        sitk.GetArrayViewFromImage(image)[row.slice_index]
        for image in (native.ct, native.pet, native.lesion, native.body)
    )
    inside = body > 0
    pixel_mm2 = native.ct.GetSpacing()[0] * native.ct.GetSpacing()[1]
    return ImageRow(
        slice_id=row.slice_id,
        study_id=row.study_id,
        patient=row.patient,
        scanner=row.scanner,
        split=row.split,
        label=row.label,
        position=row.position,
        shard_row=i,
        lesion_area_mm2=row.lesion_area_mm2,
        lesion_kept_fraction=in_roi / lesion.sum() if lesion.any() else 1.0,
        suv_max=float(pet[inside].max(initial=0)),
        suv_mean=float(pet[inside].mean(dtype=np.float64)) if inside.any() else 0.0,
        body_area_mm2=float(inside.sum() * pixel_mm2),
        ct_mean_hu=float(ct[inside].mean(dtype=np.float64)) if inside.any() else _AIR_HU,
        ct_std=float(shard.ct[i].std(dtype=np.float64)),
        pet_std=float(shard.pet[i].std(dtype=np.float64)),
        sha256=shard.sha256_of(i),
    )
