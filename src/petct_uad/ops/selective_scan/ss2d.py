"""SS2D, the two-dimensional selective scan block of VMamba, for several branches in one call."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from petct_uad.core.params.base import ScanBackend
from petct_uad.ops.products import branch_products
from petct_uad.ops.selective_scan.reference import (
    DIRECTIONS,
    depthwise_conv_silu_reference,
    gated_norm_reference,
)
from petct_uad.ops.selective_scan.scan import resolve_backend, selective_scan, widened


class SS2D(nn.Module):
    """Projection, depthwise convolution, scan in four directions, gate, projection.

    Branches have separate weights and never exchange anything: they are stacked so that PET and CT
    cost one call. Everything stays channels-last. The LayerNorm before the block and the residual
    around it belong to the caller.

    Liu et al., VMamba, arXiv:2401.10166, section 4.3 and Fig. 4; initial values as in Mamba,
    arXiv:2312.00752, section 3.6.

    Example:
        >>> block = SS2D(8, state=4, expand=2, branches=2, backend="reference")
        >>> block(torch.zeros(2, 1, 3, 5, 8)).shape
        torch.Size([2, 1, 3, 5, 8])
    """

    def __init__(
        self, dim: int, *, state: int, expand: int, branches: int, backend: ScanBackend
    ) -> None:
        super().__init__()
        inner, rank = expand * dim, math.ceil(dim / 16)
        self.inner, self.rank, self.state, self.backend = inner, rank, state, backend
        groups = (branches, DIRECTIONS)
        self.in_proj = _linear(branches, dim, 2 * inner, fan_in=dim)
        self.conv_weight = _linear(branches, 3, 3, inner, fan_in=9)
        self.conv_bias = _linear(branches, inner, fan_in=9)
        self.x_proj = _linear(branches, inner, DIRECTIONS * (rank + 2 * state), fan_in=inner)
        self.dt_proj = _linear(*groups, rank, inner, fan_in=rank)
        self.dt_bias = nn.Parameter(_initial_dt_bias(*groups, inner))
        self.a_log = nn.Parameter(_initial_a_log(*groups, state, inner))
        self.d = nn.Parameter(torch.ones(*groups, inner))
        self.norm_weight = nn.Parameter(torch.ones(branches, inner))
        self.norm_bias = nn.Parameter(torch.zeros(branches, inner))
        self.out_proj = _linear(branches, inner, dim, fan_in=inner)

    def forward(self, tokens: Tensor) -> Tensor:
        """(branches, B, H, W, dim) to the same shape."""
        branches, batch, height, width, dim = tokens.shape
        inner_shape = (branches, batch, height, width, self.inner)
        convolve, gated_norm = self._blocks(tokens)
        # Under autocast the projections alone run in half precision.
        mixed = widened(branch_products(tokens.reshape(branches, -1, dim), self.in_proj))
        x, z = torch.split(mixed, self.inner, dim=-1)  # (P, B L, E) each
        x = convolve(x.view(inner_shape), self.conv_weight, self.conv_bias)
        y = self._scan(x.view(branches, batch, -1, self.inner), height, width)
        y = gated_norm(y.view(inner_shape), z.view(inner_shape), self.norm_weight, self.norm_bias)
        y = y.view(branches, -1, self.inner)
        return branch_products(y, self.out_proj).view(tokens.shape)

    def _scan(self, x: Tensor, height: int, width: int) -> Tensor:
        """Scan with weights that depend on the input: (P, B, L, E) to the same."""
        branches, batch, length, inner = x.shape
        mixed = branch_products(x.view(branches, -1, inner), self.x_proj)
        mixed = mixed.view(branches, batch, length, DIRECTIONS, -1)
        low_rank, b, c = torch.split(mixed, [self.rank, self.state, self.state], dim=-1)
        # (P K, B L, R) times (P K, R, E), so that delta comes out as the scan reads it.
        low_rank = low_rank.permute(0, 3, 1, 2, 4).reshape(branches * DIRECTIONS, -1, self.rank)
        delta = torch.bmm(low_rank, self.dt_proj.flatten(0, 1))
        delta = delta.view(branches, DIRECTIONS, batch, length, inner)
        rates, grid = -self.a_log.exp(), (height, width)
        return selective_scan(
            x, delta, self.dt_bias, rates, b, c, self.d, grid, backend=self.backend
        )

    def _blocks(self, tokens: Tensor) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
        """Convolution and gated norm, compiled where the scan is."""
        if resolve_backend(self.backend, tokens.device, tokens.dtype) != "numba" or self.inner % 16:
            return depthwise_conv_silu_reference, gated_norm_reference
        from petct_uad.ops.selective_scan.numba_blocks import (
            depthwise_conv_silu_numba,
            gated_norm_numba,
        )

        return depthwise_conv_silu_numba, gated_norm_numba


def _linear(*shape: int, fan_in: int) -> nn.Parameter:
    """Uniform within 1 / sqrt(fan_in), as nn.Linear and nn.Conv2d start."""
    bound = fan_in**-0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def _initial_dt_bias(*shape: int) -> Tensor:
    """Inverse softplus of step sizes that are log-uniform in [1e-3, 1e-1]."""
    step = torch.empty(shape).uniform_(math.log(1e-3), math.log(1e-1)).exp()
    return step + torch.log(-torch.expm1(-step))


def _initial_a_log(branches: int, directions: int, state: int, inner: int) -> Tensor:
    """Decay rates 1 to N in every channel."""
    rates = torch.arange(1.0, state + 1).log()[:, None]
    return rates.expand(branches, directions, state, inner).clone()
