"""The register stage: where the PET of every study lies on its CT, with quality control."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from petct_uad.core.errors import RegistrationError
from petct_uad.core.files import atomic_folder, read_table, write_json, write_table
from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.core.store.map_stored import map_stored
from petct_uad.core.store.study_store import Storable, StudyStore
from petct_uad.core.volumes import voxel_count, write_volume
from petct_uad.ingest.tables import STUDIES, VOLUMES, StudyRow
from petct_uad.registration.acceptance import Decision
from petct_uad.registration.align import align
from petct_uad.registration.grid import SliceRange, covered_slices, cut, target_grid
from petct_uad.registration.masks import body_mask
from petct_uad.registration.params import RegisterParams
from petct_uad.registration.qc_figures import RegisteredStudy, draw_registration
from petct_uad.registration.skin import ALL_SIDES
from petct_uad.registration.slabs import by_slabs
from petct_uad.registration.summary import summarise
from petct_uad.registration.tables import (
    AFTER_MOTION,
    AS_SCANNED,
    CUT_SLICES,
    REGISTRATION,
    CutSliceRow,
    RegistrationRow,
)
from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.motion.transforms import Transform, write_transform
from petct_uad.volumes.resample import antialias, interpolate, resample_ct
from petct_uad.volumes.study import StudyFolder, VolumeFolders, read_moved_label

# Measured peaks: 1.2 GiB on 42 million voxels of CT and 8 of PET, 1.7 GiB on 10 and 31 million.
# The CT is resampled in float32; the PET's gradient image alone is three float64 a voxel.
_BYTES_PER_CT_VOXEL = 17
_BYTES_PER_PET_VOXEL = 49
_BYTES_PER_PROCESS = 200 << 20  # the interpreter and its libraries


@dataclass(frozen=True)
class RegisterPaths:
    """Where the stage reads and writes; all relative to the repository's root.

    Attributes:
        ingest: holds studies.csv and volumes/.
        register: receives registration.csv, cut_slices.csv and volumes/.
        pictures: receives one PNG per study.
        metrics: the JSON of the cohort.
    """

    ingest: Path
    register: Path
    pictures: Path
    metrics: Path

    @property
    def volumes(self) -> VolumeFolders:
        """Where every study is read, and where it lies once it is registered."""
        return VolumeFolders(self.ingest / VOLUMES, self.register / VOLUMES)


@dataclass(frozen=True)
class _Task(Storable):
    study_id: str
    same_frame_of_reference: bool
    folder: StudyFolder
    picture: Path
    params: RegisterParams

    @property
    def sources(self) -> tuple[Path, ...]:
        """CT and PET, and a label where there is one."""
        return tuple(filter(None, (self.folder.ct, self.folder.pet, self.folder.label)))

    @property
    def said(self) -> str:
        """Who it is, as the QC figure says; whether the scanner has aligned it; the params."""
        params = self.params.model_dump_json()
        return json.dumps([self.study_id, self.same_frame_of_reference, params])

    @property
    def outputs(self) -> Mapping[str, Path]:
        """Mask, transform and QC figure."""
        files = {path.name: path for path in (self.folder.body, self.folder.transform)}
        return {**files, "figure.png": self.picture}


@dataclass(frozen=True)
class _Ranges:
    """Which slices of a CT the PET covers."""

    as_scanned: SliceRange
    kept: SliceRange

    def reason_cut(self, index: int) -> str:
        """Why a slice goes no further; empty where it does."""
        if self.kept.first <= index < self.kept.end:
            return ""
        was_covered = self.as_scanned.first <= index < self.as_scanned.end
        return AFTER_MOTION if was_covered else AS_SCANNED


@dataclass(frozen=True)
class _Aligned:
    """What is decided of one study."""

    decision: Decision
    ranges: _Ranges
    z_mm: tuple[float, ...]  # of each of the CT's slices


@dataclass(frozen=True)
class _Registered:
    """What the tables say of one study."""

    row: RegistrationRow
    cut_slices: tuple[CutSliceRow, ...]


def register_studies(
    paths: RegisterPaths,
    params: RegisterParams,
    workers: int = 1,
    store: StudyStore | None = None,
) -> tuple[Derivation, ...]:
    """Find every ingested study's transform and body; old outputs are replaced whole.

    A picture has nothing to be registered with: of such studies the tables have no row.
    No image is written: preprocess resamples the native ones, once, through the transform.
    The bytes are the same for any number of ``workers`` (processes; 0 means one per core), and with
    or without a ``store``, from which studies are taken that were registered before.

    Returns:
        One derivation per file written, from the files of ingest that it was made of.

    Raises:
        RegistrationError: a volume is missing or unreadable, or a PET covers no CT slice.
    """
    studies = [row for row in read_table(paths.ingest / STUDIES, StudyRow) if row.has_volumes]
    with atomic_folder(paths.volumes.registered) as new, atomic_folder(paths.pictures) as art:
        volumes = replace(paths.volumes, registered=new)
        tasks = [
            _Task(
                study_id=study.study_id,
                same_frame_of_reference=study.same_frame_of_reference,
                folder=volumes.study(study.study_id),
                picture=art / f"{study.study_id}.png",
                params=params,
            )
            for study in studies
        ]
        found = map_stored(
            _register_study,
            tasks,
            _Registered,
            "register",
            workers=workers,
            store=store,
            bytes_of=_bytes_of,
        )
    rows = sorted(study.row for study in found)
    cut_slices = sorted(row for study in found for row in study.cut_slices)
    write_table(paths.register / REGISTRATION, RegistrationRow, rows)
    write_table(paths.register / CUT_SLICES, CutSliceRow, cut_slices)
    write_json(paths.metrics, summarise(studies, rows))
    return _derivations(paths, studies)


def bytes_of_study(folder: StudyFolder) -> int:
    """Memory that registering a study takes, estimated from the shapes of its CT and PET."""
    return (
        _BYTES_PER_PROCESS
        + _BYTES_PER_CT_VOXEL * voxel_count(folder.ct)
        + _BYTES_PER_PET_VOXEL * voxel_count(folder.pet)
    )


def _bytes_of(task: _Task) -> int:
    return bytes_of_study(task.folder)


def _register_study(task: _Task) -> _Registered:
    """Register one study in a process of its own, and write its folder."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        return _write_study(task)
    except RegistrationError as error:
        raise RegistrationError(f"{task.study_id}: {error}") from error


