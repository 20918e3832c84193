"""From native volumes to model input: one resampling, body mask, windows, bilateral filter."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from petct_uad.core.parallel import map_in_processes
from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.core.store.map_stored import map_stored
from petct_uad.core.store.study_store import Storable, StudyStore
from petct_uad.core.volumes import AIR_HU
from petct_uad.preprocess.filters import bilateral
from petct_uad.preprocess.images import write_image_shard
from petct_uad.preprocess.measures import (
    BodyUptake,
    SliceMeasures,
    index_row,
    measure_slices,
    slice_measures,
    suv_total_ratio,
)
from petct_uad.preprocess.neighbours import neighbours_within
from petct_uad.preprocess.params import PreprocessParams
from petct_uad.preprocess.readings import read_uptake
from petct_uad.slices.store import Shard, read_shard, write_shard
from petct_uad.slices.tables import (
    INDEX,
    READINGS,
    TRAINING,
    ImageRow,
    ReadingRow,
    SliceRow,
    shard_path,
)
from petct_uad.volumes.resample import resample_ct, resample_mask, resample_pet
from petct_uad.volumes.study import StudyFolder, StudyVolumes, VolumeFolders, read_study


@dataclass(frozen=True)
class _Task(Storable):
    """A study whose slices are all computed, since another split keeps others of them."""

    rows: tuple[SliceRow, ...]  # that are kept
    folder: StudyFolder
    params: PreprocessParams
    planes: Path  # receives all slices, as a shard has them
    processed: Path

    @property
    def study_id(self) -> str:
        """Its name."""
        return self.rows[0].study_id

    @property
    def shard(self) -> Path:
        """Receives the slices that are kept."""
        return shard_path(self.processed, self.study_id)

    @property
    def sources(self) -> tuple[Path, ...]:
        """Native volumes, body and motion; the label may be absent."""
        return (*self.folder.image_sources, self.folder.native / "label.nii.gz")

    @property
    def said(self) -> str:
        """Its name, which its readings have, and the params."""
        return f"{self.study_id} {self.params.model_dump_json()}"

    @property
    def outputs(self) -> Mapping[str, Path]:
        """All of its slices."""
        return {"planes.safetensors": self.planes}


@dataclass(frozen=True)
class _Measured:
    """What was measured on every slice of a study."""

    slices: tuple[SliceMeasures, ...]
    readings: tuple[ReadingRow, ...]


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
    *,
    store: StudyStore | None = None,
) -> SliceTables:
    """Write one shard per study with a kept slice; return what was measured on the slices.

    Args:
        slices: rows of ``slices.csv``; excluded ones are left out.
        volumes: of the studies.
        processed: receives ``shards/<study_id>.safetensors``.
        params: of the stage.
        workers: number of processes; 0 means one per core. The bytes are the same.
        store: from which studies are taken that were resampled and filtered before. Flat images
            are not kept: to make one takes no longer than to find it.

    Raises:
        DatasetError: a volume cannot be read, or holds no body.
        RegistrationError: register ran on other volumes than those of ingest.
    """
    kept: dict[str, list[SliceRow]] = {}
    for row in slices:
        if row.split != "excluded":
            kept.setdefault(row.study_id, []).append(row)
    processed.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=processed, prefix=".tmp-") as scratch:
        tasks = [
            _Task(
                rows=tuple(rows),
                folder=volumes.study(study_id),
                params=params,
                planes=Path(scratch, f"{study_id}.safetensors"),
                processed=processed,
            )
            for study_id, rows in sorted(kept.items())
        ]
        tables = _flat(tasks, workers) or _with_volumes(tasks, workers, store)
    return SliceTables(
        images=sorted((x for table in tables for x in table.images), key=lambda x: x.slice_id),
        readings=sorted((x for table in tables for x in table.readings), key=lambda x: x.slice_id),
    )


def shard_derivations(
    rows: Sequence[ImageRow],
    shard_sha256: Mapping[str, str],
    volumes: VolumeFolders,
    processed: Path,
    slices_file: Path,
) -> list[Derivation]:
    """Every slice from its study's volumes, every shard and the index from those slices.

    Readings are measured on the volumes themselves.

    Args:
        rows: of ``index.csv``.
        shard_sha256: of each study's shard.
        volumes: of the studies.
        processed: where shards and tables lie.
        slices_file: ``slices.csv``.
    """
    table = Entity.of_file(slices_file)
    folders = {study_id: volumes.study(study_id) for study_id in {row.study_id for row in rows}}
    files = {path for folder in folders.values() for path in folder.sources}
    known = {path: Entity.of_file(path) for path in sorted(files)}
    slices = {row.slice_id: Entity(f"slice:{row.slice_id}", row.sha256) for row in rows}
    members_of: dict[str, list[Entity]] = {}
    for row in rows:
        members_of.setdefault(row.study_id, []).append(slices[row.slice_id])
    derivations = []
    for study_id, members in sorted(members_of.items()):
        sources = tuple(known[path] for path in folders[study_id].sources)
        name = f"file:{shard_path(processed, study_id).as_posix()}"
        derivations += [Derivation(member, sources) for member in members]
        derivations.append(Derivation(Entity(name, shard_sha256[study_id]), tuple(members)))
    index = Entity.of_file(processed / INDEX)
    training = Entity.of_file(processed / TRAINING)
    learnt = [slices[row.slice_id] for row in rows if row.split != "test"]
    readings = Entity.of_file(processed / READINGS)
    images = sorted({path for folder in folders.values() for path in folder.image_sources})
    return [
        *derivations,
        Derivation(index, (table, *slices.values())),
        Derivation(training, (table, *learnt)),
        Derivation(readings, (table, *(known[path] for path in images))),
    ]


def _flat(tasks: Sequence[_Task], workers: int) -> list[SliceTables]:
    """Of a data set of pictures; empty for any other."""
    flat = [(task, image) for task in tasks if (image := task.folder.flat_image)]
    return map_in_processes(_write_flat, flat, "resampling pictures", workers) if flat else []


def _write_flat(item: tuple[_Task, Path]) -> SliceTables:
    task, image = item
    mask = task.folder.flat_mask
    row, reading = write_image_shard(task.rows, image, mask, task.processed, task.params)
    return SliceTables([row], [reading])


def _with_volumes(
    tasks: Sequence[_Task], workers: int, store: StudyStore | None
) -> list[SliceTables]:
    name = "resampling and filtering"
    found = map_stored(
        _write_planes, tasks, _Measured, name, workers=workers, store=store, finish=_keep_slices
    )
    return [_tables(task, measured) for task, measured in zip(tasks, found, strict=True)]


def _write_planes(task: _Task) -> _Measured:
    """All slices of one study, in a process of its own."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    study = read_study(task.folder)
    planes = resample_study(study, task.params)
    whole = _with_neighbours(model_input(planes, task.params), study, task.params)
    write_shard(task.planes, whole)
    uptake = BodyUptake.of(study)
    measures = measure_slices(study, uptake)
    ratio = suv_total_ratio(study.pet, planes.pet, study.body, study.transform)
    return _Measured(
        slice_measures(measures, ratio, whole), read_uptake(task.study_id, study, uptake)
    )


