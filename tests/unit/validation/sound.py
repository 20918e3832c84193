"""A small, sound cohort as rows, of which a test breaks one thing."""

from __future__ import annotations

from petct_uad.core.params.base import Protocol, Region
from petct_uad.ingest.tables import InstanceRow, SeriesRow, StudyRow
from petct_uad.registration.tables import RegistrationRow
from petct_uad.slices.tables import ImageRow, RegionRow, SliceRow
from petct_uad.validation.checks import Promises
from petct_uad.validation.params import ValidateParams
from petct_uad.validation.tables import (
    DriftRow,
    DuplicateRow,
    LesionRow,
    LiverRow,
    Measured,
    ScanRow,
    ShardRow,
    Tables,
    VolumeRow,
)
from tests.samples import instance_row, series_row, study_row

# Three patients, one per split, of one scanner each; the last has a lesion on its second slice.
PLACES = {"P1": "train", "P2": "val", "P3": "test"}
ABNORMAL = "P3_0001"
BOUNDS = ValidateParams(
    max_lost_study_fraction=0.1,
    min_train_slices=2,
    max_suv=100.0,
    max_spacing_mm=8.0,
    max_label_imbalance=0.3,
    near_duplicate_correlation=0.995,
    drift_alpha=0.05,
)


def promises(protocol: Protocol = "patient", region: Region = "thorax") -> Promises:
    return Promises(
        protocol=protocol,
        keeps_duplicates=False,
        min_lesion_area_mm2=20.0,
        guard_mm=5.0,
        max_displacement_mm=40.0,
        bounds=BOUNDS,
        region=region,
    )


def sound_tables() -> Tables:
    slices = tuple(_slice(patient, index) for patient in PLACES for index in (0, 1))
    return Tables(
        dataset="tiny",
        instances=tuple(_instance(p, role) for p in PLACES for role in ("ct", "pet", "label")),
        series=tuple(_series(p, role) for p in PLACES for role in ("ct", "pet", "label")),
        studies=tuple(_study(patient) for patient in PLACES),
        registration=tuple(_registration(patient) for patient in PLACES),
        slices=slices,
        regions=tuple(_region(patient) for patient in PLACES),
        images=tuple(_image(row) for row in slices),
        measured=Measured(
            volumes=tuple(_volume(p, kind) for p in PLACES for kind in ("ct", "label", "pet")),
            scans=tuple(ScanRow(patient, 9e3, 0.9, 1.0, 1.0, 0) for patient in PLACES),
            lesions=(LesionRow("P3", 1, 9.0, 30.0, 1.0, False, 8.0, 4.0, 0.8),),
            livers=tuple(LiverRow(patient, 100, 2.2, 0.3) for patient in PLACES),
            shards=tuple(_shard(row) for row in slices),
            duplicates=(),
            drift=(DriftRow("suv_max", "test", 9, 9, 0.2, 0.5, 1.0),),
        ),
    )


def duplicate(kind: str) -> DuplicateRow:
    return DuplicateRow("P1_0000", "P3_0000", "train", "test", False, kind, 0.999)


def digest(*parts: object) -> str:
    return "".join(f"{ord(letter):02x}" for letter in repr(parts)).ljust(64, "0")[-64:]


def _instance(patient: str, role: str) -> InstanceRow:
    name = f"{patient}/{role}"
    return instance_row(
        file=f"{name}.dcm",
        sha256=digest(name),
        sop_instance_uid=f"1.{name}",
        series_instance_uid=f"2.{name}",
        study_id=patient,
        role=role,
    )


def _series(patient: str, role: str) -> SeriesRow:
    modality = {"ct": "CT", "pet": "PT", "label": "SEG"}[role]
    in_plane_mm, between_mm = (None, None) if role == "label" else (1.0, 5.0)
    return series_row(
        series_instance_uid=f"2.{patient}/{role}",
        study_instance_uid=f"3.{patient}",
        patient=patient,
        modality=modality,
        instances=2,
        rows=400,
        columns=400,
        spacing_x_mm=in_plane_mm,
        spacing_y_mm=in_plane_mm,
        spacing_z_mm=between_mm,
        study_id=patient,
        role=role,
        reason="the only one",
        reference_rule="series_time" if role == "pet" else "",
        uptake_min=60.0 if role == "pet" else None,
        nuclide="18F" if role == "pet" else "",
    )


def _study(patient: str) -> StudyRow:
    return study_row(
        study_id=patient,
        patient=patient,
        scanner="GE STE",
        label_series_instance_uid="3",
        label_kind="seg",
        label_drawn_on="ct",
        finding="lesion",
        lesion_kind="granuloma",
    )


def _registration(patient: str) -> RegistrationRow:
    return RegistrationRow(patient, True, True, "better", 0.1, 0.2, 0.8, 0.9, 1.0, 2.0, 20, 0)


def _slice(patient: str, index: int) -> SliceRow:
    slice_id = f"{patient}_{index:04d}"
    label = int(slice_id == ABNORMAL)
    return SliceRow(slice_id, patient, patient, "GE STE", index, 20.0 * index, float(index),
                    50.0 * label, label, PLACES[patient], "stated")  # fmt: skip


def _region(patient: str) -> RegionRow:
    """Lungs of 280 mm, around both slices."""
    return RegionRow(patient, True, 4500.0, -90.0, 190.0, -100.0, 200.0, False, False, 2, 30, 0)


def _image(row: SliceRow) -> ImageRow:
    return ImageRow(row.slice_id, row.study_id, row.patient, row.scanner, row.split, row.label,
                    row.position, row.slice_index, row.lesion_area_mm2, 1.0, 4.0, 1.0, 1.0, 5e4,
                    -100.0, 0.3, 0.1, digest(row.slice_id))  # fmt: skip


def _shard(row: SliceRow) -> ShardRow:
    return ShardRow(row.slice_id, True, 0.0, 1.0, 0.6, 0.3, 0.0, 1.0, 0.2, 0.1, 0.5, 9 * row.label,
                    digest(row.slice_id), digest("image", row.slice_id))  # fmt: skip


def _volume(patient: str, kind: str) -> VolumeRow:
    minimum, maximum, mean, air = {
        "ct": (-1024.0, 900.0, -600.0, -1000.0),
        "pet": (0.0, 8.0, 0.4, None),
        "label": (0.0, 1.0, 0.01, None),
    }[kind]
    return VolumeRow(patient, kind, 400, 400, 20, 1.0, 1.0, 5.0, True, minimum, maximum, mean, 1.0,
                     air)  # fmt: skip
