"""What the baselines share: one modality, a CNN beside them, the score a map's highest value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

from petct_uad.models.interface import Batch, TrainableModel, images_of
from petct_uad.models.maps import score_maps, smooth_maps
from petct_uad.params import Modality, TeacherParams
from petct_uad.teachers.cnn import CnnTeacher


class MapParams(Protocol):
    """A section of params.yaml that says how maps are smoothed."""

    @property
    def map_sigma_px(self) -> float:
        """Of the Gaussian, at 256 px."""


class StrideParams(MapParams, Protocol):
    """One that also says which of the teacher's maps are read."""

    @property
    def strides(self) -> Sequence[int]:
        """Of those maps."""


P = TypeVar("P", bound=MapParams)
S = TypeVar("S", bound=StrideParams)


class Baseline(TrainableModel, Generic[P]):
    """A model of one modality's slices; every one names the teacher of its run, used or not."""

    def __init__(
        self, params: P, teacher: CnnTeacher, modality: Modality, image_size_px: int
    ) -> None:
        super().__init__()
        self.params = params
        self.teacher = teacher
        self.modality = modality
        self.image_size_px = image_size_px

    @classmethod
    def build(
        cls, params: P, teacher: TeacherParams, modality: Modality, image_size_px: int
    ) -> Self:
        """With the CNN that ``teacher`` names."""
        return cls(params, CnnTeacher.load(teacher), modality, image_size_px)

    def score(self, maps: Tensor) -> Tensor:
        """(B,): the largest value of the map."""
        return score_maps(maps, "max")

    def _images(self, batch: Batch) -> Tensor:
        """(B, 1, S, S) of the one modality."""
        (images,) = images_of(batch, self.modality)
        return images

    def _enlarged(self, grids: Iterable[Tensor]) -> Tensor:
        """K grids (B, h_k, w_k) as maps (K, B, S, S), not yet smoothed."""
        maps = [smooth_maps(grid, self.image_size_px, sigma_px=0) for grid in grids]
        return torch.stack(maps)

    def _smoothed(self, grids: Tensor) -> Tensor:
        """(B, h, w) to maps (B, S, S)."""
        return smooth_maps(grids, self.image_size_px, self.params.map_sigma_px)


class FeatureBaseline(Baseline[S]):
    """A baseline that reads the teacher's deepest map of each of some strides."""

    @property
    def channels(self) -> dict[int, int]:
        """Of the map of each stride, finest first."""
        return {stride: self.teacher.channels_at[stride] for stride in sorted(self.params.strides)}

    def _features(self, images: Tensor, at_once: int | None = None) -> tuple[Tensor, ...]:
        """(B, C, h, w) of each stride, finest first; see :meth:`CnnTeacher.features`."""
        features = self.teacher.features(images, max(self.params.strides), at_once)
        return tuple(features[stride] for stride in self.channels)
