"""What training and evaluation know of a model, and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn

from petct_uad.slices.batch import Batch

__all__ = ["AnomalyModel", "Batch", "FittedModel", "GradientModel"]


class AnomalyModel(nn.Module, ABC):
    """A detector that was built from its typed params and a teacher.

    State that training or fitting produces lives in parameters and buffers, so that a safetensors
    file of :meth:`student_state` is the whole model; frozen teacher weights are not part of it.
    """

    @abstractmethod
    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S), higher is more abnormal."""

    @abstractmethod
    def score(self, maps: Tensor) -> Tensor:
        """(B, S, S) maps to (B,) image scores."""

    def calibrate(self, normals: Iterable[Batch]) -> None:
        """Learn the scale of the maps from validation normals; by default there is none."""

    @abstractmethod
    def student_state(self) -> dict[str, Tensor]:
        """Everything that was learnt, by name."""

    @abstractmethod
    def load_student_state(self, state: dict[str, Tensor]) -> None:
        """Take what :meth:`student_state` gave.

        Raises:
            TrainingError: names or shapes differ.
        """


class GradientModel(AnomalyModel):
    """A model that learns by gradient descent."""

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Scalar training loss of normal slices."""


class FittedModel(AnomalyModel):
    """A model that is fitted in one pass over the training normals."""

    @abstractmethod
    def fit(self, normals: Iterable[Batch]) -> None:
        """Learn from every training normal."""
