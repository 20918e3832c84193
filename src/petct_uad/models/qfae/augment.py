"""The training augmentation of the supplement's section 1.4."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torchvision.transforms import v2

_CROP_AREA, _CROP_ASPECT = (0.9, 1.0), (0.8, 1.2)
_ROTATION_DEG = 10
_JITTER = 0.1


def augment(images: Tensor) -> Tensor:
    """Each of (B, 1, S, S) in [0, 1] cropped, turned, flipped and jittered on its own.

    The random numbers are those of torch's global generator.
    """
    transform = _transform(images.shape[-1])
    return torch.stack([transform(image) for image in images])


@cache
def _transform(side_px: int) -> v2.Compose:
    return v2.Compose(
        [
            v2.RandomResizedCrop(side_px, scale=_CROP_AREA, ratio=_CROP_ASPECT),
            v2.RandomRotation(_ROTATION_DEG, interpolation=v2.InterpolationMode.BILINEAR),
            v2.RandomVerticalFlip(),
            v2.ColorJitter(brightness=_JITTER, contrast=_JITTER),
        ]
    )
