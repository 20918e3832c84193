"""The Gaussian blur of ITK's DiscreteGaussian, in a third of its time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

_WIDEST_PX = 64


def blur(image: sitk.Image, variance_mm2: Sequence[float], error: float = 0.01) -> sitk.Image:
    """An image blurred along each axis; the outermost values continue beyond its ends.

    The kernel is ITK's, so that the values are those of ``sitk.DiscreteGaussian`` to the last bit.

    Args:
        image: float32.
        variance_mm2: of the Gaussian along x, y and z; 0 leaves an axis as it is.
        error: part of the Gaussian that is cut off at most, as long as 64 voxels hold the rest.
    """
    voxels = sitk.GetArrayViewFromImage(image)
    axes = list(zip((2, 1, 0), variance_mm2, image.GetSpacing(), strict=True))
    for axis, variance, mm in reversed(axes):  # ITK's order, since float32 rounds in between
        if variance:
            kernel = _kernel(variance / (mm * mm), error)
            voxels = ndimage.correlate1d(voxels, kernel, axis, mode="nearest")
    blurred = sitk.GetImageFromArray(voxels)
    blurred.CopyInformation(image)
    return blurred


@lru_cache
def _kernel(variance_px2: float, error: float) -> NDArray[np.float64]:
    """ITK's: what it makes of a single voxel."""
    point = sitk.Image(2 * _WIDEST_PX + 1, 1, sitk.sitkFloat64)
    point[_WIDEST_PX, 0] = 1.0
    spread = sitk.DiscreteGaussian(point, [variance_px2, 0.0], _WIDEST_PX, error, False)
    line = sitk.GetArrayFromImage(spread)[0]
    return np.asarray(line[line > 0], np.float64)
