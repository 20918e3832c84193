"""The scan and the blocks around it in plain PyTorch: the oracle of the tests and the fallback."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

DIRECTIONS = 4  # in which SS2D walks an image
NORM_EPS = 1e-5


@lru_cache(maxsize=64)
def cross_scan_order(height: int, width: int, device: torch.device) -> Tensor:
    """(4, height * width) int64 token indices: by rows, by columns, and both backwards.

    VMamba (arXiv:2401.10166), section 4.3, Fig. 3.
    """
    # A training that follows an evaluation could not keep a cached inference tensor for gradients.
    with torch.inference_mode(False):
        rows = torch.arange(height * width, device=device)
        columns = rows.view(height, width).T.reshape(-1)
        return torch.stack([rows, columns, rows.flip(0), columns.flip(0)])


def visit(tokens: Tensor, order: Tensor) -> Tensor:
    """(P, K, B, L, F) tokens, those of direction k in the sequence ``order[k]``."""
    return tokens.gather(3, order[None, :, None, :, None].expand_as(tokens))


def selective_scan_reference(  # noqa: PLR0917
    u: Tensor,
    delta: Tensor,
    delta_bias: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    order: Tensor,
) -> Tensor:
    """Step through the recurrence; shapes are those of ``scan.selective_scan``."""
    dt = F.softplus(visit(delta + delta_bias[:, :, None, None], order))  # (P, K, B, L, E)
    x = visit(u[:, None].expand_as(delta), order)
    states = _states(dt, dt * x, a, visit(b.permute(0, 3, 1, 2, 4), order))
    read = visit(c.permute(0, 3, 1, 2, 4), order).unbind(3)
    # einsum reads each state at once; a product and a sum would hold N copies of the output.
    outputs = [torch.einsum("pkbn,pkbne->pkbe", r, h) for r, h in zip(read, states, strict=True)]
    y = torch.stack(outputs, dim=3) + d[:, :, None, None] * x
    return visit(y, order.argsort(dim=1)).sum(dim=1)


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


def _states(dt: Tensor, dx: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    """The L states (P, K, B, N, E); unbind once, since indexing step by step is slow."""
    rates = a[:, :, None]  # (P, K, 1, N, E)
    state = torch.zeros_like(rates[..., :1, :1])
    states = []
    for dt_t, dx_t, b_t in zip(dt.unbind(3), dx.unbind(3), b.unbind(3), strict=True):
        state = torch.exp(dt_t[..., None, :] * rates) * state + b_t[..., None] * dx_t[..., None, :]
        states.append(state)
    return states
