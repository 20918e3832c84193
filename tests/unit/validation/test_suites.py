"""Every expectation fails on the one defect that it names, and says on which rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from petct_uad.comparison.judged_scores import check_scores, scores_checks
from petct_uad.validation.checks import Check, Promises, checks
from petct_uad.validation.frames import frames_of
from petct_uad.validation.tables import Tables
from petct_uad.validation.validate import Outcome, run_checks
from tests.unit.validation.sound import ABNORMAL, duplicate, promises, sound_tables

NAN = float("nan")
Break = Callable[[Tables], Tables]


def first(name: str, **changes: Any) -> Break:
    """Change the first row of a table."""
    return row_of(name, 0, **changes)


def row_of(name: str, index: int, **changes: Any) -> Break:
    def broken(tables: Tables) -> Tables:
        rows = list(rows_of(tables, name))
        rows[index] = replace(rows[index], **changes)
        return with_rows(tables, name, rows)

    return broken


def all_of(name: str, **changes: Any) -> Break:
    def broken(tables: Tables) -> Tables:
        rows = [replace(row, **changes) for row in rows_of(tables, name)]
        return with_rows(tables, name, rows)

    return broken


def twice(name: str) -> Break:
    """Repeat the first row of a table."""
    return lambda tables: with_rows(
        tables, name, [rows_of(tables, name)[0], *rows_of(tables, name)]
    )


def without(name: str, keep: Callable[[Any], bool] = lambda _: False) -> Break:
    return lambda tables: with_rows(tables, name, filter(keep, rows_of(tables, name)))


def also(*breaks: Break) -> Break:
    def broken(tables: Tables) -> Tables:
        for one in breaks:
            tables = one(tables)
        return tables

    return broken


def rows_of(tables: Tables, name: str) -> tuple[Any, ...]:
    place = tables.measured if hasattr(tables.measured, name) else tables
    return tuple(getattr(place, name))


def with_rows(tables: Tables, name: str, rows: Any) -> Tables:
    changed: dict[str, Any] = {name: tuple(rows)}
    if hasattr(tables.measured, name):
        return replace(tables, measured=replace(tables.measured, **changed))
    return replace(tables, **changed)


def other_scanner_has_the_lesion(tables: Tables) -> Tables:
    """Of the test slices, one scanner's are all abnormal and the other's all normal."""
    rows = [replace(row, scanner="SIEMENS Vision") if row.slice_id == ABNORMAL else row
            for row in tables.images]  # fmt: skip
    return replace(tables, images=tuple(rows))


TEST_SLICE, VAL_SLICE, ABNORMAL_SLICE = 4, 2, 5
LABEL, PET = 1, 2

# table.name: (what breaks it, which rows it must name)
BREAKS: dict[str, tuple[Break, tuple[str, ...]]] = {
    "cohort.few_studies_lost": (without("studies", lambda row: row.patient != "P1"), ("tiny",)),
    "benchmark.enough_training_normals": (without("images", lambda row: row.split != "train"),
                                       ("tiny",)),
    "benchmark.validation_has_normals": (without("images", lambda row: row.split != "val"),
                                      ("tiny",)),
    "benchmark.test_has_both_classes": (without("images", lambda row: row.label == 0), ("tiny",)),
    "cohort.one_kind_of_suv": (first("studies", suv_kind="lbm"), ("tiny",)),
    "cohort.every_study_labelled": (first("studies", finding="unlabelled"), ("tiny",)),
    "instances.file_once": (row_of("instances", 1, file="P1/ct.dcm"), ("P1/ct.dcm",)),
    "instances.sop_instance_uid_unique": (row_of("instances", 1, sop_instance_uid="1.P1/ct"),
                                          ("P1/ct.dcm", "P1/pet.dcm")),
    "instances.hash_is_sha256": (first("instances", sha256="d41d8cd9"), ("P1/ct.dcm",)),
    "instances.role_known": (first("instances", role="dose"), ("P1/ct.dcm",)),
    "instances.used_by_a_study": (first("instances", study_id=""), ("P1/ct.dcm",)),
    "instances.series_listed": (first("instances", series_instance_uid="2.9"), ("P1/ct.dcm",)),
    "series.stack_unique": (twice("series"), ("2.P1/ct",)),
    "series.role_known": (first("series", role="dose"), ("2.P1/ct",)),
    "series.choice_has_reason": (first("series", reason=""), ("2.P1/ct",)),
    "series.modality_fits_role": (first("series", modality="PT"), ("2.P1/ct",)),
    "series.spacing_plausible": (first("series", spacing_z_mm=12.0), ("2.P1/ct",)),
    "series.pixel_width_plausible": (first("series", spacing_x_mm=0.0), ("2.P1/ct",)),
    "series.pixel_height_plausible": (first("series", spacing_y_mm=100.0), ("2.P1/ct",)),
    "series.spacing_stated": (first("series", spacing_z_mm=None), ("2.P1/ct",)),
    "series.reference_rule_known": (row_of("series", 1, reference_rule=""), ("2.P1/pet",)),
    "series.uptake_time_plausible": (row_of("series", 1, uptake_min=3.0), ("2.P1/pet",)),
    "series.suv_as_told": (row_of("series", 1, suv_assumed="the dose is in MBq"), ("2.P1/pet",)),
    "series.width_plausible": (first("series", columns=16), ("2.P1/ct",)),
    "series.height_plausible": (first("series", rows=4000), ("2.P1/ct",)),
    "studies.study_id_unique": (twice("studies"), ("P1",)),
    "studies.patient_stated": (first("studies", patient=""), ("P1",)),
    "studies.scanner_stated": (first("studies", scanner=" "), ("P1",)),
    "studies.label_kind_known": (first("studies", label_kind="freehand"), ("P1",)),
    "studies.finding_known": (first("studies", finding="perhaps"), ("P1",)),
    "studies.label_drawn_on_known": (first("studies", label_drawn_on="mr"), ("P1",)),
    "studies.label_names_a_lesion": (first("studies", lesion_kind="none"), ("P1",)),
    "studies.pet_is_one_image": (
        first("studies", notes="the PET is the last of 6 frames of a dynamic PET"), ("P1",)
    ),
    "studies.same_frame_of_reference": (first("studies", same_frame_of_reference=False), ("P1",)),
    "volumes.volume_unique": (twice("volumes"), ("P1/ct",)),
    "volumes.all_there": (without("volumes", lambda row: (row.study_id, row.kind) != ("P2", "pet")),
                          ("P2",)),
    "volumes.finite": (first("volumes", mean=NAN), ("P1/ct",)),
    "volumes.voxels_finite": (row_of("volumes", PET, finite=False), ("P1/pet",)),
    "volumes.not_constant": (row_of("volumes", PET, std=0.0), ("P1/pet",)),
    "volumes.slices_as_listed": (first("volumes", slices=19), ("P1/ct",)),
    "volumes.length_plausible": (first("volumes", spacing_z_mm=500.0), ("P1/ct",)),
    "volumes.air_is_minus_1000_hu": (first("volumes", air_hu=24.0), ("P1/ct",)),
    "volumes.ct_has_bone": (first("volumes", maximum=240.0), ("P1/ct",)),
    "volumes.suv_not_negative": (row_of("volumes", PET, minimum=-3.0), ("P1/pet",)),
    "volumes.suv_reaches_uptake": (row_of("volumes", PET, maximum=0.008), ("P1/pet",)),
    "volumes.suv_plausible": (row_of("volumes", PET, maximum=8000.0), ("P1/pet",)),
    "volumes.label_is_a_mask": (row_of("volumes", LABEL, maximum=4.0), ("P1/label",)),
    "volumes.label_is_as_found": (row_of("volumes", LABEL, maximum=0.0), ("P1/label",)),
    "volumes.label_is_a_lesion": (row_of("volumes", LABEL, mean=0.6), ("P1/label",)),
    "scans.study_unique": (twice("scans"), ("P1",)),
    "scans.finite": (first("scans", body_suv_mean=NAN), ("P1",)),
    "scans.body_suv_near_1": (first("scans", body_suv_mean=25.1), ("P1",)),
    "scans.ct_covers_pet": (first("scans", pet_in_ct=0.04), ("P1",)),
    "scans.pet_covers_ct": (first("scans", ct_in_pet=0.3), ("P1",)),
    "scans.label_without_gaps": (first("scans", label_gaps=5), ("P1",)),
    "lesions.finite": (first("lesions", suv_max=NAN), ("P3 lesion 1",)),
    "lesions.length_plausible": (first("lesions", length_mm=420.0), ("P3 lesion 1",)),
    "lesions.takes_up_more_than_around": (first("lesions", suv_mean=0.7), ("P3 lesion 1",)),
    "lesions.inside_pet": (first("lesions", in_pet=0.6), ("P3 lesion 1",)),
    "lesions.not_cut_off": (first("lesions", at_the_end=True), ("P3 lesion 1",)),
    "livers.study_unique": (twice("livers"), ("P1",)),
    "livers.finite": (first("livers", suv_mean=NAN), ("P1",)),
    "livers.suv_mean_plausible": (first("livers", suv_mean=0.4), ("P1",)),
    "registration.study_unique": (twice("registration"), ("P1",)),
    "registration.study_known": (first("registration", study_id="P9"), ("P9",)),
    "registration.finite": (first("registration", body_overlap_after=NAN), ("P1",)),
    "registration.overlap_not_worse": (first("registration", body_overlap_after=0.75), ("P1",)),
    "registration.mutual_information_not_lower": (
        first("registration", mutual_information_after=0.05), ("P1",)),
    "registration.displacement_bounded": (first("registration", displacement_max_mm=60.0),
                                          ("P1",)),
    "registration.bodies_overlap": (
        first("registration", body_overlap_before=0.5, body_overlap_after=0.6), ("P1",)),
    "registration.slices_left": (first("registration", slices=0), ("P1",)),
    "registration.no_slice_cut_by_motion": (first("registration", slices_cut_by_motion=1), ("P1",)),
    "registration.no_lesion_cut": (first("registration", lesion_slices_cut=1), ("P1",)),
    "registration.body_seen_whole": (first("registration", cropped=True), ("P1",)),
    "slices.slice_id_unique": (twice("slices"), ("P1_0000",)),
    "slices.slice_index_unique": (row_of("slices", 1, slice_index=0), ("P1_0000", "P1_0001")),
    "slices.finite": (first("slices", z_mm=NAN), ("P1_0000",)),
    "regions.study_unique": (twice("regions"), ("P1",)),
    "regions.study_known": (also(first("regions", study_id="P9"), without("slices"),
                                 without("images")), ("P9",)),
    "regions.finite": (first("regions", lungs_ml=NAN), ("P1",)),
    "regions.nothing_outside_in_use": (first("regions", high_mm=19.9), ("P1",)),
    "regions.lungs_found": (also(first("regions", found=False), without("slices"),
                                 without("images")), ("P1",)),
    "regions.lungs_plausible": (first("regions", lungs_ml=300.0), ("P1",)),
    "regions.length_plausible": (first("regions", base_mm=100.0), ("P1",)),
    "regions.seen_whole": (first("regions", at_high_end=True), ("P1",)),
    "regions.no_lesion_outside": (first("regions", lesion_slices_outside=1), ("P1",)),
    "slices.study_known": (first("slices", study_id="P9"), ("P1_0000",)),
    "slices.split_known": (first("slices", split="holdout"), ("P1_0000",)),
    "slices.placement_has_reason": (first("slices", reason=""), ("P1_0000",)),
    "slices.no_abnormal_in_train": (first("slices", label=1, lesion_area_mm2=50.0), ("P1_0000",)),
    "slices.no_abnormal_in_val": (row_of("slices", VAL_SLICE, label=1, lesion_area_mm2=50.0),
                                  ("P2_0000",)),
    "slices.label_fits_area": (first("slices", lesion_area_mm2=30.0), ("P1_0000",)),
    "slices.guard_kept": (row_of("slices", TEST_SLICE, z_mm=16.0), ("P3_0000",)),
    "slices.has_an_image": (without("images", lambda row: row.slice_id != "P1_0000"),
                            ("P1_0000",)),
    "patients.one_patient_one_split": (row_of("slices", 1, split="test"), ("P1",)),
    "splits.labels_balanced": (without("images", lambda row: row.label == 0), ("test",)),
    "splits.scanners_as_in_training": (row_of("images", VAL_SLICE, scanner="SIEMENS Vision"),
                                       ("val",)),
    "scanners.seen_in_training": (other_scanner_has_the_lesion, ("SIEMENS Vision",)),
    "scanners.labels_balanced": (other_scanner_has_the_lesion, ("GE STE", "SIEMENS Vision")),
    "images.slice_id_unique": (twice("images"), ("P1_0000",)),
    "images.matches_slices": (first("images", split="val"), ("P1_0000",)),
    "images.finite": (first("images", suv_max=NAN), ("P1_0000",)),
    "images.suv_plausible": (first("images", suv_max=900.0), ("P1_0000",)),
    "images.body_suv_plausible": (first("images", suv_mean=0.001), ("P1_0000",)),
    "images.suv_total_kept": (first("images", suv_total_ratio=0.9), ("P1_0000",)),
    "images.body_hu_plausible": (first("images", ct_mean_hu=924.0), ("P1_0000",)),
    "images.body_present": (first("images", body_area_mm2=0.0), ("P1_0000",)),
    "images.body_area_plausible": (first("images", body_area_mm2=3e5), ("P1_0000",)),
    "images.lesion_inside_roi": (first("images", lesion_kept_fraction=0.5), ("P1_0000",)),
    "shards.slice_id_unique": (twice("shards"), ("P1_0000",)),
    "shards.bytes_are_those_of_the_index": (first("shards", sha256="0" * 64), ("P1_0000",)),
    "shards.finite": (first("shards", pet_mean=NAN), ("P1_0000",)),
    "shards.voxels_finite": (first("shards", finite=False), ("P1_0000",)),
    "shards.ct_not_constant": (first("shards", ct_std=0.0), ("P1_0000",)),
    "shards.pet_not_constant": (first("shards", pet_std=0.0), ("P1_0000",)),
    "shards.ct_in_window": (first("shards", ct_minimum=-0.1), ("P1_0000",)),
    "shards.pet_in_window": (first("shards", pet_maximum=1.1), ("P1_0000",)),
    "shards.body_fraction_plausible": (first("shards", body_fraction=1.0), ("P1_0000",)),
    "shards.lesion_kept": (row_of("shards", ABNORMAL_SLICE, lesion_px=0), (ABNORMAL,)),
    "shards.no_identical_slices": (all_of("shards", image_sha256="0" * 64),
                                   ("P1_0000", "P1_0001", "P2_0000", "P2_0001", "P3_0000",
                                    "P3_0001")),
    "duplicates.no_identical_across_splits": (
        lambda tables: with_rows(tables, "duplicates", [duplicate("exact")]),
        ("P1_0000 (train) = P3_0000 (test)",)),
    "duplicates.no_near_duplicate_across_splits": (
        lambda tables: with_rows(tables, "duplicates", [duplicate("near")]),
        ("P1_0000 (train) = P3_0000 (test)",)),
    "drift.finite": (first("drift", p=NAN), ("suv_max in test",)),
    "drift.as_in_training": (first("drift", p=0.001, p_holm=0.01), ("suv_max in test",)),
}  # fmt: skip
EVERY = {f"{check.table}.{check.name}": check for check in checks(promises())}


# What each check does when it fails: stop the pipeline, or be reported.
CRITICAL = {
    "cohort": {"few_studies_lost", "one_kind_of_suv"},
    "benchmark": {"enough_training_normals", "validation_has_normals", "test_has_both_classes"},
    "instances": {"file_once", "sop_instance_uid_unique", "hash_is_sha256", "role_known",
                  "used_by_a_study", "series_listed"},
    "series": {"stack_unique", "role_known", "choice_has_reason", "modality_fits_role",
               "spacing_plausible", "pixel_width_plausible", "pixel_height_plausible",
               "spacing_stated", "reference_rule_known"},
    "studies": {"study_id_unique", "patient_stated", "label_kind_known", "finding_known",
                "label_drawn_on_known", "label_names_a_lesion"},
    "volumes": {"volume_unique", "all_there", "finite", "voxels_finite", "not_constant",
                "slices_as_listed", "air_is_minus_1000_hu", "suv_reaches_uptake",
                "label_is_a_mask", "label_is_as_found"},
    "scans": {"study_unique", "finite"},
    "lesions": {"finite"},
    "livers": {"study_unique", "finite"},
    "registration": {"study_unique", "study_known", "finite", "overlap_not_worse",
                     "mutual_information_not_lower", "displacement_bounded", "slices_left"},
    "slices": {"slice_id_unique", "slice_index_unique", "finite", "study_known", "split_known",
               "placement_has_reason", "no_abnormal_in_train", "no_abnormal_in_val",
               "label_fits_area", "guard_kept", "has_an_image"},
    "regions": {"study_unique", "study_known", "finite", "nothing_outside_in_use"},
    "patients": {"one_patient_one_split"},
    "images": {"slice_id_unique", "matches_slices", "finite", "suv_plausible", "body_present"},
    "shards": {"slice_id_unique", "bytes_are_those_of_the_index", "finite", "voxels_finite",
               "ct_not_constant", "pet_not_constant", "ct_in_window", "pet_in_window"},
    "duplicates": {"no_identical_across_splits"},
    "drift": {"finite"},
    "scores": {"scored_once", "finite", "of_the_test_split", "prediction_is_binary"},
    "trainings": {"every_test_slice_scored", "one_threshold"},
}  # fmt: skip
WARNING = {
    "cohort": {"every_study_labelled"},
    "series": {"width_plausible", "height_plausible", "suv_as_told", "uptake_time_plausible"},
    "studies": {"pet_is_one_image", "scanner_stated", "same_frame_of_reference"},
    "volumes": {"length_plausible", "ct_has_bone", "suv_not_negative", "suv_plausible",
                "label_is_a_lesion"},
    "scans": {"body_suv_near_1", "ct_covers_pet", "pet_covers_ct", "label_without_gaps"},
    "lesions": {"length_plausible", "takes_up_more_than_around", "inside_pet", "not_cut_off"},
    "livers": {"suv_mean_plausible"},
    "registration": {"bodies_overlap", "no_slice_cut_by_motion", "no_lesion_cut",
                     "body_seen_whole"},
    "regions": {"lungs_found", "lungs_plausible", "length_plausible", "seen_whole",
                "no_lesion_outside"},
    "splits": {"labels_balanced", "scanners_as_in_training"},
    "scanners": {"seen_in_training", "labels_balanced"},
    "images": {"body_suv_plausible", "suv_total_kept", "body_hu_plausible", "body_area_plausible",
               "lesion_inside_roi"},
    "shards": {"body_fraction_plausible", "lesion_kept", "no_identical_slices"},
    "duplicates": {"no_near_duplicate_across_splits"},
    "drift": {"as_in_training"},
    "trainings": {"not_constant"},
}  # fmt: skip

# Check, row, column: the last value that passes, the first that fails; both ends of a range.
EDGES: list[tuple[str, int, str, float, float]] = [
    ("series.spacing_plausible", 0, "spacing_z_mm", 0.1, 0.09),
    ("series.spacing_plausible", 0, "spacing_z_mm", 8.0, 8.01),
    ("series.pixel_width_plausible", 0, "spacing_x_mm", 0.1, 0.09),
    ("series.pixel_width_plausible", 0, "spacing_x_mm", 8.0, 8.01),
    ("series.pixel_height_plausible", 0, "spacing_y_mm", 0.1, 0.09),
    ("series.pixel_height_plausible", 0, "spacing_y_mm", 8.0, 8.01),
    ("series.width_plausible", 0, "columns", 50, 49),
    ("series.width_plausible", 0, "columns", 1000, 1001),
    ("series.height_plausible", 0, "rows", 50, 49),
    ("series.height_plausible", 0, "rows", 1000, 1001),
    ("series.uptake_time_plausible", 1, "uptake_min", 20.0, 19.9),  # of 18F
    ("series.uptake_time_plausible", 1, "uptake_min", 360.0, 361.0),
    ("volumes.not_constant", 0, "std", 1e-3, 9e-4),
    ("volumes.not_constant", PET, "std", 1e-3, 9e-4),
    ("volumes.length_plausible", 0, "spacing_z_mm", 2.0, 1.9),  # of 20 slices
    ("volumes.length_plausible", 0, "spacing_z_mm", 125.0, 126.0),
    ("volumes.air_is_minus_1000_hu", 0, "air_hu", -1100.0, -1101.0),
    ("volumes.air_is_minus_1000_hu", 0, "air_hu", -900.0, -899.0),
    ("volumes.ct_has_bone", 0, "maximum", 250.0, 249.0),
    ("volumes.suv_not_negative", PET, "minimum", -1.0, -1.01),
    ("volumes.suv_reaches_uptake", PET, "maximum", 1.0, 0.99),
    ("volumes.suv_plausible", PET, "maximum", 100.0, 100.1),
    ("volumes.label_is_a_mask", LABEL, "maximum", 3.0, 4.0),
    ("volumes.label_is_as_found", LABEL, "maximum", 1.0, 0.0),
    ("volumes.label_is_a_lesion", LABEL, "mean", 0.2, 0.21),
    ("scans.body_suv_near_1", 0, "body_suv_mean", 0.5, 0.49),
    ("scans.body_suv_near_1", 0, "body_suv_mean", 2.0, 2.01),
    ("scans.ct_covers_pet", 0, "pet_in_ct", 0.5, 0.49),
    ("scans.pet_covers_ct", 0, "ct_in_pet", 0.5, 0.49),
    ("scans.label_without_gaps", 0, "label_gaps", 0, 1),
    ("lesions.length_plausible", 0, "length_mm", 3.0, 2.9),
    ("lesions.length_plausible", 0, "length_mm", 300.0, 301.0),
    ("lesions.takes_up_more_than_around", 0, "suv_mean", 0.8, 0.79),  # of 0.8 around it
    ("lesions.inside_pet", 0, "in_pet", 0.99, 0.98),
    ("livers.suv_mean_plausible", 0, "suv_mean", 1.0, 0.99),
    ("livers.suv_mean_plausible", 0, "suv_mean", 4.0, 4.01),
    ("registration.overlap_not_worse", 0, "body_overlap_after", 0.7951, 0.7949),  # of 0.8
    ("registration.mutual_information_not_lower", 0, "mutual_information_after", 0.1, 0.099),
    ("registration.displacement_bounded", 0, "displacement_max_mm", 40.0, 40.1),
    ("registration.bodies_overlap", 0, "body_overlap_after", 0.7, 0.69),
    ("registration.slices_left", 0, "slices", 1, 0),
    ("regions.lungs_plausible", 0, "lungs_ml", 800.0, 799.0),
    ("regions.lungs_plausible", 0, "lungs_ml", 9000.0, 9001.0),
    ("regions.length_plausible", 0, "base_mm", 70.0, 70.1),  # of an apex at 190 mm
    ("regions.length_plausible", 0, "base_mm", -210.0, -210.1),
    ("regions.nothing_outside_in_use", 0, "high_mm", 20.0, 19.9),  # of a slice at 20 mm
    ("slices.guard_kept", TEST_SLICE, "z_mm", 14.99, 15.0),  # the abnormal one lies at 20 mm
    ("slices.label_fits_area", 0, "lesion_area_mm2", 0.0, 1.0),
    ("slices.label_fits_area", ABNORMAL_SLICE, "lesion_area_mm2", 20.0, 19.9),
    ("images.suv_plausible", 0, "suv_max", 0.0, -0.1),
    ("images.suv_plausible", 0, "suv_max", 100.0, 100.1),
    ("images.body_suv_plausible", 0, "suv_mean", 0.05, 0.04),
    ("images.body_suv_plausible", 0, "suv_mean", 10.0, 10.1),
    ("images.suv_total_kept", 0, "suv_total_ratio", 0.98, 0.97),
    ("images.suv_total_kept", 0, "suv_total_ratio", 1.02, 1.03),
    ("images.body_hu_plausible", 0, "ct_mean_hu", -700.0, -701.0),
    ("images.body_hu_plausible", 0, "ct_mean_hu", 500.0, 501.0),
    ("images.body_present", 0, "body_area_mm2", 100.0, 99.0),
    ("images.body_area_plausible", 0, "body_area_mm2", 250_000.0, 250_001.0),
    ("images.lesion_inside_roi", 0, "lesion_kept_fraction", 0.95, 0.94),
    ("images.lesion_inside_roi", 0, "lesion_kept_fraction", 1.0, 1.01),
    ("shards.ct_not_constant", 0, "ct_std", 1e-3, 9e-4),
    ("shards.pet_not_constant", 0, "pet_std", 1e-4, 9e-5),
    ("shards.ct_in_window", 0, "ct_minimum", 0.0, -0.01),
    ("shards.ct_in_window", 0, "ct_maximum", 1.0, 1.01),
    ("shards.pet_in_window", 0, "pet_minimum", 0.0, -0.01),
    ("shards.pet_in_window", 0, "pet_maximum", 1.0, 1.01),
    ("shards.body_fraction_plausible", 0, "body_fraction", 0.01, 0.009),
    ("shards.body_fraction_plausible", 0, "body_fraction", 0.98, 0.981),
    ("shards.lesion_kept", ABNORMAL_SLICE, "lesion_px", 1, 0),
    ("drift.as_in_training", 0, "p_holm", 0.05, 0.049),
]


@pytest.fixture(scope="module")
def sound() -> Tables:
    return sound_tables()


def failing(tables: Tables, chosen: list[Check]) -> dict[str, Outcome]:
    outcomes = run_checks(frames_of(tables, promises()), chosen)
    return {f"{o.table}.{o.name}": o for o in outcomes if not o.passed}


def test_sound_cohort_passes_every_check(sound: Tables) -> None:
    assert failing(sound, list(EVERY.values())) == {}


def test_every_check_has_a_case_that_breaks_it() -> None:
    assert BREAKS.keys() == EVERY.keys()
    assert BROKEN_SCORES.keys() == {f"{check.table}.{check.name}" for check in scores_checks()}


@pytest.mark.parametrize("name", EVERY)
def test_check_fails_on_its_defect_and_names_the_rows(name: str, sound: Tables) -> None:
    broken, rows = BREAKS[name]
    outcomes = failing(broken(sound), [EVERY[name]])
    assert name in outcomes
    assert outcomes[name].failing == tuple(sorted(rows))


@pytest.mark.parametrize(("name", "row", "column", "passes", "fails"), EDGES)
def test_check_draws_its_line_where_it_says(  # noqa: PLR0917
    name: str, row: int, column: str, passes: float, fails: float, sound: Tables
) -> None:
    table = EVERY[name].table
    assert failing(row_of(table, row, **{column: passes})(sound), [EVERY[name]]) == {}
    assert name in failing(row_of(table, row, **{column: fails})(sound), [EVERY[name]])


def test_every_check_is_as_severe_as_this_table_says() -> None:
    found: dict[str, dict[str, set[str]]] = {"critical": {}, "warning": {}}
    for check in (*EVERY.values(), *scores_checks()):
        found[check.severity].setdefault(check.table, set()).add(check.name)
    assert found == {"critical": CRITICAL, "warning": WARNING}


@pytest.mark.parametrize(
    ("asked", "softened"),
    [
        (promises("cmad"), {"one_patient_one_split"}),
        (replace(promises(), keeps_duplicates=True), {"no_identical_across_splits"}),
    ],
    ids=["a protocol that leaks", "copies that are kept"],
)
def test_what_params_ask_for_is_reported_and_softens_no_other_check(
    asked: Promises, softened: set[str]
) -> None:
    changed = {check.name: check.severity for check in checks(asked)
               if check.severity != EVERY[f"{check.table}.{check.name}"].severity}  # fmt: skip
    assert changed == dict.fromkeys(softened, "warning")


@pytest.mark.parametrize("moved", [("val",), ("val", "test")])
def test_scanner_distance_is_the_share_of_patients_that_would_have_to_change(
    moved: tuple[str, ...], sound: Tables
) -> None:
    rows = [replace(row, scanner="SIEMENS Vision") if row.split in moved else row
            for row in sound.images]  # fmt: skip
    splits = frames_of(replace(sound, images=tuple(rows)), promises())["splits"]
    distances = dict(zip(splits["split"], splits["scanner_distance"], strict=True))
    assert distances == {split: float(split in moved) for split in ("train", "val", "test")}


@pytest.mark.parametrize(
    ("nuclide", "uptake_min", "fits"),
    [
        ("18F", 60.0, True),
        ("18F", None, True),  # the file does not say
        ("89Zr", 60.0 * 24 * 4, True),
        ("89Zr", 15.0, False),  # an injection put on the scan's day
        ("82Rb", 2.0, True),
        ("82Rb", 60.0, False),
        ("", 3.0, True),
    ],
)
def test_uptake_time_is_held_to_what_its_nuclide_allows(
    nuclide: str, uptake_min: float | None, fits: bool, sound: Tables
) -> None:
    told = row_of("series", 1, nuclide=nuclide, uptake_min=uptake_min)(sound)
    assert bool(failing(told, [EVERY["series.uptake_time_plausible"]])) is not fits


def test_only_suv_by_weight_is_held_to_a_mean_of_1(sound: Tables) -> None:
    """By surface (cm2/ml) a body has about 0.26, by lean mass about 0.7."""
    low = first("scans", body_suv_mean=0.26)(sound)
    check = EVERY["scans.body_suv_near_1"]
    assert failing(low, [check])
    assert failing(all_of("studies", suv_kind="bsa")(low), [check]) == {}


def test_infinity_is_as_bad_as_nan(sound: Tables) -> None:
    broken = first("images", suv_mean=float("inf"))(sound)
    assert "images.finite" in failing(broken, [EVERY["images.finite"]])


def sound_scores() -> pd.DataFrame:
    rows = [("a", seed, slice_id, label, score, int(score > 1))
            for seed in (0, 1)
            for slice_id, label, score in (("P3_0000", 0, 0.5), (ABNORMAL, 1, 1.5))]  # fmt: skip
    return pd.DataFrame(rows, columns=["run", "seed", "slice_id", "label", "score", "predicted"])


def cell(column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Change the first row's value."""
    return lambda table: table.assign(**{column: [value, *table[column][1:]]})


