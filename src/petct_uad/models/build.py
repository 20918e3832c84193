"""Build a model from params, and a trained model from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, TypeVar

import torch
from pydantic import SerializeAsAny
from safetensors.torch import load_file

from petct_uad.errors import TeacherError, TrainingError
from petct_uad.models.interface import AnomalyModel, TrainableModel
from petct_uad.params.base import Part, Section
from petct_uad.params.benchmark import ModelName, RunParams
from petct_uad.params.model_sections import AnyModelParams
from petct_uad.params.teacher import TeacherParams

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
    return _class_of(run.model).build(params, teacher, run.modality, image_size_px)


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


def section_class(name: ModelName) -> type[AnyModelParams]:
    """The class of the section of params.yaml that a model is built from."""
    return _class_of(name).section


def _read_config(path: Path) -> ModelConfig[AnyModelParams]:
    if not path.is_file():
        raise TrainingError(f"{path}: not found. Run `dvc repro train`.")
    try:
        text = path.read_bytes()
        section = section_class(_RunPart.model_validate_json(text).run.model)
        return ModelConfig[section].model_validate_json(text)  # type: ignore[valid-type]
    except ValueError as error:
        raise TrainingError(f"{path}: is no model configuration: {error}") from error


def _class_of(name: ModelName) -> type[TrainableModel]:  # noqa: PLR0911, PLR0912 - one per model
    """The class of a model; imported here, so that a run loads no other model's code."""
    if name == "cmad":
        from petct_uad.models.cmad.cmad import Cmad

        return Cmad
    if name == "hdhkd":
        from petct_uad.models.hdhkd.hdhkd import Hdhkd

        return Hdhkd
    if name == "scrd4ad":
        from petct_uad.models.scrd4ad.scrd4ad import Scrd4ad

        return Scrd4ad
    if name == "hetero_ae":
        from petct_uad.models.hetero_ae.hetero_ae import HeteroAe

        return HeteroAe
    if name == "qfae":
        from petct_uad.models.qfae.qfae import Qfae

        return Qfae
    if name == "padim":
        from petct_uad.models.padim.padim import Padim

        return Padim
    if name == "stfpm":
        from petct_uad.models.stfpm.stfpm import Stfpm

        return Stfpm
    if name == "efficient_ad":
        from petct_uad.models.efficient_ad.efficient_ad import EfficientAd

        return EfficientAd
    if name == "autoencoder":
        from petct_uad.models.autoencoder.autoencoder import Autoencoder

        return Autoencoder
    if name == "mkd":
        from petct_uad.models.mkd.mkd import Mkd

        return Mkd
    if name == "cflow":
        from petct_uad.models.cflow.cflow import Cflow

        return Cflow
    if name == "fastflow":
        from petct_uad.models.fastflow.fastflow import Fastflow

        return Fastflow
    if name == "ganomaly":
        from petct_uad.models.ganomaly.ganomaly import Ganomaly

        return Ganomaly
    if name == "inp_former":
        from petct_uad.models.inp_former.inp_former import InpFormer

        return InpFormer
    if name == "super_simple_net":
        from petct_uad.models.super_simple_net.super_simple_net import SuperSimpleNet

        return SuperSimpleNet
    from petct_uad.models.patchcore.patchcore import Patchcore

    return Patchcore
