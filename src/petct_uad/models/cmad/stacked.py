"""Layers with one set of weights per branch, applied to all branches in one call.

On a CPU the cost of a small model is its number of calls: stacking PET and CT halves it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from petct_uad.ops.products import branch_products


class StackedLinear(nn.Module):
    """``nn.Linear`` per branch: (K, ..., in) to (K, ..., out)."""

    def __init__(self, branches: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5  # as nn.Linear starts
        self.weight = nn.Parameter(torch.empty(branches, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(branches, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        rows = x.reshape(x.shape[0], -1, x.shape[-1])
        return branch_products(rows, self.weight, self.bias).view(*x.shape[:-1], -1)


class StackedLayerNorm(nn.Module):
    """``nn.LayerNorm`` per branch over the last dimension of (K, B, N, d)."""

    def __init__(self, branches: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(branches, 1, 1, width))
        self.bias = nn.Parameter(torch.zeros(branches, 1, 1, width))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return torch.addcmul(self.bias, F.layer_norm(x, x.shape[-1:]), self.weight)
