"""Rows of the tables that the train stage writes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class TrainingRow:
    """One look at the validation normals: ``training.csv``.

    For a fitted model there are no iterations: see :class:`models.common.interface.FitPoint`.
    """

    seed: int
    iteration: int  # gradient steps so far, or the size of a fitted model
    train_loss: float  # mean since the last row; of a fitted model, mean distance from it
    val_loss: float  # the same on validation normals
    learning_rate: float | None  # of the last step; None for a fitted model


@dataclass(frozen=True, order=True)
class LoggedRow:
    """A further figure of a model at the same moment: ``logged.csv``, where a model has any."""

    seed: int
    iteration: int
    name: str
    value: float  # as :meth:`GradientModel.logged` gave it after that iteration
