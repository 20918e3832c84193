"""Registration of moved and unmoved studies: ``PYTHONPATH=src python benchmarks/registration.py``.

Digital patients are scanned again and again: moved by a random rigid motion of up to 15 mm along
and 5 degrees about every axis, or not at all; seen whole, or cropped to a square around a lesion.
The target registration error (TRE) is the distance over the CT's body between where the found
transform and where the true one puts a point; it is given in PET voxels, of which the shortest edge
counts. With ``--real`` the patients of ``PETCT_DATA/sts`` follow, whom the scanner has aligned.

Fails where the TRE of moved, whole studies is not as small as it was (median 0.22, 95th percentile
0.62 voxel); where 5 % of the unmoved are moved, or one by half a voxel; where a real patient loses
a slice through registration, or the visible skin moves inwards by 0.3 mm in the mean.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np
import SimpleITK as sitk
import typer
from numpy.typing import NDArray
from rich.table import Table

from petct_uad.core.console import console
from petct_uad.core.parallel import map_in_processes
from petct_uad.ingest.run import ingest_dataset
from petct_uad.phantom.design import plan_cohort
from petct_uad.phantom.params import PhantomParams
from petct_uad.phantom.patient import Patient, PatientPlan, draw_patient
from petct_uad.phantom.physics import Volume, make_ct, make_pet
from petct_uad.registration.acceptance import Decision
from petct_uad.registration.align import align
from petct_uad.registration.grid import covered_slices, cut, target_grid
from petct_uad.registration.masks import body_mask, ct_body, points_mm
from petct_uad.registration.params import RegisterParams
from petct_uad.schema import load_params
from petct_uad.volumes.motion.rigid import RigidTransform, Vector
from petct_uad.volumes.motion.transforms import Transform
from petct_uad.volumes.resample import resample_ct, resample_pet

POINTS = 4000  # per study, evenly from the body
CROP_MM = 190.0  # as wide as the cropped real patients are in the median
HOT = 0.41  # of the tumour's SUVmax: Boellaard et al. (2010), the EANM's guideline
MEDIAN_PX, P95_PX = 0.22, 0.62
FALSE_SHARE, FALSE_PX, INWARD_MM = 0.05, 0.5, 0.3


@dataclass(frozen=True)
class Job:
    """One patient under several displacements."""

    phantom: PhantomParams
    plan: PatientPlan
    displacements: int
    register: RegisterParams
    moved: bool = True


@dataclass(frozen=True)
class Outcome:
    """One displaced study; errors over the body's points, in PET voxels."""

    study: str
    accepted: bool
    reason: str
    error_px: NDArray[np.float64]
    identity_px: NDArray[np.float64]
    bias_mm: float  # of the null test; NaN where none was run
    seconds: float


@dataclass(frozen=True)
class RealOutcome:
    """One real patient, whom the scanner has aligned.

    Attributes:
        hot_before: part of the hot voxels that lie inside the drawn tumour, as scanned.
        hot_after: likewise, once registered.
        lost: slices that registration cut.
        inward_mm: by how much the visible skin moved towards the body, in the mean.
    """

    study: str
    accepted: bool
    reason: str
    hot_before: float
    hot_after: float
    lost: int
    inward_mm: float


def main(
    patients: int = 12,
    displacements: int = 2,
    workers: int = 2,
    seed: int = 11,
    real: bool = False,
) -> None:
    """Print a table of acceptance, error and bias, and exit with 1 where a bar is missed."""
    register = load_params(Path("params.yaml")).register_
    sound = True
    table = Table("cohort", "studies", "moved", "TRE median", "95 %", "largest median",
                  "as scanned", "bias, mm", "CPU, s")  # fmt: skip
    for moved in (True, False):
        for crop_mm in (0.0, CROP_MM):
            phantom = _phantom(patients, seed, crop_mm)
            jobs = [Job(phantom, plan, displacements, register, moved)
                    for plan in plan_cohort(phantom)]  # fmt: skip
            parts = map_in_processes(register_patient, jobs, "patients", workers)
            outcomes = [outcome for part in parts for outcome in part]
            table.add_row(_named(moved, crop_mm), *_figures(outcomes))
            sound &= _hold(outcomes, moved, crop_mm)
            _print_reasons(outcomes, moved)
    console.print(table)
    if real:
        sound &= report_real(real_outcomes(register, workers))
    if not sound:
        raise typer.Exit(1)


