"""What training and evaluation know of a model, and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from petct_uad.core.errors import TrainingError
from petct_uad.core.params.base import Modality
from petct_uad.models.common.batch import Batch
from petct_uad.teachers.params import TeacherParams

__all__ = [
    "AnomalyModel",
    "Batch",
    "FitPoint",
    "FittedModel",
    "GradientModel",
    "TrainableModel",
    "images_in_channels",
    "images_of",
]


def images_of(batch: Batch, modality: Modality) -> tuple[Tensor, ...]:
    """The images (B, 1, S, S) that a model of this modality sees: PET before CT."""
    return {"pet": (batch.pet,), "ct": (batch.ct,), "petct": (batch.pet, batch.ct)}[modality]


def images_in_channels(batch: Batch, modality: Modality) -> tuple[Tensor, ...]:
    """The same as (B, 3, S, S): a picture's colours, or a slice between those below and above it.

    Networks of colour images have three channels; what is grey and alone fills them thrice.
    """
    if batch.colour is not None:
        return tuple(batch.colour for _ in images_of(batch, modality))
    beside = {"pet": (batch.pet_beside,), "ct": (batch.ct_beside,),
              "petct": (batch.pet_beside, batch.ct_beside)}[modality]  # fmt: skip
    return tuple(
        image if near is None else torch.cat([near[:, :1], image, near[:, 1:]], 1)
        for image, near in zip(images_of(batch, modality), beside, strict=True)
    )


class AnomalyModel(nn.Module, ABC):
    """A detector of what differs from normal slices.

    State that training or fitting produces lives in parameters and buffers, so that a safetensors
    file of :meth:`student_state` is the whole model; frozen teacher weights are not part of it:
    they lie in submodules called ``teacher``.
    """

    @abstractmethod
    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S), higher is more abnormal."""

    @abstractmethod
    def score(self, maps: Tensor) -> Tensor:
        """(B, S, S) maps to (B,) image scores."""

    def detect(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Maps (B, S, S) and scores (B,); a model whose score is no function of its map says so."""
        maps = self.anomaly_map(batch)
        return maps, self.score(maps)

    def described(self, batch: Batch) -> Tensor | None:
        """(B, D): each slice as its encoder describes it, to look at; None without an encoder."""
        del batch
        return None

    def calibrate(self, normals: Iterable[Batch]) -> None:
        """Learn the scale of the maps from validation normals; by default there is none."""

    def student_state(self) -> dict[str, Tensor]:
        """Everything that was learnt, by name."""
        return {
            name: x for name, x in self.state_dict().items() if "teacher" not in name.split(".")
        }

    def load_student_state(self, state: dict[str, Tensor]) -> None:
        """Take what :meth:`student_state` gave.

        Raises:
            TrainingError: names or shapes differ.
        """
        own = self.student_state()
        if differing := sorted(own.keys() ^ state.keys()):
            raise TrainingError(
                f"weights do not fit {type(self).__name__}: {len(differing)} names differ, the "
                f"first is {differing[0]!r}. Were they trained with other params?"
            )
        for name, tensor in own.items():
            if tensor.shape != state[name].shape:
                raise TrainingError(
                    f"weights do not fit {type(self).__name__}: {name} has shape "
                    f"{tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
                )
        self.load_state_dict(state, strict=False)


class TrainableModel(AnomalyModel):
    """A model that is built from its typed params and a teacher, and then learns."""

    @classmethod
    @abstractmethod
    def build(
        cls, params: Any, teacher: TeacherParams, modality: Modality, image_size_px: int
    ) -> Self:
        """An untrained model, from its own section of params.yaml.

        Raises:
            TeacherError: the teacher's weights are missing or do not fit, or it is of no use here.
            ParamsError: the params do not fit the teacher.
        """

    @classmethod
    def build_untrained(
        cls, params: Any, teacher: TeacherParams, modality: Modality, image_size_px: int, whole: Any
    ) -> Self:
        """The same where no stage has run, to count its parameters and operations.

        A model that waits for what another stage makes builds that too.

        Args:
            whole: params.yaml, with the sections of such stages.
        """
        del whole
        return cls.build(params, teacher, modality, image_size_px)


class GradientModel(TrainableModel):
    """A model that learns by gradient descent.

    Attributes:
        bfloat16_pays_on_cpu: is a training step faster in bfloat16 on a CPU that has it? Linear
            layers gain (CMAD: half the time at batch 8), convolutions lose (Hetero-AE, QFAE: a
            tenth more); ``benchmarks/precision.py`` measures it.
    """

    bfloat16_pays_on_cpu: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """What :meth:`loss` needs of the slices and no training changes: each (B, ...).

        The loop computes it once per slice and keeps it, so outputs of frozen networks belong here.
        """

    @abstractmethod
    def loss(self, *prepared: Tensor) -> Tensor:
        """Scalar training loss of normal slices, from what :meth:`prepare` gave.

        Anything random in it (noise, dropout) comes from torch's global generator, and only while
        ``self.training``: a validation loss is the same each time.
        """

    def logged(self) -> dict[str, float]:
        """Figures worth a line in ``logged.csv`` beside the weights, by name; by default none."""
        return {}


@dataclass(frozen=True)
class FitPoint:
    """How well a fitted model of a growing size covers the data.

    Attributes:
        size: e.g. the number of patches in a memory bank.
        train: mean distance of the training normals from the model.
        held_out: the same of the validation normals.
    """

    size: int
    train: float
    held_out: float


class FittedModel(TrainableModel):
    """A model that is fitted in one pass over the training normals."""

    @abstractmethod
    def fit(self, normals: Iterable[Batch], held_out: Iterable[Batch]) -> list[FitPoint]:
        """Learn from every training normal; validation normals only measure the fit."""
