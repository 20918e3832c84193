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
from petct_uad.phantom.identity import draw_identity
from petct_uad.phantom.params import PhantomParams
from petct_uad.phantom.patient import Patient, PatientPlan, draw_patient, stream
from petct_uad.phantom.physics import PetImage, deep_in_liver, make_ct, make_pet
from petct_uad.phantom.segmentation import write_segmentation
from petct_uad.phantom.tissue import Tissue
from petct_uad.phantom.truth import LesionTruth, PhantomTruth, RigidTruth, write_truth


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
    patient = draw_patient(job.params, job.plan)
    anatomy = patient.anatomy
    rng = stream(job.params, job.plan.index, 4)
    identity = draw_identity(rng, anatomy.sex, anatomy.age, anatomy.weight_kg)
    study = PhantomStudy(patient, identity, job.params.seed)
    folder = job.raw_folder / patient.patient_id
    ct, pet = make_ct(job.params, patient), make_pet(job.params, patient)
    write_segmentation(study, ct, write_ct(study, ct, folder / "CT"), folder / "SEG")
    write_pet(study, pet, folder / "PET")
    truth = _truth(patient, pet)
    write_truth(job.truth_folder / f"{patient.patient_id}.json", truth)
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