def _with_neighbours(whole: Shard, study: StudyVolumes, params: PreprocessParams) -> Shard:
    """Where the params ask for it, each slice with those beside it, which a split may exclude."""
    if not params.neighbours_mm:
        return whole
    beside = neighbours_within(_z_mm(study.body), params.neighbours_mm)
    each = list(range(len(whole)))
    return replace(
        whole, ct_beside=beside.of(whole.ct, each), pet_beside=beside.of(whole.pet, each)
    )


def _keep_slices(task: _Task, measured: _Measured) -> None:
    """Make the shard of the slices that the split keeps."""
    picked = [row.slice_index for row in task.rows]
    if picked == list(range(len(measured.slices))):
        task.shard.parent.mkdir(parents=True, exist_ok=True)
        task.planes.replace(task.shard)  # the same arrays are the same bytes
        return
    whole = read_shard(task.planes)
    write_shard(task.shard, Shard(**{name: x[picked] for name, x in whole.planes.items()}))
    task.planes.unlink()


def _tables(task: _Task, measured: _Measured) -> SliceTables:
    rows = [(row, row.slice_index) for row in task.rows]
    return SliceTables(
        [index_row(row, i, measured.slices[z]) for i, (row, z) in enumerate(rows)],
        [measured.readings[z] for _, z in rows],
    )


def resample_study(study: StudyVolumes, params: PreprocessParams) -> Planes:
    """CT, PET and lesions from their native grids to the model's, each in one interpolation.

    The model's grid is the square around the body's bounding box over the whole study, so that the
    aspect and the scale are one for all its slices, which are those of the CT.
    """
    grid = model_grid(study.body, params)
    body = resample_mask(study.body, grid)
    ct = resample_ct(study.ct, grid, within=study.body)
    pet = resample_pet(study.pet, grid, study.transform, within=study.body)
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


def model_grid(body: sitk.Image, params: PreprocessParams) -> sitk.Image:
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
