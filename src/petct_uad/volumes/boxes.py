"""The part of a volume that matters: filters that would see a whole matrix see that part only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.motion.transforms import BsplineTransform, Transform

_IDENTITY = RigidTransform()


@dataclass(frozen=True)
class Box:
    """Voxels of an image: the first, and how many, along x, y and z."""

    first: tuple[int, ...]
    size: tuple[int, ...]

    @classmethod
    def _between(
        cls, image: sitk.Image, lowest: NDArray[np.generic], highest: NDArray[np.generic],
        margin_px: Sequence[int],
    ) -> Self:  # fmt: skip
        """From one voxel to another, with a margin on all sides as far as the image goes."""
        first = np.maximum(np.floor(lowest).astype(int) - margin_px, 0)
        last = np.minimum(np.ceil(highest).astype(int) + margin_px, np.array(image.GetSize()) - 1)
        return cls(tuple(first.tolist()), tuple(np.maximum(last - first + 1, 0).tolist()))

    @classmethod
    def occupied(cls, mask: sitk.Image, margin_px: Sequence[int]) -> Self:
        """What is not 0, with a margin; no voxels where all is 0."""
        voxels = sitk.GetArrayViewFromImage(mask)
        slices = voxels.any((1, 2))
        plane = voxels.any(0)
        found = [np.flatnonzero(x) for x in (plane.any(0), plane.any(1), slices)]
        if not len(found[0]):
            return cls((0, 0, 0), (0, 0, 0))
        lowest, highest = (np.array([x[end] for x in found]) for end in (0, -1))
        return cls._between(mask, lowest, highest, margin_px)

    @classmethod
    def under(
        cls,
        other: sitk.Image,
        image: sitk.Image,
        margin_px: Sequence[int],
        transform: Transform = _IDENTITY,
    ) -> Self:
        """Where another image lies on ``image``, with a margin.

        Args:
            other: whose corners are looked at.
            image: in whose voxels the box is.
            margin_px: along x, y and z.
            transform: from the frame of ``other`` to that of ``image``; one that bends may take
                what lies between the corners out of the box, so that all of ``image`` is given.
        """
        if isinstance(transform, BsplineTransform):
            return cls((0, 0, 0), tuple(image.GetSize()))
        moved = transform.apply(np.array(_corners_mm(other))).tolist()
        return cls._around(image, moved, margin_px)

    @classmethod
    def reached(
        cls, part: sitk.Image, image: sitk.Image, margin_px: Sequence[int], transform: Transform
    ) -> Self:
        """Where ``image`` holds what lies on ``part`` once ``transform`` has moved it.

        Args:
            part: of ``image``.
            image: in whose voxels the box is.
            margin_px: along x, y and z.
            transform: from a point of the moved image to where that lay; of one that bends, all of
                ``image`` is given.
        """
        if isinstance(transform, BsplineTransform):
            return cls((0, 0, 0), tuple(image.GetSize()))
        inverse = transform.inverse_sitk()
        moved = [inverse.TransformPoint(corner) for corner in _corners_mm(part)]
        return cls._around(image, moved, margin_px)

    @classmethod
    def _around(
        cls, image: sitk.Image, points_mm: Sequence[Sequence[float]], margin_px: Sequence[int]
    ) -> Self:
        """The smallest that holds points of the image's frame, with a margin."""
        at = np.array([image.TransformPhysicalPointToContinuousIndex(mm) for mm in points_mm])
        return cls._between(image, at.min(0), at.max(0), margin_px)

    def __bool__(self) -> bool:
        return all(self.size)

    def of(self, image: sitk.Image) -> sitk.Image:
        """These voxels of an image."""
        return sitk.RegionOfInterest(image, self.size, self.first)

    def put(self, part: sitk.Image, image: sitk.Image) -> sitk.Image:
        """An image with these voxels replaced."""
        return sitk.Paste(image, part, self.size, [0] * len(self.size), self.first)


def _corners_mm(image: sitk.Image) -> list[tuple[float, ...]]:
    """The centres of an image's eight outermost voxels."""
    ends = np.array(list(np.ndindex(2, 2, 2))) * (np.array(image.GetSize()) - 1)
    return [image.TransformIndexToPhysicalPoint(end.tolist()) for end in ends]
