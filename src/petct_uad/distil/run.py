"""Make HDHKD's teacher on the training normals of PET and CT: distil a PDN, or take the CNN itself.

A PDN learns what PatchCore makes of a pretrained CNN's feature maps (section III-B). Table II names
the CNN itself as the teacher; then only its channels' statistics are to be learnt.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from petct_uad.core.files import write_json, write_table
from petct_uad.core.params.base import Modality
from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.models.common.device import choose_device, deterministic
from petct_uad.models.common.interface import Batch, GradientModel
from petct_uad.models.common.maps import score_maps, smooth_maps
from petct_uad.models.hdhkd.teacher.params import DistilParams
from petct_uad.models.hdhkd.teacher.patches import PatchFeatures
from petct_uad.models.hdhkd.teacher.pdn import Pdn
from petct_uad.models.hdhkd.teacher.teacher import (
    TEACHER_CONFIG,
    TEACHER_WEIGHTS,
    PatchTeacher,
    PatchTeacherConfig,
)
from petct_uad.slices.store import SliceStore, files_of
from petct_uad.teachers.cnn import CnnTeacher
from petct_uad.teachers.params import TeacherParams
from petct_uad.teachers.weights import save_state
from petct_uad.training.loop.data import Normals
from petct_uad.training.loop.gradient import GradientTraining, TrainingSetup
from petct_uad.training.loop.tables import TrainingRow
from petct_uad.training.params import TrainParams


@dataclass(frozen=True)
class Distilled:
    """What a distillation read and wrote."""

    inputs: tuple[Path, ...]  # index and shards of the training and validation studies
    outputs: tuple[Path, ...]
    teacher: Entity  # the network that it was made from

    @property
    def derivations(self) -> list[Derivation]:
        """Every output from every input."""
        inputs = (self.teacher, *map(Entity.of_file, self.inputs))
        return [Derivation(Entity.of_file(path), inputs) for path in self.outputs]


def distil_teacher(
    *,
    params: DistilParams,
    teacher: TeacherParams,
    train: TrainParams,
    processed: Path,
    folder: Path,
    curve_file: Path,
) -> Distilled:
    """Make the teacher on the training normals; validation normals choose the PDN that is kept.

    The test split is never opened, and nothing of a slice but its PET and CT pixels is used.

    Args:
        params: which network describes patches; a PDN's width, output channels and schedule.
        teacher: the network to distil from, or to take; a CNN.
        train: device, precision and iterations between validations; the first seed counts.
        processed: ``data/processed/<dataset>``.
        folder: takes ``teacher.safetensors`` and ``config.json``.
        curve_file: takes the training curve; of a CNN, what a student that knows nothing loses.

    Raises:
        DatasetError: a split is empty or a shard is missing.
        TeacherError: the teacher's weights are missing or do not fit, or it is no CNN.
        ParamsError: the strides have fewer channels than are asked for.
        TrainingError: no normal slice, or training diverged.
    """
    stores = [SliceStore.open(processed, split) for split in ("train", "val")]
    device, seed = choose_device(train.device), train.seeds[0]
    with deterministic(seed, algorithms=train.deterministic, tf32=train.tf32):
        cnn = CnnTeacher.load(teacher)
        target = PatchTeacher(PatchFeatures(cnn, params)).to(device)
        split = [Normals(store, params.schedule.batch_size, device) for store in stores]
        if params.network == "pdn":
            made, rows = _distil(target, params, TrainingSetup(train, seed), *split)
        else:
            made, rows = target, [_standardise(target, seed, *split)]
    config = PatchTeacherConfig(
        distil=params,
        teacher=teacher,
        teacher_sha256=cnn.sha256,
        image_size_px=stores[0].image_size_px,
        parameters=sum(p.numel() for p in made.network.parameters()),
    )
    save_state(folder / TEACHER_WEIGHTS, made.made())
    write_json(folder / TEACHER_CONFIG, config.model_dump(mode="json"))
    write_table(curve_file, TrainingRow, rows)
    return Distilled(
        files_of(processed, stores),
        (folder / TEACHER_WEIGHTS, folder / TEACHER_CONFIG, curve_file),
        Entity(f"teacher:{teacher.name}", cnn.sha256),
    )


def _distil(
    target: PatchTeacher,
    params: DistilParams,
    setup: TrainingSetup,
    normals: Normals,
    held_out: Normals,
) -> tuple[PatchTeacher, list[TrainingRow]]:
    """A PDN that has learnt to give the target."""
    target.standardise(normals)
    model = Distillation(target, params).to(normals.device)
    rows = GradientTraining(model, params.schedule, setup, normals, held_out).run().rows
    made = PatchTeacher(model.pdn)
    made.standardise(normals)
    return made, rows


def _standardise(
    target: PatchTeacher, seed: int, normals: Normals, held_out: Normals
) -> TrainingRow:
    """Learn the channels' statistics; return the loss of a student that knows the means only."""
    target.standardise(normals)
    on_train, on_val = (_loss_of_the_means(target, batches) for batches in (normals, held_out))
    return TrainingRow(seed, 0, on_train, on_val, learning_rate=None)


def _loss_of_the_means(target: PatchTeacher, normals: Iterable[Batch]) -> float:
    images = [images for batch in normals for images in (batch.pet, batch.ct)]
    losses = [float(target.normalised(x).square().mean()) * len(x) for x in images]
    return sum(losses) / sum(map(len, images))


class Distillation(GradientModel):
    """A PDN that learns to give the standardised patch features of PET and CT alike."""

    def __init__(self, teacher: PatchTeacher, params: DistilParams) -> None:
        super().__init__()
        self.teacher = teacher
        self.pdn = Pdn(params.width, params.channels)

    @classmethod
    def build(
        cls, params: DistilParams, teacher: TeacherParams, modality: Modality, image_size_px: int
    ) -> Self:
        """From the CNN that ``teacher`` names; it always sees both modalities, at any size.

        Raises:
            TeacherError: the teacher's weights are missing or do not fit, or it is no CNN.
            ParamsError: the strides have fewer channels than are asked for.
        """
        del modality, image_size_px
        return cls(PatchTeacher(PatchFeatures(CnnTeacher.load(teacher), params)), params)

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """Images (B, 2, 1, S, S), PET before CT, and their targets (B, 2, C, S/4, S/4)."""
        images = torch.stack([batch.pet, batch.ct], 1)
        targets = self.teacher.normalised(images.flatten(0, 1))
        return images, targets.view(len(images), 2, *targets.shape[1:])

    def loss(self, *prepared: Tensor) -> Tensor:
        """Mean squared error; 1 is what a PDN that knows nothing but the means would have."""
        images, targets = prepared
        return F.mse_loss(self.pdn(images.flatten(0, 1)), targets.flatten(0, 1))

    @torch.no_grad()
    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S): where the PDN misses its target, in both modalities together."""
        images, targets = self.prepare(batch)
        found = self.pdn(images.flatten(0, 1)).view(targets.shape)
        return smooth_maps((found - targets).square().mean((1, 2)), images.shape[-1], 0.0)

    def score(self, maps: Tensor) -> Tensor:
        """(B,): the maximum."""
        return score_maps(maps, "max")