def register_patient(job: Job) -> list[Outcome]:
    """One CT and several displaced PETs, each registered as the stage does it."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    patient = draw_patient(job.phantom, job.plan)
    ct = sitk.Cast(to_image(make_ct(job.phantom, patient).volume), sitk.sitkInt16)
    rng = np.random.default_rng([job.phantom.seed, job.plan.index, 5])
    # Unmoved, a patient has one PET: its noise comes from the patient.
    scans = job.displacements if job.moved else 1
    return [_register(job, patient, ct, k, rng) for k in range(scans)]


def to_image(volume: Volume) -> sitk.Image:
    """The phantom's voxels as a SimpleITK image in the patient frame."""
    image = sitk.GetImageFromArray(volume.voxels)
    image.SetOrigin(volume.origin_mm)
    image.SetSpacing(volume.spacing_mm)
    return image


def real_outcomes(register: RegisterParams, workers: int) -> list[RealOutcome]:
    """Every patient of ``PETCT_DATA/sts``, ingested and registered."""
    ingest = load_params(Path("params.yaml")).ingest.model_copy(update={"pseudonyms": "public"})
    source = Path(os.environ["PETCT_DATA"]) / "sts/dicom"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        ingest_dataset(source, folder, ingest, workers=workers)
        studies = sorted(path for path in (folder / "volumes").iterdir() if path.is_dir())
        jobs = [RealJob(path, register) for path in studies]
        return map_in_processes(register_real, jobs, "real patients", workers)


@dataclass(frozen=True)
class RealJob:
    """One ingested study."""

    folder: Path
    register: RegisterParams


def register_real(job: RealJob) -> RealOutcome:
    """One real study, registered as the stage does it."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    ct = sitk.ReadImage(job.folder / "ct.nii.gz", sitk.sitkInt16)
    pet = sitk.ReadImage(job.folder / "pet.nii.gz", sitk.sitkFloat32)
    lesion = sitk.ReadImage(job.folder / "label.nii.gz", sitk.sitkUInt8) > 0
    body, decision = _aligned(ct, pet, job.register)
    moved = decision.transform
    scanned = covered_slices(body, pet, RigidTransform())
    kept = covered_slices(body, pet, moved)
    return RealOutcome(
        study=job.folder.name,
        accepted=decision.accepted,
        reason=decision.reason,
        hot_before=_hot_inside(pet, lesion, RigidTransform()),
        hot_after=_hot_inside(pet, lesion, moved),
        lost=max(0, scanned.count - kept.count),
        inward_mm=inward_mm(ct, moved),
    )


def inward_mm(ct: sitk.Image, transform: Transform) -> float:
    """How far the PET moves towards the body at the skin that the CT shows, in the mean, in mm.

    Of every voxel of the body beside air, in-plane; where the body is cut by the field of view
    there is none. Positive is inwards.
    """
    factors = [max(1, round(4.0 / mm)) for mm in ct.GetSpacing()[:2]]
    body = ct_body(sitk.BinShrink(sitk.Cast(ct, sitk.sitkFloat32), [*factors, 1]))
    inside = sitk.GetArrayFromImage(body) > 0
    depth = sitk.SignedMaurerDistanceMap(body, insideIsPositive=True, useImageSpacing=True)
    slopes = np.gradient(sitk.GetArrayFromImage(depth), axis=(2, 1))
    core = sitk.GetArrayFromImage(sitk.BinaryErode(body, [1, 1, 0], sitk.sitkCross, 0.0, 1.0, True))
    skin = inside & (core == 0)  # the field's edge counts as body: it has no skin
    if not skin.any():
        return 0.0
    normals = np.stack([slope[skin] for slope in slopes], axis=1)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    points = points_mm(_mask_like(skin, body))
    # What the PET holds at T(x) is shown at x: it moves by x - T(x).
    shift = points - transform.apply(points)
    return float((shift[:, :2] * normals).sum(axis=1).mean())


def report_real(outcomes: Sequence[RealOutcome]) -> bool:
    """Print the real patients' figures; do they hold?"""
    for outcome in outcomes:
        verdict = "moved" if outcome.accepted else "as scanned"
        console.print(
            f"{outcome.study}: {verdict}: {outcome.reason}; hot inside the tumour "
            f"{outcome.hot_before:.3f} to {outcome.hot_after:.3f}, lost {outcome.lost}, inward "
            f"{outcome.inward_mm:.2f} mm"
        )
    before, after, inward = (
        float(np.mean([getattr(outcome, name) for outcome in outcomes]))
        for name in ("hot_before", "hot_after", "inward_mm")
    )
    lost, moved = sum(o.lost for o in outcomes), sum(o.accepted for o in outcomes)
    console.print(
        f"{len(outcomes)} real patients: moved {moved}; hot voxels inside the tumour {before:.3f} "
        f"to {after:.3f}; slices lost {lost}; inward shift at the visible skin {inward:.2f} mm"
    )
    return lost == 0 and abs(inward) < INWARD_MM


