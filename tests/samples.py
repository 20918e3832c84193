"""Params sections and table rows for tests, each of which names only what matters to it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from petct_uad.evaluation.trivial import baselines_of
from petct_uad.ingest.tables import InstanceRow, RejectedRow, SeriesRow, StudyRow
from petct_uad.models.cmad.params import CmadParams
from petct_uad.models.common.params import ScheduleParams
from petct_uad.registration.params import RegisterParams
from petct_uad.slices.tables import PETCT, ImageRow, ReadingRow, SliceRow
from petct_uad.training.params import TrainParams

PETCT_BASELINES = {baseline.name for baseline in baselines_of({PETCT})}


def schedule(**changes: Any) -> ScheduleParams:
    """A short run of plain Adam."""
    values: dict[str, Any] = {
        "iterations": 10,
        "epochs": 0,
        "batch_size": 8,
        "optimiser": "adam",
        "beta1": 0.9,
        "beta2": 0.999,
        "weight_decay": 0.0,
        "adam_eps": 1e-8,
        "learning_rate": 1e-3,
        "decay": "constant",
        "final_learning_rate": 1e-3,
        "warmup_iterations": 0,
        "gradient_clip": 0.0,
    }
    return ScheduleParams.model_validate(values | changes)


def train_section(**changes: Any) -> TrainParams:
    """One seed on the CPU, without checkpoints."""
    values: dict[str, Any] = {
        "seeds": (0,),
        "device": "cpu",
        "precision": "float32",
        "deterministic": True,
        "tf32": False,
        "launcher": "python",
        "validate_every": 2,
        "patience": 0,
        "checkpoint_every": 0,
    }
    return TrainParams.model_validate(values | changes)


def cmad_section(**changes: Any) -> CmadParams:
    """A network of two narrow heads."""
    values: dict[str, Any] = {
        "cmpt": 8,
        "cmh": True,
        "gfr": True,
        "levels": 3,
        "width": 32,
        "heads": 2,
        "nine": "first",
        "enlarge": 1,
        "ssm_state": 2,
        "ssm_expand": 1,
        "targets": "below_input",
        "fusion": "sum",
        "score": "top",
        "score_top_fraction": 0.01,
        "map_sigma_px": 4.0,
        "scan": "auto",
    }
    return CmadParams.model_validate(values | changes)


def register_section(**changes: Any) -> RegisterParams:
    """Rigid refinement, coarser than the default."""
    values: dict[str, Any] = {
        "refine": "rigid",
        "spacing_mm": 2.0,
        "body_threshold_hu": -300.0,
        "max_displacement_mm": 45.0,
        "histogram_bins": 32,
        "sampling_fraction": 0.25,
        "iterations": 100,
        "seed": 0,
    }
    return RegisterParams.model_validate(values | changes)


def image_row(**changes: Any) -> ImageRow:
    """A normal training slice."""
    values: dict[str, Any] = {
        "slice_id": "p_s_0000",
        "study_id": "p_s",
        "patient": "p",
        "scanner": "GE",
        "split": "train",
        "label": 0,
        "position": 0.5,
        "shard_row": 0,
        "lesion_area_mm2": 0.0,
        "lesion_kept_fraction": 1.0,
        "suv_max": 1.0,
        "suv_mean": 0.5,
        "suv_total_ratio": 1.0,
        "body_area_mm2": 1.0,
        "ct_mean_hu": 0.0,
        "ct_std": 0.3,
        "pet_std": 0.3,
        "sha256": "0" * 64,
    }
    return ImageRow(**values | changes)


def reading_row(**changes: Any) -> ReadingRow:
    """A PET/CT slice without uptake, in a study without a liver."""
    values: dict[str, Any] = {
        "slice_id": "p_s_0000",
        "kind": "petct",
        "suv_above_2_5_mm2": 0.0,
        "suv_above_4_mm2": 0.0,
        "suv_above_41_percent_mm2": 0.0,
        "suv_above_reference_mm2": 0.0,
        "reference": "fixed",
        "reference_suv": 4.0,
        "grey_mean": None,
        "grey_max": None,
        "grey_gradient": None,
        "grey_laplacian": None,
    }
    return ReadingRow(**values | changes)


def picture_reading(**changes: Any) -> ReadingRow:
    """A grey picture."""
    values: dict[str, Any] = {
        "kind": "picture",
        "suv_above_2_5_mm2": None,
        "suv_above_4_mm2": None,
        "suv_above_41_percent_mm2": None,
        "suv_above_reference_mm2": None,
        "reference": "none",
        "reference_suv": None,
        "grey_mean": 0.5,
        "grey_max": 1.0,
        "grey_gradient": 0.1,
        "grey_laplacian": 0.01,
    }
    return reading_row(**values | changes)


def slice_row(image: ImageRow, **changes: Any) -> SliceRow:
    """The row of ``slices.csv`` behind one of ``index.csv``, on slices 5 mm apart."""
    index = int(image.slice_id[-4:])
    values: dict[str, Any] = {x.name: getattr(image, x.name, None) for x in fields(SliceRow)}
    values |= {"slice_index": index, "z_mm": 5.0 * index, "reason": "stated"}
    return SliceRow(**values | changes)


def study_row(**changes: Any) -> StudyRow:
    """A study without a label."""
    values: dict[str, Any] = {
        "study_id": "p_s",
        "patient": "p",
        "scanner": "GE",
        "ct_series_instance_uid": "1",
        "pet_series_instance_uid": "2",
        "label_series_instance_uid": "",
        "label_kind": "none",
        "lesion_kind": "none",
        "ct_slices": 20,
        "pet_slices": 20,
        "same_frame_of_reference": True,
        "notes": "",
    }
    return StudyRow(**values | changes)


def series_row(**changes: Any) -> SeriesRow:
    """The CT of a study."""
    values: dict[str, Any] = {
        "series_instance_uid": "1",
        "stack": 1,
        "study_instance_uid": "1",
        "patient": "p",
        "modality": "CT",
        "manufacturer": "GE",
        "model_name": "STE",
        "description": "",
        "instances": 20,
        "rows": 64,
        "columns": 64,
        "spacing_x_mm": 1.0,
        "spacing_y_mm": 1.0,
        "spacing_z_mm": 3.0,
        "study_id": "p_s",
        "role": "ct",
        "reason": "chosen",
    }
    return SeriesRow(**values | changes)


def instance_row(**changes: Any) -> InstanceRow:
    """The first slice of a study's CT."""
    values: dict[str, Any] = {
        "file": "p/0.dcm",
        "sha256": "0" * 64,
        "sop_instance_uid": "1.1",
        "series_instance_uid": "1",
        "study_id": "p_s",
        "role": "ct",
        "slice_index": 0,
    }
    return InstanceRow(**values | changes)


def rejected_row(**changes: Any) -> RejectedRow:
    """A study without its PET."""
    values: dict[str, Any] = {
        "subject": "p",
        "code": "pet_missing",
        "found": "",
        "expected": "",
        "advice": "",
    }
    return RejectedRow(**values | changes)
