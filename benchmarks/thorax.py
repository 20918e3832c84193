"""Where the lungs end, against truth: ``PYTHONPATH=src python benchmarks/thorax.py``.

Whole-body phantoms, head to thighs, are scanned by their CT, and the ends of the lungs that
``preprocess.region: thorax`` finds are compared with those that each phantom was made with. With
``--real`` the patients of ``PETCT_DATA/sts`` follow, of whom nobody knows where the lungs end: for
each it says how much is dark inside the body, all of which might be lung, and whether a
range was found, so that a person can look at the figures in ``--figures``.

Fails where fewer than 95 % of the phantoms have both ends within 10 mm.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Annotated

import numpy as np
import SimpleITK as sitk
import typer
from rich.table import Table

from petct_uad.core.console import console
from petct_uad.core.parallel import map_in_processes
from petct_uad.phantom.design import plan_cohort
from petct_uad.phantom.params import PhantomParams
from petct_uad.phantom.patient import PatientPlan, draw_patient, lung_span_mm
from petct_uad.phantom.physics import make_ct
from petct_uad.registration.grid import target_grid
from petct_uad.registration.masks import body_mask
from petct_uad.split.lungs import MARGIN_MM, Lungs
from petct_uad.split.thorax import lung_mask, measure_lungs
from petct_uad.split.thorax_figures import ThoraxFigure, draw_thorax
from petct_uad.volumes.resample import resample_ct

WITHIN_MM, SHARE = 10.0, 0.95
BODY_HU, GRID_MM = -300.0, 2.0  # as params.yaml has them for register
DARK_HU = -500.0


@dataclass(frozen=True)
class Job:
    """One phantom, or a folder with the CT of a real patient."""

    figures: Path | None
    phantom: PhantomParams | None = None
    plan: PatientPlan | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What was found of one CT; errors in mm, NaN where there is no truth or no lung."""

    name: str
    slices: int
    lungs: Lungs
    dark_ml: float
    base_error_mm: float
    apex_error_mm: float
    seconds: float

    @property
    def within(self) -> bool:
        """Are both ends within 10 mm of the truth?"""
        return max(abs(self.base_error_mm), abs(self.apex_error_mm)) <= WITHIN_MM


def main(
    *,
    patients: int = typer.Option(50, help="Whole-body phantoms; 0: none."),
    seed: int = typer.Option(11, help="Of the phantoms."),
    extent_mm: float = typer.Option(900.0, help="Of their stacks; 450 holds all lungs."),
    ct_matrix: int = typer.Option(128, help="CT rows and columns over 500 mm."),
    real: bool = typer.Option(False, help="The patients of PETCT_DATA/sts too."),
    figures: Annotated[Path | None, typer.Option(help="Receives a PNG per CT.")] = None,
    workers: int = typer.Option(0, help="Processes; 0: one per core."),
) -> None:
    """Measure, print, and fail where the phantoms' lungs are missed."""
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
    made = _phantom_jobs(patients, seed, extent_mm, ct_matrix, figures) if patients else []
    phantoms = map_in_processes(_run, made, "phantoms", workers)
    people = map_in_processes(_run, _real_jobs(figures), "patients", workers) if real else []
    _show([*phantoms, *people])
    if phantoms:
        share = float(np.mean([outcome.within for outcome in phantoms]))
        console.print(f"both ends within {WITHIN_MM:g} mm in {share:.1%} of {len(phantoms)}")
        if share < SHARE:
            raise typer.Exit(1)


def _phantom_jobs(
    patients: int, seed: int, extent_mm: float, ct_matrix: int, figures: Path | None
) -> list[Job]:
    phantom = PhantomParams(
        patients=max(patients, 4),
        seed=seed,
        extent_mm=extent_mm,
        ct_matrix=ct_matrix,
        max_shift_mm=0.0,
        max_rotation_deg=0.0,
    )
    plans = plan_cohort(phantom)[:patients]
    return [Job(figures, phantom=phantom, plan=plan) for plan in plans]


def _real_jobs(figures: Path | None) -> list[Job]:
    data = Path(os.environ.get("PETCT_DATA", "../shared/data"))
    folders = sorted((data / "sts/dicom").iterdir())
    return [Job(figures, folder=folder) for folder in folders]


def _run(job: Job) -> Outcome:
    if job.phantom is None or job.plan is None:
        assert job.folder is not None
        return _measured(job, job.folder.name, _read(job.folder / "CT/image"))
    patient = draw_patient(job.phantom, job.plan)
    volume = make_ct(job.phantom, patient).volume
    ct = sitk.GetImageFromArray(volume.voxels)
    ct.SetOrigin(volume.origin_mm)
    ct.SetSpacing(volume.spacing_mm)
    carina_mm = patient.anatomy.carina_mm[2]
    low, high = (z + carina_mm for z in lung_span_mm(patient.labels, patient.grid))
    return _measured(job, patient.patient_id, ct, (low, high))


def _read(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return sitk.Cast(reader.Execute(), sitk.sitkFloat32)


def _measured(
    job: Job, name: str, ct: sitk.Image, truth_mm: tuple[float, float] | None = None
) -> Outcome:
    on_grid = resample_ct(ct, target_grid(ct, GRID_MM))
    body = body_mask(on_grid, BODY_HU)
    started = process_time()
    mask = lung_mask(ct, body)
    lungs = measure_lungs(mask)
    seconds = process_time() - started
    base, apex = lungs.base_mm, lungs.apex_mm
    ends = None if base is None or apex is None else (base, apex)
    if job.figures is not None:
        figure = ThoraxFigure(name, resample_ct(ct, mask), mask, ends, MARGIN_MM)
        draw_thorax(job.figures / f"{name}.png", figure)
    dark = sitk.GetArrayFromImage(sitk.And(on_grid < DARK_HU, body)).sum(dtype=np.int64)
    low, high = truth_mm or (np.nan, np.nan)
    return Outcome(
        name=name,
        slices=ct.GetSize()[2],
        lungs=lungs,
        dark_ml=float(dark * np.prod(on_grid.GetSpacing()) / 1000.0),
        base_error_mm=base - low if base is not None else np.nan,
        apex_error_mm=apex - high if apex is not None else np.nan,
        seconds=seconds,
    )


def _show(outcomes: Sequence[Outcome]) -> None:
    table = Table("CT", "slices", "lungs, ml", "dark, ml", "base, mm off", "apex, mm off", "CPU s")
    for outcome in outcomes:
        errors_mm = (outcome.base_error_mm, outcome.apex_error_mm)
        table.add_row(
            outcome.name,
            str(outcome.slices),
            f"{outcome.lungs.volume_ml:.0f}" if outcome.lungs.found else "none found",
            f"{outcome.dark_ml:.0f}",
            *("" if np.isnan(x) else f"{x:+.1f}" for x in errors_mm),
            f"{outcome.seconds:.1f}",
        )
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
