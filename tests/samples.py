"""Params sections and table rows for tests, each of which names only what matters to it."""

from __future__ import annotations

from typing import Any

from petct_uad.models.cmad.params import CmadParams
from petct_uad.models.common.params import ScheduleParams
from petct_uad.registration.params import RegisterParams
from petct_uad.slices.tables import ImageRow
from petct_uad.training.params import TrainParams


def schedule(**changes: Any) -> ScheduleParams:
    """A short run of plain Adam."""
    values: dict[str, Any] = {
        "iterations": 10,
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
        "ssm_state": 2,
        "ssm_expand": 1,
        "fusion": "calibrated",
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
