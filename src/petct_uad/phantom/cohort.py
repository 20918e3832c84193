"""Makes the whole cohort: every patient's DICOM files and ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from petct_uad.core.files import atomic_folder
from petct_uad.core.livers import LIVERS_CSV, LiverPlace, write_livers
from petct_uad.core.parallel import map_in_processes
from petct_uad.phantom.design import plan_cohort
from petct_uad.phantom.dicom_writer import PhantomStudy, write_ct, write_pet
from petct_uad.phantom.grids import Vector
from petct_uad.phantom.identity import draw_identity, months_later
from petct_uad.phantom.params import PhantomParams
from petct_uad.phantom.patient import (
    Patient,
    PatientPlan,
    draw_patient,
    later_visit,
    lung_span_mm,
    stream,
)
from petct_uad.phantom.physics import PetImage, deep_in_liver, draw_on_pet, make_ct, make_pet
from petct_uad.phantom.segmentation import write_segmentation
from petct_uad.phantom.tissue import Tissue
from petct_uad.phantom.truth import (
    LesionTruth,
    PhantomTruth,
    RigidTruth,
    WholeBodyTruth,
    write_truth,
)


@dataclass(frozen=True)
class _Job:
    params: PhantomParams
    plan: PatientPlan
    raw_folder: Path
    truth_folder: Path


def make_cohort(
    params: PhantomParams, raw_folder: Path, truth_folder: Path, workers: int = 0
) -> list[Path]:
    """Make ``<raw_folder>/<PatientID>/{CT,PET,SEG}/*.dcm`` and ``<truth_folder>/<PatientID>.json``.

    Some whole bodies have PET-NAC beside PET, or a second study in FOLLOW-UP.

    What a data set may say of itself, where its livers are, is in ``<raw_folder>/livers.csv``.
    Both folders are replaced whole when everything has been written. The same params give the same
    bytes, whatever the number of ``workers`` (0 means one per core).

    Returns:
        Every file, sorted.
    """
    with atomic_folder(raw_folder) as raw, atomic_folder(truth_folder) as truth:
        jobs = [_Job(params, plan, raw, truth) for plan in plan_cohort(params)]
        truths = map_in_processes(_make_patient, jobs, "digital patients", workers)
        livers = [(truth.patient, truth.liver_mm) for truth in truths]
        write_livers(raw, [LiverPlace(name, *mm) for name, mm in livers if mm is not None])
    files = [*raw_folder.rglob("*.dcm"), raw_folder / LIVERS_CSV, *truth_folder.glob("*.json")]
    return sorted(files)


def _make_patient(job: _Job) -> PhantomTruth:
    """Write every visit of a patient; the truth of the first."""
    patient = draw_patient(job.params, job.plan)
    anatomy = patient.anatomy
    rng = stream(job.params, job.plan.index, 4)
    identity = draw_identity(rng, anatomy.sex, anatomy.age, anatomy.weight_kg)
    study = PhantomStudy(patient, identity, job.params.seed)
    truth = _make_study(job, study, "")
    if patient.body is not None and job.plan.visits > 1:
        later = later_visit(job.params, patient)
        identity = months_later(identity, later.stream(job.params, 4))
        _make_study(job, PhantomStudy(later, identity, job.params.seed), "FOLLOW-UP")
    return truth


def _make_study(job: _Job, study: PhantomStudy, name: str) -> PhantomTruth:
    """Write the objects of one visit, below a folder ``name`` of its own where it has one."""
    params, patient = job.params, study.patient
    folder = job.raw_folder / patient.patient_id / name
    ct, pet = make_ct(params, patient), make_pet(params, patient)
    ct_files = write_ct(study, ct, folder / "CT")
    pet_files = write_pet(study, pet, folder / "PET")
    if patient.body is not None and job.plan.labelled_on_pet:
        write_segmentation(study, draw_on_pet(patient, pet), pet_files, folder / "SEG")
    else:
        write_segmentation(study, ct.lesion_masks, ct_files, folder / "SEG")
    if patient.body is not None and job.plan.also_uncorrected:
        uncorrected = make_pet(params, patient, corrected=False)
        write_pet(study, uncorrected, folder / "PET-NAC", corrected=False)
    truth = _truth(patient, pet)
    stem = "-".join(filter(None, (patient.patient_id, name)))
    write_truth(job.truth_folder / f"{stem}.json", truth)
    return truth


def _truth(patient: Patient, pet: PetImage) -> PhantomTruth:
    anatomy, scanner = patient.anatomy, patient.plan.scanner
    suv = anatomy.tissues.suv
    liver = deep_in_liver(patient)
    return PhantomTruth(
        patient=patient.patient_id,
        scanner=f"{scanner.manufacturer} {scanner.model_name}",
        sex=anatomy.sex,
        weight_kg=anatomy.weight_kg,
        breathing_phase=round(anatomy.breathing, 6),
        liver_suv=round(suv[Tissue.LIVER], 6),
        myocardium_suv=round(suv[Tissue.MYOCARDIUM], 6),
        blood_suv=round(suv[Tissue.BLOOD], 6),
        liver_mm=None if liver is None else _rounded(patient.to_ct_frame(liver)),
        displacement=_rounded_transform(patient.displacement),
        lesions=_lesions(patient, pet),
        whole_body=_whole_body(patient),
    )


def _whole_body(patient: Patient) -> WholeBodyTruth | None:
    if patient.body is None:
        return None
    plan, carina = patient.plan, patient.anatomy.carina_mm
    base, apex = lung_span_mm(patient.labels, patient.grid)
    return WholeBodyTruth(
        lung_base_mm=round(base + carina[2], 6),
        lung_apex_mm=round(apex + carina[2], 6),
        arms="down" if plan.arms_down else "up",
        contrast=plan.contrast,
        label_on="pet" if plan.labelled_on_pet else "ct",
        pet_series=2 if plan.also_uncorrected else 1,
    )


def _lesions(patient: Patient, pet: PetImage) -> tuple[LesionTruth, ...]:
    return tuple(
        LesionTruth(
            kind=lesion.kind,
            visibility=lesion.visibility,
            site=lesion.site,
            centre_mm=_rounded(patient.to_ct_frame(lesion.centre)),
            diameter_mm=round(lesion.diameter, 6),
            suv=round(lesion.suv, 6),
            suv_recovered=round(recovered, 6),
            hu=None if lesion.hu is None else round(lesion.hu, 6),
        )
        for lesion, recovered in zip(patient.lesions, pet.lesion_suv, strict=True)
    )


def _rounded_transform(transform: RigidTruth) -> RigidTruth:
    return RigidTruth(
        centre_mm=_rounded(transform.centre_mm),
        rotation_deg=_rounded(transform.rotation_deg),
        translation_mm=_rounded(transform.translation_mm),
    )


def _rounded(values: Vector) -> Vector:
    x, y, z = (round(value, 6) for value in values)
    return x, y, z
