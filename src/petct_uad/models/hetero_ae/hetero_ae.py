"""Hetero-AE (Lu et al. 2024): a CNN encodes, convolutions and transformers decode.

From the deepest features of a normal slice the decoder rebuilds the three shallower ones. Encoder
and decoder are of different kinds, so that an anomaly, which the decoder never saw, is rebuilt
badly. Shapes: B batch, S image side, k a stride but the deepest (the paper: 4, 8, 16).
Deviations from the paper are listed in this folder's README.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from petct_uad.core.params.base import Modality
from petct_uad.models.common.interface import Batch, GradientModel, images_of
from petct_uad.models.common.maps import score_maps, smooth_maps
from petct_uad.models.hetero_ae.networks import Decoder, PixelHead, build_encoder, stage_sizes
from petct_uad.models.hetero_ae.params import HeteroAeParams
from petct_uad.teachers.cnn import CnnTeacher
from petct_uad.teachers.params import TeacherParams

_EPS = 1e-6


class HeteroAe(GradientModel):
    """Reconstruction of an encoder's features from its deepest ones, one modality."""

    def __init__(
        self, params: HeteroAeParams, teacher: CnnTeacher, modality: Modality, image_size_px: int
    ) -> None:
        super().__init__()
        self.params = params
        self.modality = modality
        self.image_size_px = image_size_px
        strides = tuple(sorted(params.strides))
        sizes = stage_sizes(teacher, strides, image_size_px)
        self.encoder = build_encoder(params.encoder, teacher, params.train_encoder, sizes)
        self.decoder = Decoder(params.decoder, sizes)
        self.head = None if params.feature_comparison else PixelHead(sizes[0])

    @classmethod
    def build(
        cls, params: HeteroAeParams, teacher: TeacherParams, modality: Modality, image_size_px: int
    ) -> Self:
        """With the CNN that ``teacher`` names."""
        network = CnnTeacher.load(teacher, fold=not params.train_encoder)
        return cls(params, network, modality, image_size_px)

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """What is compared, then F_E^4; of an encoder that trains, the images alone."""
        (images,) = images_of(batch, self.modality)
        if self.params.train_encoder:
            return (images,)
        return self._encode(images)

    def loss(self, *prepared: Tensor) -> Tensor:
        """Eqs. 4-5, with 1 - cos for -cos: zero for a perfect reconstruction."""
        pairs = self._reconstruct(prepared)
        if self.head is not None:
            return torch.stack([F.mse_loss(found, target) for target, found in pairs]).sum()
        alpha = self.params.alpha
        losses = [
            alpha * _distance(target, found).mean() + (1 - alpha) * F.mse_loss(found, target)
            for target, found in pairs
        ]
        return torch.stack(losses).sum()

    @torch.no_grad()
    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S): Eqs. 6-7, or the squared difference of the pixels; then a Gaussian."""
        pairs = self._reconstruct(self.prepare(batch))
        compare = _distance if self.head is None else _squared_error
        grids = [compare(target, found) for target, found in pairs]
        summed = torch.stack([smooth_maps(x, self.image_size_px, 0.0) for x in grids]).sum(0)
        return smooth_maps(summed, self.image_size_px, self.params.map_sigma_px)

    @torch.no_grad()
    def described(self, batch: Batch) -> Tensor:
        """(B, D): the mean over the slice of each channel of the encoder's maps."""
        maps = self.encoder(*images_of(batch, self.modality))
        return torch.cat([x.mean((2, 3)) for x in maps], 1)

    def score(self, maps: Tensor) -> Tensor:
        """(B,): Eq. 8, the largest value of the map."""
        return score_maps(maps, "max")

    def _encode(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.encoder(images)
        *shallow, deepest = map(_scaled, maps) if self.params.scale_features else maps
        return (*shallow, deepest) if self.head is None else (images, deepest)

    def _reconstruct(self, prepared: tuple[Tensor, ...]) -> list[tuple[Tensor, Tensor]]:
        """Pairs of what should be and what the decoder gives, each (B, C_k, n_k, n_k)."""
        *targets, deepest = self._encode(*prepared) if self.params.train_encoder else prepared
        found = self.decoder(deepest)
        if self.head is not None:
            found = (self.head(found[0])[..., : self.image_size_px, : self.image_size_px],)
        # A target that could move towards its reconstruction would make both of them constant.
        return [(x.detach().float(), y.float()) for x, y in zip(targets, found, strict=True)]


def _scaled(features: Tensor) -> Tensor:
    """(B, C, n, n) with a mean square of 1 per image, so that alpha weighs like with like."""
    return features * features.square().mean((1, 2, 3), keepdim=True).add(_EPS).rsqrt()


def _distance(target: Tensor, found: Tensor) -> Tensor:
    """Eq. 6: (B, C, n, n) twice to (B, n, n)."""
    return 1 - F.cosine_similarity(target, found, dim=1)


def _squared_error(target: Tensor, found: Tensor) -> Tensor:
    return (target - found).square().mean(1)
