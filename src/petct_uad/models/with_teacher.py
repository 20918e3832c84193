"""What models with a frozen teacher share: how they are made, and how grids become maps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from petct_uad.core.params.base import Modality
from petct_uad.models.common.interface import Batch, TrainableModel, images_in_channels, images_of
from petct_uad.models.common.maps import score_maps, smooth_maps
from petct_uad.models.common.params import FeatureParams, ModelSection, TokenParams
from petct_uad.teachers.cnn import CACHED_IMAGES, CnnTeacher
from petct_uad.teachers.params import TeacherParams
from petct_uad.teachers.tokens import TokenTeacher, load_tokens

P = TypeVar("P", bound=ModelSection)
S = TypeVar("S", bound=FeatureParams)
W = TypeVar("W", bound=TokenParams)
T = TypeVar("T", bound=nn.Module)


class ModelWithTeacher(TrainableModel, Generic[P, T]):
    """A model beside a frozen network; most see one modality, and score by a map's maximum.

    Attributes:
        sees_channels: does it take three, where there are as many: a slice between those below and
            above it (``preprocess.neighbours_mm``), or a picture in colour (``ingest.colour``)?
            Else it takes one of grey.
    """

    sees_channels: ClassVar[bool] = False

    def __init__(self, params: P, teacher: T, modality: Modality, image_size_px: int) -> None:
        super().__init__()
        self.params = params
        self.teacher = teacher
        self.modality = modality
        self.image_size_px = image_size_px

    def score(self, maps: Tensor) -> Tensor:
        """(B,): the largest value of the map."""
        return score_maps(maps, "max")

    def _inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """(B, 1 or 3, S, S) of each modality that it sees, PET before CT."""
        see = images_in_channels if self.sees_channels else images_of
        return see(batch, self.modality)

    def _images(self, batch: Batch) -> Tensor:
        """(B, 1 or 3, S, S) of the one modality."""
        (images,) = self._inputs(batch)
        return images

    def _enlarged(self, grids: Iterable[Tensor]) -> Tensor:
        """K grids (B, h_k, w_k) as maps (K, B, S, S), not yet smoothed."""
        maps = [smooth_maps(grid, self.image_size_px, sigma_px=0) for grid in grids]
        return torch.stack(maps)

    def _smoothed(self, grids: Tensor) -> Tensor:
        """(..., h, w) to maps (..., S, S)."""
        return smooth_maps(grids, self.image_size_px, self.params.map_sigma_px)


class CnnModel(ModelWithTeacher[P, CnnTeacher]):
    """One beside the CNN that ``teacher`` names, which is in its lineage, used or not."""

    @classmethod
    def build(
        cls, params: P, teacher: TeacherParams, modality: Modality, image_size_px: int
    ) -> Self:
        """With that CNN."""
        return cls(params, CnnTeacher.load(teacher), modality, image_size_px)


class FeatureModel(CnnModel[S]):
    """One that reads the CNN's deepest map of each of some strides.

    Attributes:
        enlarge: how many times larger the CNN sees the slice.
    """

    sees_channels = True
    enlarge = 1

    @property
    def channels(self) -> dict[int, int]:
        """Of the map of each stride, finest first."""
        return {stride: self.teacher.channels_at[stride] for stride in sorted(self.params.strides)}

    def _features(self, images: Tensor, at_once: int | None = None) -> tuple[Tensor, ...]:
        """(B, C, h, w) of each stride, finest first; see :meth:`CnnTeacher.features`."""
        deepest = max(self.params.strides)
        features = self.teacher.features(images, deepest, at_once, self.enlarge)
        return tuple(features[stride] for stride in self.channels)

    @torch.no_grad()
    def described(self, batch: Batch) -> Tensor:
        """(B, D): the mean over the slice of each channel that is read, PET before CT."""
        maps = [x for seen in self._inputs(batch) for x in self._features(seen, CACHED_IMAGES)]
        return torch.cat([x.mean((2, 3)) for x in maps], 1)


class TokenModel(ModelWithTeacher[W, TokenTeacher]):
    """One that reads tokens of ``width``."""

    sees_channels = True

    @classmethod
    def build(
        cls, params: W, teacher: TeacherParams, modality: Modality, image_size_px: int
    ) -> Self:
        """With the token teacher that ``teacher`` names."""
        tokens = load_tokens(teacher, params.width, image_size_px)
        return cls(params, tokens, modality, image_size_px)

    @torch.no_grad()
    def described(self, batch: Batch) -> Tensor:
        """(B, D): the mean token of each of the teacher's levels, PET before CT."""
        tokens = [self.teacher.tokens(x) for x in self._inputs(batch)]
        return torch.cat([x.mean(2).flatten(1) for x in tokens], 1)
