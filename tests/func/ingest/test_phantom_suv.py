"""SUV of the digital thorax, from its DICOM files through ingest, against what was put in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from petct_uad.ingest.run import ingest_dataset
from petct_uad.phantom import physics
from petct_uad.phantom.design import plan_cohort
from petct_uad.phantom.dicom_writer import PhantomStudy, write_ct, write_pet
from petct_uad.phantom.identity import draw_identity
from petct_uad.phantom.params import PhantomParams
from petct_uad.phantom.patient import Patient, draw_patient, stream
from petct_uad.phantom.tissue import Tissue
from tests.func.ingest.conftest import ingest_params

PARAMS = PhantomParams(
    patients=4, seed=3, extent_mm=140.0, ct_matrix=64, max_shift_mm=8.0, max_rotation_deg=2.0
)
# Counting noise that is left in an organ of 100 voxels at SUV 0.2: 0.02 %.
COUNTS_PER_SUV = 1e6
FEWEST_VOXELS = 20


@dataclass(frozen=True)
class Scan:
    patient: Patient
    pet: sitk.Image  # as ingest wrote it


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> list[Scan]:
    """Patients of both scanners (decay corrected to START and to ADMIN), counted for long."""
    folder = tmp_path_factory.mktemp("phantom")
    (folder / "out").mkdir()
    patients = {}
    for plan in plan_cohort(PARAMS):
        long = replace(plan, scanner=replace(plan.scanner, counts_per_suv=COUNTS_PER_SUV))
        patient = draw_patient(PARAMS, long)
        patients[patient.patient_id] = patient
        write(patient, folder / "raw" / patient.patient_id)
    done = ingest_dataset(folder / "raw", folder / "out", ingest_params())
    volumes = folder / "out" / "volumes"
    return [
        Scan(patients[study.patient], sitk.ReadImage(volumes / study.study_id / "pet.nii.gz"))
        for study in done.shown.studies
    ]


def write(patient: Patient, folder: Path) -> None:
    rng = stream(PARAMS, patient.plan.index, 4)
    anatomy = patient.anatomy
    identity = draw_identity(rng, anatomy.sex, anatomy.age, anatomy.weight_kg)
    study = PhantomStudy(patient, identity, PARAMS.seed)
    write_ct(study, physics.make_ct(PARAMS, patient), folder / "CT")
    write_pet(study, physics.make_pet(PARAMS, patient), folder / "PET")


def organs(scan: Scan) -> Iterator[tuple[str, float, float]]:
    """Mean SUV in the interior of each organ: as ingested, and as it was put in."""
    patient, grid = scan.patient, scan.patient.grid
    activity = physics.activity(stream(PARAMS, patient.plan.index, 2), patient)
    suv, truth = sitk.GetArrayFromImage(scan.pet), on_pet(activity, scan)
    # 1.5 FWHM (3.5 sigma) from the edge, the point spread brings nothing of the neighbours in.
    # Tissues thinner than twice that (skin, ribs, discs, heart wall) have no such interior.
    margin_mm = 1.5 * patient.plan.scanner.fwhm_mm
    for tissue in Tissue:
        depth = ndimage.distance_transform_edt(patient.labels == tissue, sampling=grid.spacing)
        inside = on_pet(depth.astype(np.float32), scan) > margin_mm
        if inside.sum() >= FEWEST_VOXELS and patient.anatomy.tissues.suv[tissue] > 0:
            expected = float(truth[inside].mean()) + physics.SCATTER_SUV
            yield tissue.name, float(suv[inside].mean()), expected


def on_pet(voxels: np.ndarray, scan: Scan) -> np.ndarray:
    """A volume of the patient's model on the PET's grid, through the known displacement."""
    grid = scan.patient.grid
    image = sitk.GetImageFromArray(voxels)
    corner = (float(grid.x[0]), float(grid.y[0]), float(grid.z[0]))
    image.SetOrigin(scan.patient.to_ct_frame(corner))
    image.SetSpacing(grid.spacing[::-1])
    inverse = physics.to_sitk(scan.patient.displacement).GetInverse()
    moved = sitk.Resample(image, scan.pet, inverse, sitk.sitkLinear, 0.0)
    resampled: np.ndarray = sitk.GetArrayFromImage(moved)
    return resampled


def test_suv_is_within_half_a_percent_of_the_truth_in_every_organ(scans: list[Scan]) -> None:
    corrections = {scan.patient.plan.scanner.decay_correction for scan in scans}
    assert corrections == {"START", "ADMIN"}
    measured = set()
    for scan in scans:
        for organ, found, expected in organs(scan):
            assert found == pytest.approx(expected, rel=0.005), (scan.patient.patient_id, organ)
            measured.add(organ)
    assert {"LUNG", "LIVER", "BLOOD", "MUSCLE", "FAT", "MARROW", "STOMACH"} <= measured
