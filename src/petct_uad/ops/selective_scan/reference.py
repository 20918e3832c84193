"""The selective scan in plain PyTorch: the oracle of the tests and the fallback."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def selective_scan_reference(
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
    dt = F.softplus(_visit(delta + delta_bias[:, :, None, None], order))  # (P, K, B, L, E)
    x = _visit(u[:, None].expand_as(delta), order)
    states = _states(dt, dt * x, a, _visit(b.permute(0, 3, 1, 2, 4), order))
    read = _visit(c.permute(0, 3, 1, 2, 4), order).unbind(3)
    # einsum reads each state at once; a product and a sum would hold N copies of the output.
    outputs = [torch.einsum("pkbn,pkbne->pkbe", r, h) for r, h in zip(read, states, strict=True)]
    y = torch.stack(outputs, dim=3) + d[:, :, None, None] * x
    return _visit(y, order.argsort(dim=1)).sum(dim=1)


def _visit(tokens: Tensor, order: Tensor) -> Tensor:
    """(P, K, B, L, F) tokens, those of direction k in the sequence ``order[k]``."""
    index = order[None, :, None, :, None].expand_as(tokens)
    return tokens.gather(3, index)


def _states(dt: Tensor, dx: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    """The L states (P, K, B, N, E); unbind once, since indexing step by step is slow."""
    rates = a[:, :, None]  # (P, K, 1, N, E)
    state = torch.zeros_like(rates[..., :1, :1])
    states = []
    for dt_t, dx_t, b_t in zip(dt.unbind(3), dx.unbind(3), b.unbind(3), strict=True):
        state = torch.exp(dt_t[..., None, :] * rates) * state + b_t[..., None] * dx_t[..., None, :]
        states.append(state)
    return states
