"""What was read, before anything is made of it: the tables of ingest, and its volumes' voxels."""

from __future__ import annotations

from great_expectations.expectations.row_conditions import Column

from petct_uad.ingest.tables import (
    DRAWN_ON,
    DRAWN_ON_CT,
    DRAWN_ON_PET,
    FINDINGS,
    INSTANCE_ROLES,
    LABEL_KINDS,
    REFERENCE_RULES,
    SERIES_ROLES,
)
from petct_uad.validation.suites.check import (
    Check,
    Promises,
    between,
    finite,
    holds,
    in_set,
    matches,
    unique,
)

_USED = Column("role").is_in(["ct", "pet"])
_USED_PET = Column("role") == "pet"
_MAX_PIXEL_MM = 8.0  # PET of 128 x 128 over 700 mm has 5.5
_FIELD_MM = (50.0, 1000.0)  # a child's limb; the widest bore
_CT = Column("kind") == "ct"
_PET = Column("kind") == "pet"
_LABEL = Column("kind") == "label"
_AIR_HU = (-1100.0, -900.0)
_BONE_HU = 250.0
_MIN_EXTENT_MM = 40.0  # eight slices of 5 mm; less is no scan of a body
_MAX_EXTENT_MM = 2500.0  # the tallest person and the couch


def cohort_checks(promises: Promises) -> list[Check]:
    """Is it all there, and of one kind?"""
    return [
        Check("cohort", "few_studies_lost", "critical",
              "a cohort that loses much of its input is not the cohort that was asked for",
              between("lost_study_fraction", 0, promises.bounds.max_lost_study_fraction)),
        Check("cohort", "one_kind_of_suv", "critical",
              "SUVs by weight, lean mass and surface differ by a factor of up to two",
              between("suv_kinds", 0, 1)),
        Check("cohort", "every_study_labelled", "warning",
              "a study of which no label says what is healthy counts as split.unlabelled says",
              between("unlabelled_studies", 0, 0)),
    ]  # fmt: skip


def instances_checks(promises: Promises) -> list[Check]:
    """Is every file known by one name, one UID and one hash, and has it a place?"""
    return [
        Check("instances", "file_once", "critical", "one row per file", unique("file")),
        Check("instances", "sop_instance_uid_unique", "critical",
              "SOPInstanceUID identifies an instance (PS3.3 C.12.1)",
              unique("sop_instance_uid")),
        Check("instances", "hash_is_sha256", "critical", "lineage rests on these hashes",
              matches("sha256", "^[0-9a-f]{64}$")),
        Check("instances", "role_known", "critical", "every file is used or its disuse is stated",
              in_set("role", INSTANCE_ROLES)),
        Check("instances", "used_by_a_study", "critical",
              "a volume is traced to its files by study_id",
              holds("study_known", Column("role").is_in(["ct", "pet", "label"]))),
        Check("instances", "series_listed", "critical",
              "a file of a series that is not listed is lost",
              holds("series_known")),
    ]  # fmt: skip


def series_checks(promises: Promises) -> list[Check]:
    """Have the stacks a plausible geometry, and is each used as what it is?"""
    coarsest = promises.bounds.max_spacing_mm
    return [
        Check("series", "stack_unique", "critical", "one row per stack of a series",
              unique("series_instance_uid", "stack")),
        Check("series", "role_known", "critical", "every stack is used or its disuse is stated",
              in_set("role", SERIES_ROLES)),
        Check("series", "choice_has_reason", "critical", "no stack is passed over in silence",
              matches("reason", r"\S")),
        Check("series", "modality_fits_role", "critical",
              "a PET taken for a CT gives HU that are none (Modality, 0008,0060)",
              holds("modality_fits")),
        Check("series", "spacing_plausible", "critical", "thicker slices hide lesions",
              between("spacing_z_mm", 0.1, coarsest, _USED)),
        Check("series", "pixel_width_plausible", "critical", "a spacing of 0 or 100 mm is an error",
              between("spacing_x_mm", 0.1, _MAX_PIXEL_MM, _USED)),
        Check("series", "pixel_height_plausible", "critical",
              "a spacing of 0 or 100 mm is an error",
              between("spacing_y_mm", 0.1, _MAX_PIXEL_MM, _USED)),
        Check("series", "spacing_stated", "critical", "a volume without spacing has no millimetres",
              holds("spacing_stated", _USED)),
        Check("series", "reference_rule_known", "critical",
              "an SUV rests on the moment to which its decay is corrected",
              in_set("reference_rule", REFERENCE_RULES, _USED_PET)),
        Check("series", "uptake_time_plausible", "warning",
              "nobody scans so soon or so late after an injection of this nuclide: look at Start "
              "Time (0018,1072) and DateTime (0018,1078) beside the times of the scan, and at time "
              "zones (0008,0201)",
              holds("uptake_fits", _USED_PET)),
        Check("series", "suv_as_told", "warning",
              "an SUV rests on what no tag says, or of which two tags say different things: a dose "
              "in MBq, a weight in g, a time (suv_assumed in series.csv, notes in studies.csv)",
              in_set("suv_assumed", [""], _USED_PET)),
        Check("series", "width_plausible", "warning",
              "a field of view holds a limb and fits a bore",
              between("width_mm", *_FIELD_MM, _USED)),
        Check("series", "height_plausible", "warning",
              "a field of view holds a limb and fits a bore",
              between("height_mm", *_FIELD_MM, _USED)),
    ]  # fmt: skip


