"""Rows of the table that the train stage writes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class TrainingRow:
    """One look at the validation normals: ``training.csv``.

    For a fitted model there are no iterations: see :class:`petct_uad.models.interface.FitPoint`.
    """

    iteration: int  # gradient steps so far, or the size of a fitted model
    train_loss: float  # mean since the last row; of a fitted model, mean distance from it
    val_loss: float  # the same on validation normals
    learning_rate: float | None  # of the last step; None for a fitted model