def _write_study(task: _Task) -> _Registered:
    # The label is as large as the CT, and read once that is let go.
    aligned = _write_alignment(task)
    lost = _cut_slices(task, aligned)
    return _Registered(_row(task.study_id, aligned, lost), lost)


def _write_alignment(task: _Task) -> _Aligned:
    ct = _read(task.folder.ct, sitk.sitkInt16)
    pet = _read(task.folder.pet, sitk.sitkFloat32)
    ct_on_grid = _on_grid(ct, task.params.spacing_mm)
    body = body_mask(ct_on_grid, task.params.body_threshold_hu)
    covered = covered_slices(body, pet, RigidTransform())
    if not covered.count:
        raise RegistrationError(f"the PET covers none of the CT's {covered.total} slices")
    decision = align(cut(ct, covered), pet, task.params, task.same_frame_of_reference)
    kept = covered_slices(body, pet, decision.transform)
    ct_on_grid = cut(ct_on_grid, kept)
    pet_as_fine = antialias(pet, ct_on_grid.GetSpacing())
    registered = RegisteredStudy(
        study_id=task.study_id,
        ct=ct_on_grid,
        body=cut(body, kept),
        before=interpolate(pet_as_fine, ct_on_grid),
        after=interpolate(pet_as_fine, ct_on_grid, decision.transform),
        decision=decision,
    )
    task.folder.registered.mkdir(exist_ok=True)  # by a worker that was lost
    write_volume(registered.body, task.folder.body)
    write_transform(task.folder.transform, decision.transform)
    draw_registration(task.picture, registered)
    z_mm = [ct.TransformIndexToPhysicalPoint((0, 0, z))[2] for z in range(kept.total)]
    return _Aligned(decision, _Ranges(covered, kept), tuple(z_mm))


