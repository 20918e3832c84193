"""From coarse anomaly grids to smooth maps, and from maps to image scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Literal

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor
from torch.nn import functional as F

_REFERENCE_SIDE_PX = 256
MIN_SPREAD = 1e-6


def smooth_maps(grids: Tensor, side_px: int, sigma_px: float) -> Tensor:
    """(..., h, w) to (..., S, S): bilinear, then a Gaussian of ``sigma_px`` at 256 px.

    Both are linear and act on rows and columns alone, so together they are a product with one
    matrix on either side: at 128 px a hundredth of the time of a Gaussian of two dimensions.
    """
    sigma = sigma_px * side_px / _REFERENCE_SIDE_PX
    if sigma > 0:
        down, along = (_spread(cells, side_px, sigma).to(grids) for cells in grids.shape[-2:])
        return down.T @ grids @ along
    flat = grids.reshape(-1, 1, *grids.shape[-2:])
    maps = F.interpolate(flat, size=(side_px, side_px), mode="bilinear", align_corners=False)
    return maps.reshape(*grids.shape[:-2], side_px, side_px)


@cache
def _spread(cells: int, side_px: int, sigma_px: float) -> Tensor:
    """(cells, S): what each cell of a line gives to S pixels, enlarged and then smoothed."""
    # Four standard deviations hold all but 1e-4 of a Gaussian; reflection needs a radius < S.
    radius = min(max(round(4 * sigma_px), 1), side_px - 1)
    centres = (np.arange(side_px) + 0.5) * cells / side_px - 0.5
    lines = [np.interp(centres, np.arange(cells), one) for one in np.eye(cells)]
    smooth = gaussian_filter1d(np.stack(lines), sigma_px, radius=radius, mode="mirror")
    return torch.from_numpy(smooth).float()


def join_maps(
    maps: Iterable[Tensor], size: Sequence[int], mode: Literal["nearest", "bilinear"]
) -> Tensor:
    """Maps (B, C_k, h_k, w_k) of several strides on one grid, side by side: (B, sum C_k, h, w)."""
    return torch.cat([F.interpolate(x, size=tuple(size), mode=mode) for x in maps], 1)


def score_maps(
    maps: Tensor, how: Literal["top", "max", "mean"], top_fraction: float = 0.01
) -> Tensor:
    """(B, S, S) to (B,): the maximum, the mean, or the mean of the highest fraction of pixels."""
    pixels = maps.flatten(1)
    if how == "max":
        return pixels.amax(1)
    if how == "mean":
        return pixels.mean(1)
    count = max(round(top_fraction * pixels.shape[1]), 1)
    return pixels.topk(count, dim=1).values.mean(1)


def mean_and_spread(maps: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each map channel, over all images and pixels.

    Args:
        maps: batches (K, B, S, S).

    Returns:
        Two tensors (K,) float32.
    """
    moments = [
        torch.stack([x.sum(1), x.square().sum(1), torch.full_like(x[:, 0], x.shape[1])])
        for x in (batch.double().flatten(1) for batch in maps)
    ]
    total, squares, count = torch.stack(moments).sum(0)  # (K,) each
    mean = total / count
    spread = (squares / count - mean.square()).clamp_min(0).sqrt()
    return mean.float(), spread.clamp_min(MIN_SPREAD).float()
