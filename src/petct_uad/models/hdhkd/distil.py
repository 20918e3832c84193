"""Distil the PDN from a pretrained CNN (section III-B), on the training normals of PET and CT.

The target is what PatchCore makes of the CNN's feature maps (Roth et al. 2022, section 3.1): each
3 x 3 neighbourhood, pooled over neighbouring channels to a given number of values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from petct_uad.errors import ParamsError
from petct_uad.files import write_json, write_table
from petct_uad.models.hdhkd.pdn import PDN_CONFIG, PDN_STRIDE, PDN_WEIGHTS, Pdn, PdnConfig
from petct_uad.models.interface import Batch, GradientModel
from petct_uad.models.maps import mean_and_spread, score_maps, smooth_maps
from petct_uad.params import DistilParams, Modality, TeacherParams, TrainParams
from petct_uad.slices.store import SliceStore, files_of
from petct_uad.teachers.cnn import CnnTeacher
from petct_uad.teachers.weights import save_state
from petct_uad.training.data import Normals
from petct_uad.training.device import choose_device, deterministic
from petct_uad.training.gradient import GradientTraining, TrainingSetup
from petct_uad.training.tables import TrainingRow

_SAMPLED_EVERY = 4  # batches; each is a few neighbouring slices, so that every patient is there


@dataclass(frozen=True)
class Distilled:
    """What a distillation read and wrote, for its lineage."""

    inputs: tuple[Path, ...]  # index and shards of the training and validation studies
    outputs: tuple[Path, ...]
    teacher_sha256: str


def distil_pdn(
    *,
    params: DistilParams,
    teacher: TeacherParams,
    train: TrainParams,
    processed: Path,
    folder: Path,
    curve_file: Path,
) -> Distilled:
    """Distil on the training normals; validation normals choose the state that is kept.

    The test split is never opened, and nothing of a slice but its PET and CT pixels is used.

    Args:
        params: width, output channels and schedule.
        teacher: the network to distil from; a CNN.
        train: device, precision and iterations between validations; the first seed counts.
        processed: ``data/processed/<dataset>``.
        folder: takes ``pdn.safetensors`` and ``config.json``.
        curve_file: takes the training curve.

    Raises:
        DatasetError: a split is empty or a shard is missing.
        TeacherError: the teacher's weights are missing or do not fit, or it is no CNN.
        ParamsError: the strides have fewer channels than are asked for.
        TrainingError: no normal slice, or training diverged.
    """
    stores = [SliceStore.open(processed, split) for split in ("train", "val")]
    device, seed = choose_device(train.device), train.seeds[0]
    side, size = stores[0].image_size_px, params.schedule.batch_size
    with deterministic(seed):
        model = Distillation.build(params, teacher, "petct", side).to(device)
        normals, held_out = (Normals(store, size, device) for store in stores)
        model.standardise_targets(islice(normals, 0, None, _SAMPLED_EVERY))
        setup = TrainingSetup(train, seed)
        rows = GradientTraining(model, params.schedule, setup, normals, held_out).run().rows
        model.eval().measure_output(normals)
    config = PdnConfig(
        distil=params,
        teacher=teacher,
        teacher_sha256=model.teacher.network.sha256,
        image_size_px=side,
        parameters=sum(p.numel() for p in model.pdn.parameters()),
    )
    _save(model.pdn, config, folder)
    write_table(curve_file, TrainingRow, rows)
    return Distilled(
        files_of(processed, stores),
        (folder / PDN_WEIGHTS, folder / PDN_CONFIG, curve_file),
        config.teacher_sha256,
    )


class PatchFeatures(nn.Module):
    """PatchCore's features of a frozen CNN, on the PDN's grid: (B, 1, S, S) to (B, C, S/4, S/4).

    The strides share the C channels equally, none taking more than it has. As EfficientAD does, the
    CNN may see the images ``enlarge`` times as large as the PDN, which brings its stride 8 to the
    PDN's 4.
    """

    def __init__(self, teacher: CnnTeacher, params: DistilParams) -> None:
        super().__init__()
        self.network = teacher
        self.strides = sorted(params.strides)
        self.enlarge = params.enlarge
        deepest = dict(zip(teacher.strides, teacher.channels, strict=True))
        available = [deepest[stride] for stride in self.strides]
        shares = share_channels(params.channels, available)
        self.pools = nn.ParameterList(map(_pooling, available, shares))
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        side = images.shape[-1]
        large = F.interpolate(images, scale_factor=self.enlarge, mode="bilinear")
        features = self.network.features(large, deepest=self.strides[-1])
        size = [side // PDN_STRIDE] * 2
        pooled = [
            F.conv2d(features[stride], pool, padding=1)
            for stride, pool in zip(self.strides, self.pools, strict=True)
        ]
        return torch.cat([F.interpolate(x, size=size, mode="bilinear") for x in pooled], 1)


def share_channels(total: int, available: Sequence[int]) -> list[int]:
    """How many channels each stride gives: as equal as can be, and none more than it has.

    Raises:
        ParamsError: together they have fewer than ``total``.
    """
    if sum(available) < total:
        raise ParamsError(
            f"distil.channels = {total}: the teacher has {sum(available)} at distil.strides; "
            "expected no more"
        )
    level = next(n for n in range(total + 1) if sum(min(n, own) for own in available) >= total)
    shares = [min(level, own) for own in available]
    shares[shares.index(max(shares))] -= sum(shares) - total
    return shares


def _pooling(channels: int, share: int) -> nn.Parameter:
    """Weights (share, c, 3, 3) that take the means of runs of the 9 c values of a neighbourhood.

    Unfolding and pooling are linear, so that one convolution does both, many times as fast.
    """
    pooled = F.adaptive_avg_pool1d(torch.eye(9 * channels), share)  # (9 c, share)
    return nn.Parameter(pooled.T.reshape(share, channels, 3, 3).contiguous())


class Distillation(GradientModel):
    """A PDN that learns to give the standardised patch features of PET and CT alike."""

    def __init__(self, params: DistilParams, teacher: CnnTeacher, image_size_px: int) -> None:
        super().__init__()
        self.image_size_px = image_size_px
        self.teacher = PatchFeatures(teacher, params)
        self.pdn = Pdn(params.width, params.channels)
        self.target_mean: Tensor
        self.target_std: Tensor
        self.register_buffer("target_mean", torch.zeros(params.channels))
        self.register_buffer("target_std", torch.ones(params.channels))

    @classmethod
    def build(
        cls, params: DistilParams, teacher: TeacherParams, modality: Modality, image_size_px: int
    ) -> Self:
        """From the CNN that ``teacher`` names; it always sees both modalities.

        Raises:
            TeacherError: the teacher's weights are missing or do not fit, or it is no CNN.
            ParamsError: the strides have fewer channels than are asked for.
        """
        del modality
        return cls(params, CnnTeacher.load(teacher), image_size_px)

    def standardise_targets(self, normals: Iterable[Batch]) -> None:
        """Learn each target channel's mean and spread, so that all weigh alike in the loss."""
        images = (images for batch in normals for images in (batch.pet, batch.ct))
        mean, std = mean_and_spread(self.teacher(x).transpose(0, 1) for x in images)
        self.target_mean.copy_(mean)
        self.target_std.copy_(std)

    @torch.no_grad()
    def measure_output(self, normals: Iterable[Batch]) -> None:
        """Keep each PDN channel's mean and spread (section III-B, normalisation)."""
        images = (images for batch in normals for images in (batch.pet, batch.ct))
        mean, std = mean_and_spread(self.pdn(x).transpose(0, 1) for x in images)
        self.pdn.mean.copy_(mean)
        self.pdn.std.copy_(std)

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """Images (B, 2, 1, S, S), PET before CT, and their targets (B, 2, C, S/4, S/4)."""
        images = torch.stack([batch.pet, batch.ct], 1)
        targets = self.teacher(images.flatten(0, 1)) - self.target_mean[:, None, None]
        targets = targets / self.target_std[:, None, None]
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
        return smooth_maps((found - targets).square().mean((1, 2)), self.image_size_px, 0.0)

    def score(self, maps: Tensor) -> Tensor:
        """(B,): the maximum."""
        return score_maps(maps, "max")


def _save(pdn: Pdn, config: PdnConfig, folder: Path) -> None:
    """Write weights and configuration atomically; the same state gives the same bytes."""
    save_state(folder / PDN_WEIGHTS, pdn.state_dict())
    write_json(folder / PDN_CONFIG, config.model_dump(mode="json"))