def _phantom(patients: int, seed: int, crop_mm: float) -> PhantomParams:
    return PhantomParams(
        patients=patients,
        seed=seed,
        extent_mm=140.0,
        ct_matrix=256,
        max_shift_mm=15.0,
        max_rotation_deg=5.0,
        crop_mm=crop_mm,
    )


def _named(moved: bool, crop_mm: float) -> str:
    return (
        f"{'moved' if moved else 'unmoved'}, {f'cropped to {crop_mm:g} mm' if crop_mm else 'whole'}"
    )


def _figures(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    error = np.concatenate([outcome.error_px for outcome in outcomes])
    medians = [float(np.median(outcome.error_px)) for outcome in outcomes]
    biases = [o.bias_mm for o in outcomes if not np.isnan(o.bias_mm)]
    return (
        str(len(outcomes)),
        str(sum(outcome.accepted for outcome in outcomes)),
        f"{np.median(error):.3f}",
        f"{np.percentile(error, 95):.3f}",
        f"{max(medians):.3f}",
        f"{np.median(np.concatenate([o.identity_px for o in outcomes])):.2f}",
        f"{np.median(biases):.2f}" if biases else "none run",
        f"{np.median([outcome.seconds for outcome in outcomes]):.2f}",
    )


def _hold(outcomes: Sequence[Outcome], moved: bool, crop_mm: float) -> bool:
    """Do the figures of a cohort hold? A moved one that is cropped has no bar."""
    if moved:
        error = np.concatenate([outcome.error_px for outcome in outcomes])
        near = np.median(error) <= MEDIAN_PX and np.percentile(error, 95) <= P95_PX
        return bool(crop_mm or near)
    accepted = [outcome for outcome in outcomes if outcome.accepted]
    far = any(np.median(outcome.error_px) > FALSE_PX for outcome in accepted)
    return len(accepted) < FALSE_SHARE * len(outcomes) and not far


def _print_reasons(outcomes: Sequence[Outcome], moved: bool) -> None:
    for outcome in outcomes:
        if outcome.accepted is not moved:
            console.print(f"{outcome.study}: {outcome.reason}")


def _register(
    job: Job, patient: Patient, ct: sitk.Image, k: int, rng: np.random.Generator
) -> Outcome:
    share = 1.0 if job.moved else 0.0
    moved = patient.displacement.model_copy(
        update={
            "rotation_deg": _uniform(rng, share * job.phantom.max_rotation_deg),
            "translation_mm": _uniform(rng, share * job.phantom.max_shift_mm),
        }
    )
    pet = to_image(make_pet(job.phantom, replace(patient, displacement=moved)).volume)
    truth = RigidTransform(moved.rotation_deg, moved.translation_mm, moved.centre_mm)
    started = process_time()
    _, decision = _aligned(ct, pet, job.register)
    seconds = process_time() - started
    points = points_mm(ct_body(ct))
    points = points[:: max(1, len(points) // POINTS)]
    true, voxel_mm = truth.apply(points), min(pet.GetSpacing())
    test = decision.null_test
    return Outcome(
        study=f"{patient.patient_id} displacement {k}",
        accepted=decision.accepted,
        reason=decision.reason,
        error_px=np.linalg.norm(decision.transform.apply(points) - true, axis=1) / voxel_mm,
        identity_px=np.linalg.norm(points - true, axis=1) / voxel_mm,
        bias_mm=test.bias_mm if test else float("nan"),
        seconds=seconds,
    )


def _aligned(
    ct: sitk.Image, pet: sitk.Image, register: RegisterParams
) -> tuple[sitk.Image, Decision]:
    """The body, and what the stage decides."""
    on_grid = resample_ct(ct, target_grid(ct, register.spacing_mm))
    body = body_mask(on_grid, register.body_threshold_hu)
    seen = cut(ct, covered_slices(body, pet, RigidTransform()))
    return body, align(seen, pet, register)


def _hot_inside(pet: sitk.Image, lesion: sitk.Image, transform: Transform) -> float:
    """Which part of the voxels above 41 % of the tumour's SUVmax lie inside what was drawn."""
    suv = sitk.GetArrayFromImage(resample_pet(pet, lesion, transform))
    inside = sitk.GetArrayViewFromImage(lesion) > 0
    hot = suv >= HOT * suv[inside].max()
    return float((hot & inside).sum() / hot.sum())


def _mask_like(mask: NDArray[np.bool_], image: sitk.Image) -> sitk.Image:
    made = sitk.GetImageFromArray(mask.astype(np.uint8))
    made.CopyInformation(image)
    return made


def _uniform(rng: np.random.Generator, limit: float) -> Vector:
    x, y, z = (float(value) for value in rng.uniform(-limit, limit, 3))
    return x, y, z


if __name__ == "__main__":
    typer.run(main)
