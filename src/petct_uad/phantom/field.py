"""The field of view in-plane: the whole body, or a square cut out around one place.

Public cohorts are often cropped around the tumour (the soft-tissue sarcomas of the IBSI validation
data: 5 cm around it), so that the skin shows on one side of the picture only, or on none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from petct_uad.phantom.grids import Vector
from petct_uad.phantom.params import PhantomParams
from petct_uad.phantom.patient import Patient, stream

_DEPTH = 0.75  # of the chest's half width: where a healthy patient's field is centred


@dataclass(frozen=True)
class Window:
    """Which rows and columns of a volume are seen."""

    rows: slice
    columns: slice

    def origin(self, origin_mm: Vector, spacing_mm: Vector) -> Vector:
        """The centre of the first voxel that is seen."""
        x, y, z = origin_mm
        moved = (
            x + self.columns.indices(1 << 30)[0] * spacing_mm[0],
            y + self.rows.indices(1 << 30)[0] * spacing_mm[1],
        )
        return round(moved[0], 4), round(moved[1], 4), z


WHOLE = Window(slice(None), slice(None))


def field_of_view(
    params: PhantomParams,
    patient: Patient,
    origin_mm: Vector,
    spacing_mm: Vector,
    shape: tuple[int, ...],
) -> Window:
    """What of a volume (z, y, x) in the CT frame is seen; all of it where ``crop_mm`` is 0."""
    if not params.crop_mm:
        return WHOLE
    x, y = _place(params, patient)
    half = params.crop_mm / 2
    return Window(
        rows=_span(origin_mm[1], spacing_mm[1], shape[1], y, half),
        columns=_span(origin_mm[0], spacing_mm[0], shape[2], x, half),
    )


def _place(params: PhantomParams, patient: Patient) -> tuple[float, float]:
    """The first lesion, else a place towards the skin; x and y in the CT frame."""
    if patient.lesions:
        x, y, _ = patient.to_ct_frame(patient.lesions[0].centre)
        return x, y
    angle = float(stream(params, patient.plan.index, 6).uniform(-math.pi, math.pi))
    anatomy = patient.anatomy
    across = _DEPTH * anatomy.cavity_half_width * math.cos(angle)
    deep = _DEPTH * anatomy.cavity_half_depth * math.sin(angle)
    x, y, _ = patient.to_ct_frame((across, deep, 0.0))
    return x, y


def _span(start_mm: float, step_mm: float, count: int, middle_mm: float, half_mm: float) -> slice:
    """The voxels whose centres lie within ``half_mm`` of the middle; at least one."""
    centres = start_mm + step_mm * np.arange(count)
    inside = np.flatnonzero(np.abs(centres - middle_mm) <= half_mm)
    nearest = int(np.abs(centres - middle_mm).argmin())
    first, last = (int(inside[0]), int(inside[-1])) if len(inside) else (nearest, nearest)
    return slice(first, last + 1)
