"""The trained models of one family of rows: one per row and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from petct_uad.core.errors import TrainingError
from petct_uad.models.build import CONFIG_FILE, WEIGHTS_FILE, ModelConfig, load_model, seed_folders
from petct_uad.models.common.interface import AnomalyModel
from petct_uad.models.common.params import AnyModelParams


@dataclass(frozen=True)
class TrainedModel:
    """What one seed's training of one row left."""

    model: AnomalyModel
    config: ModelConfig[AnyModelParams]


def seeds_of(rows: Sequence[Path]) -> tuple[int, ...]:
    """The seeds that rows were trained with, rising.

    Args:
        rows: ``models/<family>/<row>`` of every trained row of a family.

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


def load_trained(row: Path, seed: int, device: torch.device) -> TrainedModel:
    """One seed's model of one row.

    Raises:
        TrainingError: a file is missing or does not fit the other.
        TeacherError: the teacher's weights are not those of the training.
    """
    return TrainedModel(*load_model(seed_folders(row)[seed], device))
