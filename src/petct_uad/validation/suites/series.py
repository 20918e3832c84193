"""Stacks of slices: ``series.csv``."""

from __future__ import annotations

from great_expectations.expectations.row_conditions import Column

from petct_uad.ingest.tables import SERIES_ROLES
from petct_uad.validation.suites.check import (
    Check,
    Promises,
    between,
    holds,
    in_set,
    matches,
    unique,
)

TABLE = "series"
IDENTITY = "series_instance_uid"

_USED = Column("role").is_in(["ct", "pet"])
_MAX_PIXEL_MM = 8.0  # PET of 128 x 128 over 700 mm has 5.5
_FIELD_MM = (50.0, 1000.0)  # a child's limb; the widest bore


def checks(promises: Promises) -> list[Check]:
    """Have the stacks a plausible geometry, and is each used as what it is?"""
    coarsest = promises.bounds.max_spacing_mm
    return [
        Check(TABLE, "stack_unique", "critical", "one row per stack of a series",
              unique("series_instance_uid", "stack")),
        Check(TABLE, "role_known", "critical", "every stack is used or its disuse is stated",
              in_set("role", SERIES_ROLES)),
        Check(TABLE, "choice_has_reason", "critical", "no stack is passed over in silence",
              matches("reason", r"\S")),
        Check(TABLE, "modality_fits_role", "critical",
              "a PET taken for a CT gives HU that are none (Modality, 0008,0060)",
              holds("modality_fits")),
        Check(TABLE, "spacing_plausible", "critical", "thicker slices hide lesions",
              between("spacing_z_mm", 0.1, coarsest, _USED)),
        Check(TABLE, "pixel_width_plausible", "critical", "a spacing of 0 or 100 mm is an error",
              between("spacing_x_mm", 0.1, _MAX_PIXEL_MM, _USED)),
        Check(TABLE, "pixel_height_plausible", "critical", "a spacing of 0 or 100 mm is an error",
              between("spacing_y_mm", 0.1, _MAX_PIXEL_MM, _USED)),
        Check(TABLE, "spacing_stated", "critical", "a volume without spacing has no millimetres",
              holds("spacing_stated", _USED)),
        Check(TABLE, "width_plausible", "warning", "a field of view holds a limb and fits a bore",
              between("width_mm", *_FIELD_MM, _USED)),
        Check(TABLE, "height_plausible", "warning", "a field of view holds a limb and fits a bore",
              between("height_mm", *_FIELD_MM, _USED)),
    ]  # fmt: skip
