"""One digital patient: body, scanner, lesions and PET displacement, drawn from seed and index."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from petct_uad.phantom.anatomy import Anatomy, draw_anatomy
from petct_uad.phantom.body import Body, draw_body
from petct_uad.phantom.canvas import Labels
from petct_uad.phantom.grids import Grid, Vector, axis
from petct_uad.phantom.lesions import Lesion, LesionPlan, draw_lesion
from petct_uad.phantom.params import THORAX_MM, PhantomParams
from petct_uad.phantom.render import render
from petct_uad.phantom.scanners import Scanner
from petct_uad.phantom.tissue import Tissue, with_body
from petct_uad.phantom.truth import RigidTruth

CT_FIELD_MM = 500.0
_THORAX_SLICE_MM = 5.0
MODEL_SPACING_MM = 2.5
_MARGIN_MM = 30.0  # beyond the stack: what a displacement and the point spread can bring in
_THORAX_MIDDLE_MM = -33.0
_ABOVE_VERTEX_MM = 15.0
_LONGEST_MM = 900.0
_LESION_MARGIN_MM = 25.0  # from the lungs' ends
_LEAST_LUNG_MM2 = 100.0  # of a plane that counts as one with lung
_FOLLOW_UP = 16  # between the random streams of two visits


@dataclass(frozen=True)
class PatientPlan:
    """What the cohort's design asks of one patient."""

    index: int  # 0-based, also the number in the PatientID
    scanner: Scanner
    myocardium_suv: float
    lesions: tuple[LesionPlan, ...]

    @property
    def arms_down(self) -> bool:
        """Of a whole body; this and what follows goes by turns."""
        return self.index % 2 == 1

    @property
    def contrast(self) -> bool:
        """Was a contrast agent given before the CT?"""
        return self.index % 4 in (2, 3)

    @property
    def labelled_on_pet(self) -> bool:
        """Is the SEG on the PET's grid, not on the CT's?"""
        return self.index % 4 in (1, 2)

    @property
    def also_uncorrected(self) -> bool:
        """Is there a second PET, without attenuation correction?"""
        return self.index % 3 == 0

    @property
    def visits(self) -> int:
        """How many studies there are of the patient, months apart."""
        return 2 if self.index % 4 == 2 else 1


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
    ct_slice_mm: float = _THORAX_SLICE_MM
    body: Body | None = None  # where the whole body is seen
    visit: int = 0

    def stream(self, params: PhantomParams, purpose: int) -> np.random.Generator:
        """An independent random stream for one purpose of this visit."""
        return stream(params, self.plan.index, purpose + _FOLLOW_UP * self.visit)

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
    body = _draw_body(params, plan) if params.whole_body else None
    if body is not None:
        tissues = with_body(anatomy.tissues, stream(params, plan.index, 8), body.contrast)
        anatomy = replace(anatomy, tissues=tissues)
    slice_mm = _THORAX_SLICE_MM if body is None else plan.scanner.ct_slice_mm
    slices = round(params.extent_mm / slice_mm)
    extent = slices * slice_mm
    middle = _THORAX_MIDDLE_MM if body is None else _middle_mm(params, body)
    first = middle + float(rng.uniform(-4, 4)) - (extent - slice_mm) / 2
    grid = _model_grid(first - slice_mm / 2, extent, body)
    labels = render(anatomy, grid, body)
    low, length = (first - slice_mm / 2, extent) if body is None else _within_lungs(labels, grid)
    heights = [low + lesion.height * length for lesion in plan.lesions]
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
        ct_slice_mm=slice_mm,
        body=body,
    )


def later_visit(params: PhantomParams, patient: Patient) -> Patient:
    """The same body months later: lain down anew, and its lesions grown."""
    visit = replace(patient, visit=patient.visit + 1)
    middle = patient.first_slice_mm + patient.ct_slice_mm * patient.ct_slices / 2
    moved = _draw_displacement(visit.stream(params, 0), params, patient.anatomy, middle)
    grown = tuple(replace(lesion, diameter=1.15 * lesion.diameter) for lesion in patient.lesions)
    return replace(visit, displacement=moved, lesions=grown)


def lung_span_mm(labels: Labels, grid: Grid) -> tuple[float, float]:
    """The lowest and the highest plane of the grid with a square centimetre of lung, z in mm."""
    _, y_mm, x_mm = grid.spacing
    area_mm2 = (labels == Tissue.LUNG).sum(axis=(1, 2)) * y_mm * x_mm
    planes = grid.z[area_mm2 >= _LEAST_LUNG_MM2]
    return float(planes[0]), float(planes[-1])


def _draw_body(params: PhantomParams, plan: PatientPlan) -> Body:
    return draw_body(stream(params, plan.index, 7), plan.arms_down, plan.contrast)


def _middle_mm(params: PhantomParams, body: Body) -> float:
    """The longest stack begins above the head; shorter ones draw back around the thorax."""
    share = (params.extent_mm - THORAX_MM) / (_LONGEST_MM - THORAX_MM)
    longest = body.vertex + _ABOVE_VERTEX_MM - _LONGEST_MM / 2
    return _THORAX_MIDDLE_MM + share * (longest - _THORAX_MIDDLE_MM)


def _within_lungs(labels: Labels, grid: Grid) -> tuple[float, float]:
    """Where lesions lie: the lowest z, and how far up from there."""
    low, high = lung_span_mm(labels, grid)
    return low + _LESION_MARGIN_MM, high - low - 2 * _LESION_MARGIN_MM


def _model_grid(bottom_mm: float, extent_mm: float, body: Body | None) -> Grid:
    """Isotropic; 430 x 340 mm hold every trunk, and 520 mm the arms beside it."""
    slices = int(np.ceil((extent_mm + 2 * _MARGIN_MM) / MODEL_SPACING_MM))
    return Grid(
        axis(-230.0, MODEL_SPACING_MM, 185) if body is None else axis(-260, MODEL_SPACING_MM, 209),
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
