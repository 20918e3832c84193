"""The register stage: where the PET of every study lies on its CT, with quality control."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from petct_uad.core.errors import RegistrationError
from petct_uad.core.files import atomic_folder, read_table, write_json, write_table
from petct_uad.core.parallel import map_in_processes
from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.core.volumes import write_volume
from petct_uad.ingest.tables import StudyRow
from petct_uad.registration.acceptance import Decision
from petct_uad.registration.align import align
from petct_uad.registration.grid import SliceRange, covered_slices, cut, target_grid
from petct_uad.registration.masks import body_mask
from petct_uad.registration.params import RegisterParams
from petct_uad.registration.qc_figures import RegisteredStudy, draw_registration
from petct_uad.registration.summary import summarise
from petct_uad.registration.tables import RegistrationRow
from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.motion.transforms import write_transform
from petct_uad.volumes.resample import resample_ct, resample_pet

_WRITTEN = ("body.nii.gz", "transform.json")


@dataclass(frozen=True)
class RegisterPaths:
    """Where the stage reads and writes; all relative to the repository's root.

    Attributes:
        ingest: holds studies.csv and volumes/.
        register: receives registration.csv and volumes/.
        pictures: receives one PNG per study.
        metrics: the JSON of the cohort.
    """

    ingest: Path
    register: Path
    pictures: Path
    metrics: Path


@dataclass(frozen=True)
class _Task:
    study_id: str
    same_frame_of_reference: bool
    source: Path
    target: Path
    picture: Path
    params: RegisterParams


def register_studies(
    paths: RegisterPaths, params: RegisterParams, workers: int = 1
) -> tuple[Derivation, ...]:
    """Find every ingested study's transform and body; old outputs are replaced whole.

    A picture has nothing to be registered with: of such studies the tables have no row.
    No image is written: preprocess resamples the native ones, once, through the transform.
    The bytes are the same for any number of ``workers`` (processes; 0 means one per core).

    Returns:
        One derivation per file written, from the files of ingest that it was made of.

    Raises:
        RegistrationError: a volume is missing or unreadable, or a PET covers no CT slice.
    """
    studies = [
        study for study in read_table(paths.ingest / "studies.csv", StudyRow) if study.has_volumes
    ]
    with atomic_folder(paths.register / "volumes") as volumes, atomic_folder(paths.pictures) as art:
        tasks = [
            _Task(
                study_id=study.study_id,
                same_frame_of_reference=study.same_frame_of_reference,
                source=paths.ingest / "volumes" / study.study_id,
                target=volumes / study.study_id,
                picture=art / f"{study.study_id}.png",
                params=params,
            )
            for study in studies
        ]
        rows = map_in_processes(_register_study, tasks, "register", workers)
    write_table(paths.register / "registration.csv", RegistrationRow, sorted(rows))
    write_json(paths.metrics, summarise(studies, rows))
    return _derivations(paths, studies)


def _register_study(task: _Task) -> RegistrationRow:
    """Register one study in a process of its own, and write its folder."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        return _write_study(task)
    except RegistrationError as error:
        raise RegistrationError(f"{task.study_id}: {error}") from error


def _write_study(task: _Task) -> RegistrationRow:
    ct = _read(task.source / "ct.nii.gz", sitk.sitkInt16)
    pet = _read(task.source / "pet.nii.gz", sitk.sitkFloat32)
    ct_on_grid = resample_ct(ct, target_grid(ct, task.params.spacing_mm))
    body = body_mask(ct_on_grid, task.params.body_threshold_hu)
    covered = covered_slices(body, pet, RigidTransform())
    if not covered.count:
        raise RegistrationError(f"the PET covers none of the CT's {covered.total} slices")
    decision = align(cut(ct, covered), pet, task.params, task.same_frame_of_reference)
    kept = covered_slices(body, pet, decision.transform)
    ct_on_grid = cut(ct_on_grid, kept)
    registered = RegisteredStudy(
        study_id=task.study_id,
        ct=ct_on_grid,
        body=cut(body, kept),
        before=resample_pet(pet, ct_on_grid, RigidTransform()),
        after=resample_pet(pet, ct_on_grid, decision.transform),
        decision=decision,
    )
    task.target.mkdir()
    write_volume(registered.body, task.target / "body.nii.gz")
    write_transform(task.target / "transform.json", decision.transform)
    draw_registration(task.picture, registered)
    return _row(task.study_id, decision, kept)


def _row(study_id: str, decision: Decision, kept: SliceRange) -> RegistrationRow:
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
    sources.add(Entity.of_file(paths.ingest / "studies.csv"))
    for table in (paths.register / "registration.csv", paths.metrics):
        found.append(Derivation(Entity.of_file(table), tuple(sorted(sources))))
    return tuple(found)


def _study_derivations(paths: RegisterPaths, study_id: str) -> list[Derivation]:
    """Each derives from both images, since the PET decides which of the CT's slices are kept."""
    source = paths.ingest / "volumes" / study_id
    target = paths.register / "volumes" / study_id
    pair = tuple(Entity.of_file(source / name) for name in ("ct.nii.gz", "pet.nii.gz"))
    outputs = [*(target / name for name in _WRITTEN), paths.pictures / f"{study_id}.png"]
    return [Derivation(Entity.of_file(output), pair) for output in outputs]
