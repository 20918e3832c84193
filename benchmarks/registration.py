"""Register with known motion: ``PYTHONPATH=src python benchmarks/registration.py``.

Digital patients are scanned again and again, each time displaced by a random rigid motion of up to
15 mm along and 5 degrees about every axis. The target registration error (TRE) is the distance over
the CT's body between where the found transform and where the true one puts a point; it is given in
PET voxels, of which the shortest edge counts. Fails where the median of all points is not below a
third of a voxel, their 95th percentile not below one, or a study no better than with the identity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time

import numpy as np
import SimpleITK as sitk
import typer
from numpy.typing import NDArray

from petct_uad.core.console import console
from petct_uad.core.parallel import map_in_processes
from petct_uad.phantom.design import plan_cohort
from petct_uad.phantom.params import PhantomParams
from petct_uad.phantom.patient import Patient, PatientPlan, draw_patient
from petct_uad.phantom.physics import Volume, make_ct, make_pet
from petct_uad.registration.acceptance import PROBE_MM
from petct_uad.registration.align import align
from petct_uad.registration.grid import covered_slices, cut, target_grid
from petct_uad.registration.masks import body_mask, ct_body, points_mm
from petct_uad.registration.metric_images import make_comparable
from petct_uad.registration.params import RegisterParams
from petct_uad.registration.quality import resample_under, sharpness
from petct_uad.schema import load_params
from petct_uad.volumes.motion.rigid import RigidTransform, Vector
from petct_uad.volumes.resample import resample_ct

POINTS = 4000  # per study, evenly from the body


@dataclass(frozen=True)
class Job:
    """One patient under several displacements."""

    phantom: PhantomParams
    plan: PatientPlan
    displacements: int
    register: RegisterParams


@dataclass(frozen=True)
class Outcome:
    """One displaced study; errors over the body's points, in PET voxels."""

    study: str
    accepted: bool
    reason: str
    error_px: NDArray[np.float64]
    identity_px: NDArray[np.float64]
    sharpness: float
    seconds: float


def main(patients: int = 26, displacements: int = 4, workers: int = 2, seed: int = 11) -> None:
    """Print the errors, and exit with 1 where they are too large."""
    phantom = PhantomParams(
        patients=patients,
        seed=seed,
        extent_mm=140.0,
        ct_matrix=256,
        max_shift_mm=15.0,
        max_rotation_deg=5.0,
    )
    register = load_params(Path("params.yaml")).register_
    jobs = [Job(phantom, plan, displacements, register) for plan in plan_cohort(phantom)]
    parts = map_in_processes(register_patient, jobs, "patients", workers)
    if not report([outcome for part in parts for outcome in part]):
        raise typer.Exit(1)


def register_patient(job: Job) -> list[Outcome]:
    """One CT and several displaced PETs, each registered as the stage does it."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    patient = draw_patient(job.phantom, job.plan)
    ct = sitk.Cast(to_image(make_ct(job.phantom, patient).volume), sitk.sitkInt16)
    rng = np.random.default_rng([job.phantom.seed, job.plan.index, 5])
    return [_register(job, patient, ct, k, rng) for k in range(job.displacements)]


def to_image(volume: Volume) -> sitk.Image:
    """The phantom's voxels as a SimpleITK image in the patient frame."""
    image = sitk.GetImageFromArray(volume.voxels)
    image.SetOrigin(volume.origin_mm)
    image.SetSpacing(volume.spacing_mm)
    return image


def report(outcomes: list[Outcome]) -> bool:
    """Print the figures; do they hold?"""
    error = np.concatenate([outcome.error_px for outcome in outcomes])
    by_study = np.array([np.median(outcome.error_px) for outcome in outcomes])
    before = np.array([np.median(outcome.identity_px) for outcome in outcomes])
    worse = int((by_study >= before).sum())
    for outcome in outcomes:
        if not outcome.accepted:
            console.print(f"{outcome.study}: {outcome.reason}")
    sharp = [outcome.sharpness for outcome in outcomes]
    console.print(
        f"{len(outcomes)} displacements: TRE over the body in PET voxels: median "
        f"{np.median(error):.3f}, 95th percentile {np.percentile(error, 95):.3f}; medians of "
        f"studies: 95th percentile {np.percentile(by_study, 95):.3f}, largest {by_study.max():.3f} "
        f"(identity: median {np.median(before):.2f}); no better than the identity: {worse}; "
        f"refused: {sum(not outcome.accepted for outcome in outcomes)}"
    )
    console.print(
        f"sharpness along the flattest axis: smallest {min(sharp):.5f}, median "
        f"{np.median(sharp):.5f} nat per mm2; CPU time per study: median "
        f"{np.median([outcome.seconds for outcome in outcomes]):.2f} s"
    )
    return bool(np.median(error) < 1 / 3 and np.percentile(error, 95) < 1 and not worse)


def _register(
    job: Job, patient: Patient, ct: sitk.Image, k: int, rng: np.random.Generator
) -> Outcome:
    moved = patient.displacement.model_copy(
        update={
            "rotation_deg": _uniform(rng, job.phantom.max_rotation_deg),
            "translation_mm": _uniform(rng, job.phantom.max_shift_mm),
        }
    )
    pet = to_image(make_pet(job.phantom, replace(patient, displacement=moved)).volume)
    truth = RigidTransform(moved.rotation_deg, moved.translation_mm, moved.centre_mm)
    started = process_time()
    on_grid = resample_ct(ct, target_grid(ct, job.register.spacing_mm))
    body = body_mask(on_grid, job.register.body_threshold_hu)
    seen = cut(ct, covered_slices(body, pet, RigidTransform()))
    decision = align(seen, pet, job.register)
    seconds = process_time() - started
    points = points_mm(ct_body(ct))
    points = points[:: max(1, len(points) // POINTS)]
    true, voxel_mm = truth.apply(points), min(pet.GetSpacing())
    view = resample_under(make_comparable(seen, pet), decision.transform)
    sharp = sharpness(view, PROBE_MM, job.register.histogram_bins)
    return Outcome(
        study=f"{patient.patient_id} displacement {k}",
        accepted=decision.accepted,
        reason=decision.reason,
        error_px=np.linalg.norm(decision.transform.apply(points) - true, axis=1) / voxel_mm,
        identity_px=np.linalg.norm(points - true, axis=1) / voxel_mm,
        sharpness=min(sharp),
        seconds=seconds,
    )


def _uniform(rng: np.random.Generator, limit: float) -> Vector:
    x, y, z = (float(value) for value in rng.uniform(-limit, limit, 3))
    return x, y, z


if __name__ == "__main__":
    typer.run(main)
