"""Images on their way into the networks: resizing, and the training augmentation."""

from __future__ import annotations

from functools import cache, lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

_CROP_AREA, _CROP_ASPECT = (0.9, 1.0), (0.8, 1.2)
_ROTATION_DEG = 10
_JITTER = 0.1


def resize(images: Tensor, side_px: int) -> Tensor:
    """(B, C, S, S) to (B, C, side, side), bilinear; antialiased where it shrinks.

    Two matrix products: antialiased like Pillow's, differentiable, and deterministic on a GPU,
    where the gradient of torch's own antialiased interpolation is not.
    """
    if images.shape[-1] == side_px:
        return images
    weights = _weights(images.shape[-1], side_px, images.device, images.dtype)
    return weights @ images @ weights.T


def augment(images: Tensor) -> Tensor:
    """Each of (B, 1, S, S) in [0, 1] cropped, turned, flipped and jittered on its own.

    The supplement's section 1.4. Random numbers are those of torch's global generator.
    """
    transform = _transform(images.shape[-1])
    return torch.stack([transform(image) for image in images])


@lru_cache(maxsize=16)  # kept on the device, which would else wait for them in every step
def _weights(source_px: int, side_px: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(side, S): row i holds what each source pixel contributes to pixel i."""
    size = (side_px, source_px)
    with torch.inference_mode(False), torch.no_grad():  # a training may follow an evaluation
        columns = torch.eye(source_px, device="cpu")[None, None]  # images e_1 .. e_S, side by side
        weights = F.interpolate(columns, size=size, mode="bilinear", antialias=True)[0, 0]
        return weights.to(device, dtype)


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
