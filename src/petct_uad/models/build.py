"""Build a model from params, and a trained model from its folder."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Generic, TypeVar

import torch
from pydantic import SerializeAsAny
from safetensors.torch import load_file

from petct_uad.core.errors import TeacherError, TrainingError
from petct_uad.core.params.base import Part, Section
from petct_uad.models.benchmark import RunParams, class_name, params_class
from petct_uad.models.common.interface import AnomalyModel, TrainableModel
from petct_uad.models.common.params import AnyModelParams
from petct_uad.teachers.params import TeacherParams

WEIGHTS_FILE = "weights.safetensors"
CONFIG_FILE = "config.json"

M = TypeVar("M", bound=AnyModelParams)


class _RunPart(Part):
    """Of a configuration, what says which class its ``params`` are of."""

    run: RunParams


class ModelConfig(Section, Generic[M]):
    """What rebuilds a trained model, beside its weights: ``models/<run>/config.json``."""

    run: RunParams
    params: SerializeAsAny[M]
    teacher: TeacherParams
    seed: int
    teacher_sha256: str
    image_size_px: int
    iterations: int  # gradient steps of the schedule, epochs counted; 0: a fitted model
    precision: str  # float32 or bfloat16: of the matrix products that trained it
    scan_backend: str  # which selective scan trained it; "none" for a model without
    teacher_parameters: int
    learnt_values: int  # trainable parameters, or values in a fitted model's state


def build_model(
    run: RunParams,
    params: AnyModelParams,
    teacher: TeacherParams,
    image_size_px: int,
) -> TrainableModel:
    """An untrained model; initial weights come from torch's global generator.

    Args:
        run: which model, on which modalities.
        params: that model's own section.
        teacher: the frozen network.
        image_size_px: side S of the slices.

    Raises:
        TeacherError: the teacher's weights are missing or do not fit, or it is of no use here.
        ParamsError: the params do not fit the teacher.
    """
    return class_of(run.model).build(params, teacher, run.modality, image_size_px)


def seed_folder(model_folder: Path, seed: int) -> Path:
    """Where the model of one seed lies: ``models/<run>/seed-<n>``."""
    return model_folder / f"seed-{seed}"


def seed_folders(model_folder: Path) -> dict[int, Path]:
    """What :func:`seed_folder` gives for every seed that was trained, by seed.

    Raises:
        TrainingError: there is none.
    """
    folders = {int(path.name.partition("-")[2]): path for path in model_folder.glob("seed-*")}
    if not folders:
        raise TrainingError(
            f"{model_folder}: holds no trained model. Run `dvc repro train@{model_folder.name}`."
        )
    return folders


def load_model(
    folder: Path, device: torch.device | None = None
) -> tuple[AnomalyModel, ModelConfig[AnyModelParams]]:
    """A trained model in evaluation mode, and what it was built from.

    Args:
        folder: ``models/<run>``.
        device: where to put it; by default the CPU.

    Raises:
        TrainingError: a file is missing or does not fit the other.
        TeacherError: the teacher's weights are not those of the training.
    """
    config = _read_config(folder / CONFIG_FILE)
    if not (folder / WEIGHTS_FILE).is_file():
        raise TrainingError(f"{folder / WEIGHTS_FILE}: not found. Run `dvc repro train`.")
    model = build_model(config.run, config.params, config.teacher, config.image_size_px)
    if (found := teacher_sha256(model)) != config.teacher_sha256:
        raise TeacherError(
            f"{folder}: was trained with teacher weights {config.teacher_sha256[:12]}, found "
            f"{found[:12]}. Restore teacher.weights or train again."
        )
    model.load_student_state(load_file(folder / WEIGHTS_FILE))
    return model.eval().to(device or torch.device("cpu")), config


def teacher_sha256(model: AnomalyModel) -> str:
    """SHA-256 of the weights of the teacher inside a model."""
    for module in model.modules():
        if isinstance(found := getattr(module, "sha256", None), str):
            return found
    raise TeacherError(f"{type(model).__name__}: holds no teacher")


def _read_config(path: Path) -> ModelConfig[AnyModelParams]:
    if not path.is_file():
        raise TrainingError(f"{path}: not found. Run `dvc repro train`.")
    try:
        text = path.read_bytes()
        section = params_class(_RunPart.model_validate_json(text).run.model)
        return ModelConfig[section].model_validate_json(text)  # type: ignore[valid-type]
    except ValueError as error:
        raise TrainingError(f"{path}: is no model configuration: {error}") from error


def class_of(name: str) -> type[TrainableModel]:
    """The class of a model; imported here, so that a run loads no other model's code."""
    module = import_module(f"petct_uad.models.{name}.{name}")
    found: type[TrainableModel] = getattr(module, class_name(name))
    return found
