"""The selective scan on a GPU, through mamba-ssm's kernel.

mamba-ssm does not import without CUDA, so it is imported on the first call.
"""

from __future__ import annotations

import torch
from torch import Tensor


def selective_scan_cuda(  # noqa: PLR0917
    u: Tensor,
    delta: Tensor,
    delta_bias: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    grid: tuple[int, int],
) -> Tensor:
    """One call of ``selective_scan_fn``; shapes are those of ``scan.selective_scan``.

    The kernel has one scan order and one batch, so branches and directions become groups:
    u and delta (B, P K E, L), A (P K E, N), B and C (B, P K, N, L), D and delta bias (P K E).
    Orders become flips and transposes, whose gradients are the same again; a gather's gradient
    would be a scatter, which on a GPU is sorted first, or sums in an order of its own.
    """
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn  # type: ignore[import-not-found]

    branches, directions, batch, length, channels = delta.shape
    y = selective_scan_fn(
        visited(u[:, None].expand_as(delta).permute(2, 0, 1, 4, 3), grid).flatten(1, 3),
        visited(delta.permute(2, 0, 1, 4, 3), grid).flatten(1, 3),
        a.transpose(2, 3).reshape(-1, a.shape[2]),
        visited(b.permute(1, 0, 3, 4, 2), grid).flatten(1, 2),
        visited(c.permute(1, 0, 3, 4, 2), grid).flatten(1, 2),
        d.flatten(),
        delta_bias=delta_bias.flatten(),
        delta_softplus=True,
    )  # (B, P K E, L)
    y = y.view(batch, branches, directions, channels, length)
    summed: Tensor = laid_back(y, grid).sum(dim=2).permute(1, 0, 3, 2)
    return summed


def visited(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """(..., 4, F, L) tokens row by row, each direction's in the sequence of its visits.

    The sequences are those of ``reference.cross_scan_order``: rows, columns, both backwards.
    """
    rows, columns, rows_back, columns_back = tokens.unbind(-3)
    down, up = _turned(columns, grid), _turned(columns_back, grid).flip(-1)
    return torch.stack([rows, down, rows_back.flip(-1), up], -3)


def laid_back(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Undo :func:`visited`."""
    across = grid[1], grid[0]
    rows, down, rows_back, up = tokens.unbind(-3)
    columns, columns_back = _turned(down, across), _turned(up.flip(-1), across)
    return torch.stack([rows, columns, rows_back.flip(-1), columns_back], -3)


def _turned(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """(..., H W) row by row to column by column."""
    return tokens.reshape(*tokens.shape[:-1], *grid).transpose(-1, -2).flatten(-2)
