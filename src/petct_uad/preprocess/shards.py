"""From native volumes to model input: one resampling, body mask, windows, bilateral filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from petct_uad.core.parallel import map_in_processes
from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.core.volumes import AIR_HU
from petct_uad.preprocess.filters import bilateral
from petct_uad.preprocess.images import write_image_shard
from petct_uad.preprocess.measures import BodyUptake, index_row, measure_slices, suv_total_ratio
from petct_uad.preprocess.neighbours import neighbours_within
from petct_uad.preprocess.params import PreprocessParams
from petct_uad.preprocess.readings import read_uptake
from petct_uad.slices.store import Shard, shard_path, write_shard
from petct_uad.slices.tables import ImageRow, ReadingRow, SliceRow
from petct_uad.volumes.resample import resample_ct, resample_mask, resample_pet
from petct_uad.volumes.study import StudyFolder, StudyVolumes, VolumeFolders, read_study


@dataclass(frozen=True)
class _Task:
    study_id: str
    rows: tuple[SliceRow, ...]


@dataclass(frozen=True)
class SliceTables:
    """What is known of the slices in shards, each sorted by slice_id: one row of each per slice.

    Attributes:
        images: for ``index.csv``.
        readings: for ``readings.csv``.
    """

    images: list[ImageRow]
    readings: list[ReadingRow]


@dataclass(frozen=True)
class Planes:
    """A study on the model's grid, as SimpleITK images (x, y, z).

    Attributes:
        ct: float32 HU, air outside the body.
        pet: float32 SUVbw, 0 outside the body.
        lesion: uint8, 1 inside a lesion.
        body: uint8, 1 inside the body.
    """

    ct: sitk.Image
    pet: sitk.Image
    lesion: sitk.Image
    body: sitk.Image


def write_shards(
    slices: Sequence[SliceRow],
    volumes: VolumeFolders,
    processed: Path,
    params: PreprocessParams,
    workers: int = 1,
) -> SliceTables:
    """Write one shard per study with a kept slice; return what was measured on the slices.

    Args:
        slices: rows of ``slices.csv``; excluded ones are left out.
        volumes: of the studies.
        processed: receives ``shards/<study_id>.safetensors``.
        params: of the stage.
        workers: number of processes; 0 means one per core. The bytes are the same.

    Raises:
        DatasetError: a volume cannot be read, or holds no body.
        RegistrationError: register ran on other volumes than those of ingest.
    """
    kept: dict[str, list[SliceRow]] = {}
    for row in slices:
        if row.split != "excluded":
            kept.setdefault(row.study_id, []).append(row)
    tasks = [_Task(study_id, tuple(rows)) for study_id, rows in sorted(kept.items())]
    work = partial(_write_study, volumes=volumes, processed=processed, params=params)
    tables = map_in_processes(work, tasks, "resampling and filtering", workers)
    return SliceTables(
        images=sorted((x for table in tables for x in table.images), key=lambda x: x.slice_id),
        readings=sorted((x for table in tables for x in table.readings), key=lambda x: x.slice_id),
    )


def shard_derivations(
    rows: Sequence[ImageRow], volumes: VolumeFolders, processed: Path, slices_file: Path
) -> list[Derivation]:
    """Every slice from its study's volumes, every shard and the index from those slices.

    Readings are measured on the volumes themselves.
    """
    table = Entity.of_file(slices_file)
    sources = {
        study_id: tuple(map(Entity.of_file, volumes.study(study_id).sources))
        for study_id in sorted({row.study_id for row in rows})
    }
    slices = {row.slice_id: Entity(f"slice:{row.slice_id}", row.sha256) for row in rows}
    derivations = [Derivation(slices[row.slice_id], sources[row.study_id]) for row in rows]
    members_of: dict[str, list[Entity]] = {}
    for row in rows:
        members_of.setdefault(row.study_id, []).append(slices[row.slice_id])
    for study_id in sources:
        members = tuple(members_of[study_id])
        shard = Entity.of_file(shard_path(processed, study_id))
        derivations.append(Derivation(shard, members))
    index = Entity.of_file(processed / "index.csv")
    readings = Entity.of_file(processed / "readings.csv")
    images = {path for study_id in sources for path in volumes.study(study_id).image_sources}
    return [
        *derivations,
        Derivation(index, (table, *slices.values())),
        Derivation(readings, (table, *map(Entity.of_file, sorted(images)))),
    ]


def _write_study(
    task: _Task, *, volumes: VolumeFolders, processed: Path, params: PreprocessParams
) -> SliceTables:
    folder = volumes.study(task.study_id)
    if image := folder.flat_image:
        found = write_image_shard(task.rows, image, folder.flat_mask, processed, params)
        return SliceTables([found[0]], [found[1]])
    return _write_volumes(task, folder, processed, params)


def _write_volumes(
    task: _Task, folder: StudyFolder, processed: Path, params: PreprocessParams
) -> SliceTables:
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    study = read_study(folder)
    planes = resample_study(study, params)
    picked = [row.slice_index for row in task.rows]
    whole = model_input(planes, params)
    shard = Shard(whole.ct[picked], whole.pet[picked], whole.lesion[picked], whole.body[picked])
    if params.neighbours_mm:
        beside = neighbours_within(_z_mm(study.body), params.neighbours_mm)
        shard = replace(
            shard,
            ct_beside=beside.of(whole.ct, picked),
            pet_beside=beside.of(whole.pet, picked),
        )
    write_shard(shard_path(processed, task.study_id), shard)
    uptake = BodyUptake.of(study)
    measures = measure_slices(study, uptake)
    ratio = suv_total_ratio(study.pet, planes.pet, study.body, study.transform)
    return SliceTables(
        [index_row(row, i, measures, ratio, shard) for i, row in enumerate(task.rows)],
        read_uptake(task.rows, study, uptake),
    )


def resample_study(study: StudyVolumes, params: PreprocessParams) -> Planes:
    """CT, PET and lesions from their native grids to the model's, each in one interpolation.

    The model's grid is the square around the body's bounding box over the whole study, so that the
    aspect and the scale are one for all its slices, which are those of the CT.
    """
    grid = _square_around(study.body, params)
    body = resample_mask(study.body, grid)
    ct = resample_ct(study.ct, grid)
    pet = resample_pet(study.pet, grid, study.transform)
    return Planes(
        ct=sitk.Mask(ct, body, AIR_HU),
        pet=sitk.Mask(pet, body, 0.0),
        lesion=resample_mask(study.lesion, grid),
        body=body,
    )


def model_input(planes: Planes, params: PreprocessParams) -> Shard:
    """All slices of a study as the model sees them: windowed, and filtered where asked for."""
    ct = sitk.IntensityWindowing(planes.ct, params.ct_low_hu, params.ct_high_hu, 0.0, 1.0)
    pet = sitk.IntensityWindowing(planes.pet, 0.0, params.suv_high, 0.0, 1.0)
    return Shard(
        ct=_array(bilateral(ct, params) if params.bilateral_ct else ct).astype(np.float16),
        pet=_array(bilateral(pet, params) if params.bilateral_pet else pet).astype(np.float16),
        lesion=_array(planes.lesion).astype(np.uint8),
        body=_array(planes.body).astype(np.uint8),
    )


def _square_around(body: sitk.Image, params: PreprocessParams) -> sitk.Image:
    """An empty image: the square around ``body``, its bounding box, with ``roi_margin_mm``."""
    width, height, slices = body.GetSize()
    x_mm, _, z_mm = body.GetSpacing()
    side_px = max(width, height) + 2 * params.roi_margin_mm / x_mm
    step_px = side_px / params.image_size_px
    grid = sitk.Image(params.image_size_px, params.image_size_px, slices, sitk.sitkUInt8)
    # Both squares share their middle, and a pixel's centre lies half a pixel inside its edge.
    first = [(count - side_px + step_px - 1) / 2 for count in (width, height)]
    grid.SetOrigin(body.TransformContinuousIndexToPhysicalPoint([*first, 0.0]))
    grid.SetSpacing((step_px * x_mm, step_px * x_mm, z_mm))
    grid.SetDirection(body.GetDirection())
    return grid


def _z_mm(grid: sitk.Image) -> NDArray[np.float64]:
    """(n,) where the slices of a grid lie along their own axis."""
    return np.arange(grid.GetSize()[2], dtype=np.float64) * float(grid.GetSpacing()[2])


def _array(image: sitk.Image) -> NDArray[np.float32]:
    return np.asarray(sitk.GetArrayFromImage(image))
