"""The trained models behind a row of the benchmark: one per seed, or two that are joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from petct_uad.errors import TrainingError
from petct_uad.models.build import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    ModelConfig,
    load_model,
    seed_folders,
)
from petct_uad.models.fusion import LateFusion
from petct_uad.models.interface import AnomalyModel


@dataclass(frozen=True)
class TrainedModel:
    """What one seed's training left: of one trained row, or of two joined by late fusion."""

    seed: int
    model: AnomalyModel
    configs: tuple[ModelConfig, ...]  # one per trained row

    @property
    def learnt_values(self) -> int:
        """Trainable parameters, or values in a fitted model's state, over all trained rows."""
        return sum(config.learnt_values for config in self.configs)

    @property
    def scan_backend(self) -> str:
        """Which selective scan trained it, or none."""
        return self.configs[0].scan_backend

    @property
    def modality(self) -> str:
        """pet, ct or petct."""
        return self.configs[0].run.modality if len(self.configs) == 1 else "petct"


def seeds_of(rows: Sequence[Path]) -> tuple[int, ...]:
    """The seeds that a row was trained with, rising.

    Args:
        rows: ``models/<row>`` of one trained row, or of the two that are joined.

    Raises:
        TrainingError: a row holds no trained model, or two rows have other seeds.
    """
    first, *others = [tuple(sorted(seed_folders(row))) for row in rows]
    for row, seeds in zip(rows[1:], others, strict=True):
        if seeds != first:
            raise TrainingError(
                f"{row}: trained with seeds {list(seeds)}, but {rows[0]} with {list(first)}. "
                "Run `dvc repro train`."
            )
    return first


def model_files(rows: Sequence[Path], seeds: Sequence[int]) -> tuple[Path, ...]:
    """The weights and configurations that :func:`load_trained` reads for these seeds."""
    folders = [seed_folders(row)[seed] for row in rows for seed in seeds]
    return tuple(folder / name for folder in folders for name in (WEIGHTS_FILE, CONFIG_FILE))


def load_trained(rows: Sequence[Path], seed: int, device: torch.device) -> TrainedModel:
    """One seed's model; two rows are joined, and then still to be calibrated.

    Raises:
        TrainingError: a file is missing or does not fit the other.
        TeacherError: the teacher's weights are not those of the training.
    """
    models, configs = zip(
        *(load_model(seed_folders(row)[seed], device) for row in rows), strict=True
    )
    model = models[0] if len(models) == 1 else LateFusion(models).eval().to(device)
    return TrainedModel(seed, model, configs)
