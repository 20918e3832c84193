"""The selective scan on a GPU, through mamba-ssm's kernel.

mamba-ssm does not import without CUDA, so it is imported on the first call.
"""

from __future__ import annotations

from torch import Tensor

from petct_uad.ops.selective_scan.reference import visit


def selective_scan_cuda(  # noqa: PLR0917
    u: Tensor,
    delta: Tensor,
    delta_bias: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    order: Tensor,
) -> Tensor:
    """One call of ``selective_scan_fn``; shapes are those of ``scan.selective_scan``.

    The kernel has one scan order and one batch, so branches and directions become groups:
    u and delta (B, P K E, L), A (P K E, N), B and C (B, P K, N, L), D and delta bias (P K E).
    """
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn  # type: ignore[import-not-found]

    branches, directions, batch, length, channels = delta.shape
    x = u[:, None].expand_as(delta)
    y = selective_scan_fn(
        _channels_first(visit(x, order)),
        _channels_first(visit(delta, order)),
        a.transpose(2, 3).reshape(-1, a.shape[2]),
        _groups(b, order),
        _groups(c, order),
        d.flatten(),
        delta_bias=delta_bias.flatten(),
        delta_softplus=True,
    )  # (B, P K E, L)
    y = y.view(batch, branches, directions, channels, length).permute(1, 2, 0, 4, 3)
    summed: Tensor = visit(y, order.argsort(dim=1)).sum(dim=1)
    return summed


def _channels_first(tokens: Tensor) -> Tensor:
    """(P, K, B, L, E) to (B, P K E, L)."""
    return tokens.permute(2, 0, 1, 4, 3).flatten(1, 3)


def _groups(tokens: Tensor, order: Tensor) -> Tensor:
    """(P, B, L, K, N) in visiting order as (B, P K, N, L)."""
    visited = visit(tokens.permute(0, 3, 1, 2, 4), order)
    return visited.permute(2, 0, 1, 4, 3).flatten(1, 2).contiguous()
