"""HDHKD's teacher: a frozen network that describes patches, made once by the ``distil`` stage."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Self

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from petct_uad.core.errors import TrainingError
from petct_uad.core.params.base import Section
from petct_uad.models.common.interface import Batch
from petct_uad.models.common.maps import mean_and_spread
from petct_uad.models.hdhkd.teacher.params import TEACHER_FOLDER, DistilParams
from petct_uad.models.hdhkd.teacher.patches import PatchFeatures
from petct_uad.models.hdhkd.teacher.pdn import Pdn
from petct_uad.teachers.cnn import CnnTeacher
from petct_uad.teachers.params import TeacherParams
from petct_uad.teachers.weights import state_sha256

TEACHER_WEIGHTS = "teacher.safetensors"
TEACHER_CONFIG = "config.json"

_ADVICE = "Run `dvc repro distil`."


class PatchTeacherConfig(Section):
    """What rebuilds the teacher beside its weights: ``models/distil/config.json``."""

    distil: DistilParams
    teacher: TeacherParams
    teacher_sha256: str
    image_size_px: int
    parameters: int


class PatchTeacher(nn.Module):
    """A PDN, or a CNN's own patch features, with channels standardised over training normals.

    Attributes:
        network: gives features (B, C, S/4, S/4) of images; it is never trained again.
        channels: C.
        mean: (C,) of the features over the training normals of PET and CT.
        std: (C,) of the same.
    """

    def __init__(self, network: Pdn | PatchFeatures) -> None:
        super().__init__()
        self.network = network
        self.channels = network.channels
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(self.channels))
        self.register_buffer("std", torch.ones(self.channels))
        self.requires_grad_(False).eval()

    @classmethod
    def build(cls, distil: DistilParams, teacher: TeacherParams) -> Self:
        """One that the ``distil`` stage has not seen: its size, not its weights.

        Raises:
            TeacherError: the weights of ``teacher`` are missing or do not fit, or it is no CNN.
            ParamsError: its strides have fewer channels than ``distil.channels``.
        """
        if distil.network == "pdn":
            return cls(Pdn(distil.width, distil.channels))
        return cls(PatchFeatures(CnnTeacher.load(teacher), distil))

    @classmethod
    def load(
        cls, teacher: TeacherParams, image_size_px: int, folder: Path = TEACHER_FOLDER
    ) -> Self:
        """The one that the ``distil`` stage left.

        Args:
            teacher: the network it must have been made from.
            image_size_px: side S of the slices it must have been made on.
            folder: where the stage wrote, below the repository's root.

        Raises:
            TrainingError: there is none, or it was made from other params.
            TeacherError: the CNN's weights are missing or do not fit.
        """
        config = _read_config(folder)
        for name, found, expected in (
            ("teacher", config.teacher, teacher),
            ("image_size_px", config.image_size_px, image_size_px),
        ):
            if found != expected:
                raise TrainingError(
                    f"{folder}: was distilled with {name} {found}, expected {expected}. {_ADVICE}"
                )
        made = cls.build(config.distil, teacher)
        made.load_state_dict(made.state_dict() | load_file(folder / TEACHER_WEIGHTS))
        return made

    @property
    def sha256(self) -> str:
        """Of the weights and statistics, for configuration and lineage."""
        return state_sha256(self)

    @torch.no_grad()
    def normalised(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) in [0, 1] to (B, C, S/4, S/4), of mean 0 and spread 1 on the normals."""
        features: Tensor = self.network(images)
        return (features - self.mean[:, None, None]) / self.std[:, None, None]

    @torch.no_grad()
    def standardise(self, normals: Iterable[Batch]) -> None:
        """Learn each channel's mean and spread (section III-B, normalisation)."""
        images = (images for batch in normals for images in (batch.pet, batch.ct))
        mean, std = mean_and_spread(self.network(x).transpose(0, 1) for x in images)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def made(self) -> dict[str, Tensor]:
        """What the ``distil`` stage made: the statistics, and a PDN's weights, no CNN's."""
        distilled = isinstance(self.network, Pdn)
        state = self.state_dict()
        return {name: state[name] for name in state if distilled or not name.startswith("network.")}

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)


def _read_config(folder: Path) -> PatchTeacherConfig:
    for name in (TEACHER_CONFIG, TEACHER_WEIGHTS):
        if not (folder / name).is_file():
            raise TrainingError(f"{folder / name}: not found. {_ADVICE}")
    try:
        return PatchTeacherConfig.model_validate_json((folder / TEACHER_CONFIG).read_bytes())
    except ValueError as error:
        raise TrainingError(
            f"{folder / TEACHER_CONFIG}: describes no teacher: {error}. {_ADVICE}"
        ) from error
