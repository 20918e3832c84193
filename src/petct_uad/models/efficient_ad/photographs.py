"""What replaces ImageNet offline: crops of the photographs that scikit-image carries."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from skimage import data
from skimage.color import rgb2gray
from skimage.util import img_as_float32
from torch import Tensor
from torch.nn import functional as F

_NAMES = (
    "astronaut",
    "brick",
    "camera",
    "chelsea",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "moon",
    "rocket",
)
_SMALLEST_PART = 0.25  # of the shorter side of a photograph


def photograph_crops(count: int, side_px: int) -> Tensor:
    """Random squares of random photographs, (count, 3, S, S) in [0, 1], grey as slices are.

    Places and sizes come from torch's global generator.
    """
    return torch.cat([_crop(side_px) for _ in range(count)]).expand(-1, 3, -1, -1)


def _crop(side_px: int) -> Tensor:
    pictures = _photographs()
    picture = pictures[int(torch.randint(len(pictures), ()))]
    height, width = picture.shape[-2:]
    part = _SMALLEST_PART + (1 - _SMALLEST_PART) * float(torch.rand(()))
    side = round(part * min(height, width))
    top = int(torch.randint(height - side + 1, ()))
    left = int(torch.randint(width - side + 1, ()))
    square = picture[..., top : top + side, left : left + side]
    size = (side_px, side_px)
    return F.interpolate(square, size=size, mode="bilinear", antialias=True)


@cache
def _photographs() -> tuple[Tensor, ...]:
    """(1, 1, H, W) each, in [0, 1]."""
    return tuple(_read(name) for name in _NAMES)


def _read(name: str) -> Tensor:
    pixels = img_as_float32(getattr(data, name)())
    grey = rgb2gray(pixels) if pixels.ndim == 3 else pixels
    return torch.from_numpy(np.ascontiguousarray(grey, dtype=np.float32))[None, None]