def _on_grid(ct: sitk.Image, spacing_mm: float) -> sitk.Image:
    return by_slabs(ct, lambda slab: resample_ct(slab, target_grid(slab, spacing_mm)))


def _cut_slices(task: _Task, aligned: _Aligned) -> tuple[CutSliceRow, ...]:
    """The CT slices that go no further, each with its reason and what lesion it holds."""
    areas_mm2 = _lesion_areas_mm2(task.folder.label, aligned.decision.transform)
    rows = [
        CutSliceRow(
            study_id=task.study_id,
            slice_index=index,
            z_mm=z_mm,
            lesion_area_mm2=float(areas_mm2[index]) if len(areas_mm2) else 0.0,
            reason=aligned.ranges.reason_cut(index),
        )
        for index, z_mm in enumerate(aligned.z_mm)
    ]
    return tuple(row for row in rows if row.reason)


def _lesion_areas_mm2(label: Path | None, motion: Transform) -> NDArray[np.float64]:
    """The lesion's area on every CT slice, (n,); empty without a label."""
    if label is None:
        return np.zeros(0)
    lesion = read_moved_label(label, motion)
    x_mm, y_mm, _ = lesion.GetSpacing()
    pixels = sitk.GetArrayViewFromImage(lesion).sum(axis=(1, 2), dtype=np.int64)
    return np.asarray(pixels * x_mm * y_mm, dtype=np.float64)


def _row(study_id: str, aligned: _Aligned, lost: Sequence[CutSliceRow]) -> RegistrationRow:
    decision, kept = aligned.decision, aligned.ranges.kept
    test = decision.null_test
    return RegistrationRow(
        study_id=study_id,
        attempted=decision.attempted,
        accepted=decision.accepted,
        reason=decision.reason,
        mutual_information_before=decision.before.mutual_information,
        mutual_information_after=decision.after.mutual_information,
        body_overlap_before=decision.before.body_overlap,
        body_overlap_after=decision.after.body_overlap,
        displacement_median_mm=decision.displacement_median_mm,
        displacement_max_mm=decision.displacement_max_mm,
        slices=kept.count,
        slices_cut=kept.cut,
        skin=" ".join(decision.skin),
        cropped=decision.skin != ALL_SIDES,
        null_tested=test is not None,
        bias_mm=test.bias_mm if test else 0.0,
        excess_mm=test.excess_mm if test else 0.0,
        slices_cut_by_motion=sum(row.reason == AFTER_MOTION for row in lost),
        lesion_slices_cut=sum(row.lesion_area_mm2 > 0 for row in lost),
    )


def _read(path: Path, pixel_type: int) -> sitk.Image:
    try:
        return sitk.ReadImage(path, pixel_type)
    except RuntimeError as error:
        cause = str(error).strip().splitlines()[-1]
        raise RegistrationError(f"{path} cannot be read ({cause}); run ingest again") from error


def _derivations(paths: RegisterPaths, studies: list[StudyRow]) -> tuple[Derivation, ...]:
    found: list[Derivation] = []
    for study in studies:
        found += _study_derivations(paths, study.study_id)
    sources = {source for item in found for source in item.inputs}
    sources.add(Entity.of_file(paths.ingest / STUDIES))
    # Which of the slices that are cut hold lesion, the labels say.
    labels = (paths.volumes.study(study.study_id).label for study in studies)
    sources |= {Entity.of_file(label) for label in labels if label}
    tables = [paths.register / name for name in (REGISTRATION, CUT_SLICES)]
    for table in (*tables, paths.metrics):
        found.append(Derivation(Entity.of_file(table), tuple(sorted(sources))))
    return tuple(found)


def _study_derivations(paths: RegisterPaths, study_id: str) -> list[Derivation]:
    """Each derives from both images, since the PET decides which of the CT's slices are kept."""
    folder = paths.volumes.study(study_id)
    pair = tuple(map(Entity.of_file, (folder.ct, folder.pet)))
    outputs = (folder.body, folder.transform, paths.pictures / f"{study_id}.png")
    return [Derivation(Entity.of_file(output), pair) for output in outputs]
