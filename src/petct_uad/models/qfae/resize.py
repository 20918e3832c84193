"""Image resizing as two matrix products.

Antialiased like Pillow's, differentiable, and deterministic on a GPU, where the gradient of
torch's own antialiased interpolation is not.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def resize(images: Tensor, side_px: int) -> Tensor:
    """(B, C, S, S) to (B, C, side, side), bilinear; antialiased where it shrinks."""
    if images.shape[-1] == side_px:
        return images
    weights = _weights(images.shape[-1], side_px).to(images)
    return weights @ images @ weights.T


def _weights(source_px: int, side_px: int) -> Tensor:
    """(side, S): row i holds what each source pixel contributes to pixel i."""
    columns = torch.eye(source_px, device="cpu")[None, None]  # the images e_1 .. e_S, side by side
    size = (side_px, source_px)
    return F.interpolate(columns, size=size, mode="bilinear", antialias=True)[0, 0]
