"""What ``readings.csv`` says of each slice: numbers that a reader has today, for trivial baselines.

Nothing here looks at a lesion mask or a label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from petct_uad.preprocess.liver import percist_threshold
from petct_uad.preprocess.measures import BodyUptake
from petct_uad.slices.tables import PETCT, PICTURE, ReadingRow, SliceRow, slice_id_of
from petct_uad.volumes.study import StudyVolumes

LIVER, FIXED, NONE = "liver", "fixed", "none"
# A part of the maximum by which readers outline a lesion (EANM guideline 2.0, Boellaard et al.
# 2015, section on volumes).
_PART_OF_MAXIMUM = 0.41
_FIXED_SUV = 4.0  # the usual fixed threshold; used where no liver is in view


@dataclass(frozen=True)
class _Reference:
    kind: str
    suv: float

    @classmethod
    def of(cls, study: StudyVolumes) -> _Reference:
        found = percist_threshold(study)
        return cls(FIXED, _FIXED_SUV) if found is None else cls(LIVER, found)


def read_uptake(study_id: str, study: StudyVolumes, uptake: BodyUptake) -> tuple[ReadingRow, ...]:
    """One row per slice of the grid of a study with volumes, in its order."""
    reference = _Reference.of(study)
    above_2_5, above_4, above_part, above_reference = (
        uptake.area_above_mm2(suv)
        for suv in (2.5, 4.0, _PART_OF_MAXIMUM * uptake.largest, reference.suv)
    )
    return tuple(
        ReadingRow(
            slice_id=slice_id_of(study_id, z),
            kind=PETCT,
            suv_above_2_5_mm2=float(above_2_5[z]),
            suv_above_4_mm2=float(above_4[z]),
            suv_above_41_percent_mm2=float(above_part[z]),
            suv_above_reference_mm2=float(above_reference[z]),
            reference=reference.kind,
            reference_suv=reference.suv,
            grey_mean=None,
            grey_max=None,
            grey_gradient=None,
            grey_laplacian=None,
        )
        for z in range(len(uptake.suv))
    )


def read_picture(row: SliceRow, grey: NDArray[np.float16]) -> ReadingRow:
    """The row of a picture.

    Args:
        grey: (S, S) grey levels from 0 to 1, as the models see them: sharpness depends on size.
    """
    levels = grey.astype(np.float64)
    return ReadingRow(
        slice_id=row.slice_id,
        kind=PICTURE,
        suv_above_2_5_mm2=None,
        suv_above_4_mm2=None,
        suv_above_41_percent_mm2=None,
        suv_above_reference_mm2=None,
        reference=NONE,
        reference_suv=None,
        grey_mean=float(levels.mean()),
        grey_max=float(levels.max()),
        grey_gradient=float(np.hypot(*np.gradient(levels)).mean()),
        grey_laplacian=float(ndimage.laplace(levels, mode="nearest").var()),
    )