BROKEN_SCORES: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "scores.scored_once": (lambda table: pd.concat([table[:1], table], ignore_index=True),
                           "P3_0000 by a seed 0"),
    "scores.finite": (cell("score", NAN), "P3_0000 by a seed 0"),
    "scores.of_the_test_split": (cell("label", 1), "P3_0000 by a seed 0"),
    "scores.prediction_is_binary": (cell("predicted", 2), "P3_0000 by a seed 0"),
    "trainings.every_test_slice_scored": (lambda table: table[1:], "a seed 0"),
    "trainings.one_threshold": (cell("score", 2.0), "a seed 0"),
    "trainings.not_constant": (cell("score", 1.5), "a seed 0"),
}  # fmt: skip


def broken_scores(table: pd.DataFrame, sound: Tables) -> Iterator[Outcome]:
    yield from (outcome for outcome in check_scores(table, sound.images) if not outcome.passed)


def test_sound_scores_pass(sound: Tables) -> None:
    assert list(broken_scores(sound_scores(), sound)) == []


@pytest.mark.parametrize("name", BROKEN_SCORES)
def test_check_of_scores_fails_on_its_defect_and_names_the_rows(name: str, sound: Tables) -> None:
    broken, row = BROKEN_SCORES[name]
    outcomes = {f"{o.table}.{o.name}": o for o in broken_scores(broken(sound_scores()), sound)}
    assert row in outcomes[name].failing
    assert all("seed 1" not in other for other in outcomes[name].failing)


def test_where_all_slices_count_no_thorax_is_asked_for() -> None:
    assert not any(check.table == "regions" for check in checks(promises(region="all")))


def test_a_study_without_lungs_may_have_no_slice_in_use() -> None:
    lost = first("regions", found=False, base_mm=None, apex_mm=None, low_mm=None, high_mm=None)
    tables = lost(sound_tables())
    outcomes = run_checks(frames_of(tables, promises()), checks(promises()))
    failing = {o.name: o.failing for o in outcomes if o.table == "regions" and not o.passed}
    assert failing == {"lungs_found": ("P1",), "nothing_outside_in_use": ("P1",)}