def studies_checks(promises: Promises) -> list[Check]:
    """Is every study one of a known patient and scanner, with a label that is one?"""
    return [
        Check("studies", "study_id_unique", "critical", "one row per study", unique("study_id")),
        Check("studies", "patient_stated", "critical", "splits are made by patient",
              matches("patient", r"\S")),
        Check("studies", "scanner_stated", "warning", "splits are stratified by scanner",
              matches("scanner", r"\S")),
        Check("studies", "label_kind_known", "critical",
              "a label is a SEG, an RTSTRUCT or labels.csv",
              in_set("label_kind", LABEL_KINDS)),
        Check("studies", "finding_known", "critical",
              "a study without lesions is another thing than one that nobody has labelled",
              in_set("finding", FINDINGS)),
        Check("studies", "label_drawn_on_known", "critical",
              "a lesion moves with the images that it was drawn on",
              in_set("label_drawn_on", DRAWN_ON)),
        Check("studies", "label_names_a_lesion", "critical",
              "a SEG or RTSTRUCT of which ingest.label_roi picks nothing would pass lesions off as "
              "normal",
              holds("label_names_a_lesion")),
        Check("studies", "pet_is_one_image", "warning",
              "ingest.dynamic took the last frame of a dynamic or gated PET, or the mean of some: "
              "SUV of another uptake time or with other noise than the cohort's static PET (notes "
              "in studies.csv)",
              holds("pet_is_whole")),
        Check("studies", "same_frame_of_reference", "warning",
              "PET and CT of one session share FrameOfReferenceUID (0020,0052)",
              holds("same_frame_of_reference")),
    ]  # fmt: skip


def volumes_checks(promises: Promises) -> list[Check]:
    """Do the voxels hold HU and SUV, and all that the tables say?"""
    return [
        Check("volumes", "volume_unique", "critical", "one CT, PET and label per study",
              unique("study_id", "kind")),
        Check("volumes", "all_there", "critical", "every study in studies.csv has a CT and a PET",
              holds("paired")),
        Check("volumes", "finite", "critical", "NaN spreads", finite()),
        Check("volumes", "voxels_finite", "critical", "NaN spreads", holds("finite")),
        Check("volumes", "not_constant", "critical", "an empty volume has no anatomy",
              between("std", 1e-3, None, Column("kind").is_in(["ct", "pet"]))),
        Check("volumes", "slices_as_listed", "critical",
              "a slice that is missing was lost in reading",
              holds("slices_as_listed")),
        Check("volumes", "length_plausible", "warning",
              "a scan is between a hand's breadth and a body",
              between("extent_z_mm", _MIN_EXTENT_MM, _MAX_EXTENT_MM)),
        Check("volumes", "air_is_minus_1000_hu", "critical",
              "the darkest hundredth of a CT is air, by definition -1000 HU; else RescaleIntercept "
              "(0028,1052) is wrong, or padding was read as HU",
              between("air_hu", *_AIR_HU, _CT)),
        Check("volumes", "ct_has_bone", "warning",
              "a CT without bone was cut or scaled to a window",
              between("maximum", _BONE_HU, None, _CT)),
        Check("volumes", "suv_not_negative", "warning", "activity is not negative beyond noise",
              between("minimum", -1.0, None, _PET)),
        Check("volumes", "suv_reaches_uptake", "critical",
              "a PET without SUV 1 anywhere has a wrong weight, dose, time or slope",
              between("maximum", 1.0, None, _PET)),
        Check("volumes", "suv_plausible", "warning",
              "only a bladder, a kidney or the place of injection exceeds this",
              between("maximum", None, promises.bounds.max_suv, _PET)),
        Check("volumes", "label_is_a_mask", "critical",
              "a label is 0, or says on which images it was drawn: 1 the CT, 2 the PET, 3 both",
              between("maximum", 0, DRAWN_ON_CT | DRAWN_ON_PET, _LABEL)),
        Check("volumes", "label_is_as_found", "critical",
              "a study with a lesion (studies.csv) has one in its label, a negative one has none",
              holds("label_as_found")),
        Check("volumes", "label_is_a_lesion", "warning",
              "a label over a fifth of the volume is a body or a field of view, not a lesion",
              between("mean", 0, 0.2, _LABEL)),
    ]  # fmt: skip
