"""CT, PET and label volumes as ingest wrote them: ``validate/volumes.csv``."""

from __future__ import annotations

from great_expectations.expectations.row_conditions import Column

from petct_uad.validation.suites.check import Check, Promises, between, finite, holds, unique

TABLE = "volumes"
IDENTITY = "volume"

_CT = Column("kind") == "ct"
_PET = Column("kind") == "pet"
_LABEL = Column("kind") == "label"
_AIR_HU = (-1100.0, -900.0)
_BONE_HU = 250.0
_MIN_EXTENT_MM = 40.0  # eight slices of 5 mm; less is no scan of a body
_MAX_EXTENT_MM = 2500.0  # the tallest person and the couch


def checks(promises: Promises) -> list[Check]:
    """Do the voxels hold HU and SUV, and all that the tables say?"""
    return [
        Check(TABLE, "volume_unique", "critical", "one CT, PET and label per study",
              unique("study_id", "kind")),
        Check(TABLE, "all_there", "critical", "every study in studies.csv has a CT and a PET",
              holds("paired")),
        Check(TABLE, "finite", "critical", "NaN spreads", finite()),
        Check(TABLE, "voxels_finite", "critical", "NaN spreads", holds("finite")),
        Check(TABLE, "not_constant", "critical", "an empty volume has no anatomy",
              between("std", 1e-3, None, Column("kind").is_in(["ct", "pet"]))),
        Check(TABLE, "slices_as_listed", "critical", "a slice that is missing was lost in reading",
              holds("slices_as_listed")),
        Check(TABLE, "length_plausible", "warning", "a scan is between a hand's breadth and a body",
              between("extent_z_mm", _MIN_EXTENT_MM, _MAX_EXTENT_MM)),
        Check(TABLE, "air_is_minus_1000_hu", "critical",
              "the darkest hundredth of a CT is air, by definition -1000 HU; else RescaleIntercept "
              "(0028,1052) is wrong, or padding was read as HU",
              between("air_hu", *_AIR_HU, _CT)),
        Check(TABLE, "ct_has_bone", "warning", "a CT without bone was cut or scaled to a window",
              between("maximum", _BONE_HU, None, _CT)),
        Check(TABLE, "suv_not_negative", "warning", "activity is not negative beyond noise",
              between("minimum", -1.0, None, _PET)),
        Check(TABLE, "suv_reaches_uptake", "critical",
              "a PET without SUV 1 anywhere has a wrong weight, dose, time or slope",
              between("maximum", 1.0, None, _PET)),
        Check(TABLE, "suv_plausible", "warning",
              "only a bladder, a kidney or the place of injection exceeds this",
              between("maximum", None, promises.bounds.max_suv, _PET)),
        Check(TABLE, "label_is_a_mask", "critical", "a label is 0 or 1, and somewhere 1",
              between("maximum", 1, 1, _LABEL)),
        Check(TABLE, "label_is_a_lesion", "warning",
              "a label over a fifth of the volume is a body or a field of view, not a lesion",
              between("mean", 0, 0.2, _LABEL)),
    ]  # fmt: skip
