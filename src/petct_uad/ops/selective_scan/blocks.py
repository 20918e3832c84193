"""What surrounds the scan in SS2D, in plain PyTorch: the oracle and the fallback."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NORM_EPS = 1e-5


def depthwise_conv_silu_reference(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """SiLU of a 3x3 depthwise convolution with zero padding.

    Args:
        x: (P, B, H, W, E).
        weight: (P, 3, 3, E).
        bias: (P, E).

    Returns:
        (P, B, H, W, E).
    """
    branches, batch, height, width, channels = x.shape
    planes = x.permute(1, 0, 4, 2, 3).reshape(batch, -1, height, width)
    kernel = weight.permute(0, 3, 1, 2).reshape(-1, 1, 3, 3)
    planes = F.conv2d(planes, kernel, bias.flatten(), padding=1, groups=branches * channels)
    y = F.silu(planes).view(batch, branches, channels, height, width)
    return y.permute(1, 0, 3, 4, 2).contiguous()


def gated_norm_reference(y: Tensor, z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """LayerNorm(y) SiLU(z).

    Args:
        y: (P, B, H, W, E).
        z: (P, B, H, W, E) gate.
        weight: (P, E).
        bias: (P, E).

    Returns:
        (P, B, H, W, E).
    """
    normed = F.layer_norm(y, y.shape[-1:], eps=NORM_EPS)
    scale, shift = (p[:, None, None, None] for p in (weight, bias))
    return torch.addcmul(shift, normed, scale) * F.silu(z)
