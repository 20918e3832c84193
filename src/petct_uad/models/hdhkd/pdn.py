"""HDHKD's teacher: a patch description network, distilled once and then frozen (section III-B).

The network is EfficientAD's PDN-M (Batzner et al., arXiv:2303.14535, Table 7), with padding: a
neuron of its output sees 33 x 33 pixels, so that an anomaly cannot reach far-off features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from petct_uad.errors import TrainingError
from petct_uad.params import DistilParams, Section, TeacherParams
from petct_uad.teachers.weights import state_sha256

PDN_FOLDER = Path("models/distil")
PDN_WEIGHTS = "pdn.safetensors"
PDN_CONFIG = "config.json"
PDN_STRIDE = 4

_HIDDEN = 256  # and twice as many further on: Table 7
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_ADVICE = "Run `dvc repro distil`."


class PdnConfig(Section):
    """What rebuilds a distilled PDN beside its weights: ``models/distil/config.json``."""

    distil: DistilParams
    teacher: TeacherParams
    teacher_sha256: str
    image_size_px: int
    parameters: int


class Pdn(nn.Module):
    """PDN-M; ``forward`` gives its features as they are, ``normalised`` standardises channels.

    Attributes:
        channels: C, of the output.
        mean: (C,) of the output over the training normals.
        std: (C,) of the same.
    """

    def __init__(self, width: float, channels: int) -> None:
        super().__init__()
        first = max(round(_HIDDEN * width), 1)
        last = max(round(1.5 * _HIDDEN * width), 1)  # 384, as many as the paper's output
        self.channels = channels
        self.layers = nn.Sequential(
            nn.Conv2d(3, first, 4, padding=3),
            nn.ReLU(),
            nn.AvgPool2d(2, 2, padding=1),
            nn.Conv2d(first, 2 * first, 4, padding=3),
            nn.ReLU(),
            nn.AvgPool2d(2, 2, padding=1),
            nn.Conv2d(2 * first, 2 * first, 1),
            nn.ReLU(),
            nn.Conv2d(2 * first, 2 * first, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * first, last, 4),
            nn.ReLU(),
            nn.Conv2d(last, channels, 1),
        )
        self.image_mean: Tensor
        self.image_std: Tensor
        self.mean: Tensor
        self.std: Tensor
        # Not persistent: constants, no weights.
        for name, values in (("image_mean", _IMAGENET_MEAN), ("image_std", _IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    @property
    def sha256(self) -> str:
        """Of the weights, for configuration and lineage."""
        return state_sha256(self)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1 or 3, S, S) in [0, 1] to (B, C, S/4, S/4), for S a multiple of 16."""
        features: Tensor = self.layers((images - self.image_mean) / self.image_std)
        return features

    @torch.no_grad()
    def normalised(self, images: Tensor) -> Tensor:
        """The same, each channel standardised by its mean and spread over the training normals."""
        features: Tensor = self(images)
        return (features - self.mean[:, None, None]) / self.std[:, None, None]


class PdnTeacher(Pdn):
    """A PDN that will never be trained again."""

    @classmethod
    def load(cls, teacher: TeacherParams, image_size_px: int, folder: Path = PDN_FOLDER) -> Self:
        """The PDN that the ``distil`` stage left.

        Args:
            teacher: the network it must have been distilled from.
            image_size_px: side S of the slices it must have been distilled on.
            folder: where the stage wrote, below the repository's root.

        Raises:
            TrainingError: there is none, or it was distilled from other params.
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
        network = cls(config.distil.width, config.distil.channels)
        network.load_state_dict(load_file(folder / PDN_WEIGHTS))
        return network.freeze()

    def freeze(self) -> Self:
        """Without gradients, in evaluation mode."""
        return self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)


def _read_config(folder: Path) -> PdnConfig:
    for name in (PDN_CONFIG, PDN_WEIGHTS):
        if not (folder / name).is_file():
            raise TrainingError(f"{folder / name}: not found. {_ADVICE}")
    try:
        return PdnConfig.model_validate_json((folder / PDN_CONFIG).read_bytes())
    except ValueError as error:
        raise TrainingError(
            f"{folder / PDN_CONFIG}: describes no PDN: {error}. {_ADVICE}"
        ) from error
