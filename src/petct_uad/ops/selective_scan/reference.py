"""The selective scan in plain PyTorch: the oracle of the tests and the fallback."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from petct_uad.ops.selective_scan.directions import visit


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


def _states(dt: Tensor, dx: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    """The L states (P, K, B, N, E); unbind once, since indexing step by step is slow."""
    rates = a[:, :, None]  # (P, K, 1, N, E)
    state = torch.zeros_like(rates[..., :1, :1])
    states = []
    for dt_t, dx_t, b_t in zip(dt.unbind(3), dx.unbind(3), b.unbind(3), strict=True):
        state = torch.exp(dt_t[..., None, :] * rates) * state + b_t[..., None] * dx_t[..., None, :]
        states.append(state)
    return states
