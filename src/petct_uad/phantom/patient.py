"""One digital patient: body, scanner, lesions and PET displacement, drawn from seed and index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from petct_uad.phantom.anatomy import Anatomy, draw_anatomy
from petct_uad.phantom.grids import Grid, Vector, axis
from petct_uad.phantom.lesions import Lesion, LesionPlan, draw_lesion
from petct_uad.phantom.params import PhantomParams
from petct_uad.phantom.render import Labels, render
from petct_uad.phantom.scanners import Scanner
from petct_uad.phantom.truth import RigidTruth

CT_FIELD_MM = 500.0
CT_SLICE_MM = 5.0
MODEL_SPACING_MM = 2.5
_MARGIN_MM = 30.0  # beyond the stack: what a displacement and the point spread can bring in


@dataclass(frozen=True)
class PatientPlan:
    """What the cohort's design asks of one patient."""

    index: int  # 0-based, also the number in the PatientID
    scanner: Scanner
    myocardium_suv: float
    lesions: tuple[LesionPlan, ...]


@dataclass(frozen=True)
class Patient:
    """One patient; ``labels`` are the tissue on ``grid``, both in anatomy coordinates (mm)."""

    plan: PatientPlan
    patient_id: str
    anatomy: Anatomy
    displacement: RigidTruth
    grid: Grid  # 2.5 mm, wider than the stack
    labels: Labels
    lesions: tuple[Lesion, ...]
    first_slice_mm: float  # z of the lowest CT slice, anatomy coordinates
    ct_slices: int

    def to_ct_frame(self, point: Vector) -> Vector:
        """From anatomy coordinates to the CT frame, both LPS in mm."""
        x, y, z = (p + c for p, c in zip(point, self.anatomy.carina_mm, strict=True))
        return x, y, z


def stream(params: PhantomParams, index: int, purpose: int) -> np.random.Generator:
    """An independent random stream for one purpose of one patient."""
    return np.random.default_rng([params.seed, index, purpose])


def draw_patient(params: PhantomParams, plan: PatientPlan) -> Patient:
    """Draw the patient that ``plan`` asks for, and render the anatomy once at 2.5 mm."""
    rng = stream(params, plan.index, 0)
    anatomy = draw_anatomy(rng, plan.myocardium_suv)
    slices = round(params.extent_mm / CT_SLICE_MM)
    extent = slices * CT_SLICE_MM
    first = -33.0 + float(rng.uniform(-4, 4)) - (extent - CT_SLICE_MM) / 2
    grid = _model_grid(first - CT_SLICE_MM / 2, extent)
    labels = render(anatomy, grid)
    heights = [first - CT_SLICE_MM / 2 + lesion.height * extent for lesion in plan.lesions]
    return Patient(
        plan=plan,
        patient_id=f"PHANTOM-{plan.index + 1:04d}",
        anatomy=anatomy,
        displacement=_draw_displacement(rng, params, anatomy, first + extent / 2),
        grid=grid,
        labels=labels,
        lesions=tuple(
            draw_lesion(rng, lesion, labels, grid, z)
            for lesion, z in zip(plan.lesions, heights, strict=True)
        ),
        first_slice_mm=first,
        ct_slices=slices,
    )


def _model_grid(bottom_mm: float, extent_mm: float) -> Grid:
    """Isotropic; 430 x 340 mm hold every body."""
    slices = int(np.ceil((extent_mm + 2 * _MARGIN_MM) / MODEL_SPACING_MM))
    return Grid(
        axis(-230.0, MODEL_SPACING_MM, 185),
        axis(-185.0, MODEL_SPACING_MM, 141),
        axis(bottom_mm - _MARGIN_MM, MODEL_SPACING_MM, slices),
    )


def _draw_displacement(
    rng: np.random.Generator, params: PhantomParams, anatomy: Anatomy, middle_mm: float
) -> RigidTruth:
    def uniform(limit: float) -> Vector:
        x, y, z = (float(v) for v in rng.uniform(-limit, limit, 3))
        return x, y, z

    carina = anatomy.carina_mm
    return RigidTruth(
        centre_mm=(carina[0], carina[1], carina[2] + middle_mm),
        rotation_deg=uniform(params.max_rotation_deg),
        translation_mm=uniform(params.max_shift_mm),
    )
