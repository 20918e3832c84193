"""One selective scan, four interchangeable implementations.

The recurrence is Eqs. 2-3 of Mamba (Gu and Dao, arXiv:2312.00752, section 3.2), with SS2D's
directions of VMamba (Liu et al., arXiv:2401.10166, section 4.3). Kernels of ours take them as index
orders, so that no flipped or transposed copy of the tokens is ever made; mamba-ssm's needs one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from petct_uad.core.console import console
from petct_uad.core.errors import ParamsError
from petct_uad.core.params.base import ScanBackend
from petct_uad.ops.selective_scan.reference import cross_scan_order, selective_scan_reference

ResolvedBackend = Literal["reference", "numba", "cuda", "triton"]

# Of each device, the fastest first.
_FAST: dict[str, tuple[ResolvedBackend, ...]] = {"cpu": ("numba",), "cuda": ("cuda", "triton")}

# Scanned in float32 by every backend: a state sums over all tokens.
_HALF = (torch.bfloat16, torch.float16)

_NUMBA_ADVICE = "pip install numba"
_CUDA_ADVICE = "pip install --no-build-isolation '.[gpu]' on a machine with nvcc and a CUDA torch"
_TRITON_ADVICE = "pip install triton"


def selective_scan(  # noqa: PLR0917
    u: Tensor,
    delta: Tensor,
    delta_bias: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    grid: tuple[int, int],
    *,
    backend: ScanBackend,
) -> Tensor:
    """Scan the L tokens of an image in SS2D's K = 4 directions; sum the outputs where they lie.

    With ``dt = softplus(delta + delta_bias)`` and tokens visited as
    :func:`reference.cross_scan_order` says::

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
        grid: height and width in tokens, L in all; tokens come row by row.
        backend: which implementation; ``auto`` takes the fastest that is there.

    Returns:
        (P, B, L, E), the sum over directions; float32 where an input is of half precision, as
        under autocast. On the meta device only its shape.

    Raises:
        ParamsError: the backend asked for cannot run here.
    """
    if u.is_meta:
        return torch.empty_like(u)
    name = resolve_backend(backend, u.device, u.dtype)
    way = grid if name == "cuda" else cross_scan_order(*grid, u.device)
    with torch.autocast(u.device.type, enabled=False):
        return implementation(name)(*map(widened, (u, delta, delta_bias, a, b, c, d)), way)


def widened(tensor: Tensor) -> Tensor:
    """Half precision as float32, anything else as it is."""
    return tensor.float() if tensor.dtype in _HALF else tensor


def resolve_backend(
    backend: ScanBackend, device: torch.device, dtype: torch.dtype = torch.float32
) -> ResolvedBackend:
    """The implementation that ``backend`` means for tensors on ``device``, for a run's record.

    ``auto`` takes the first of the device's fast ones that is installed and imports, else the
    reference, and says once how to get one.

    Raises:
        ParamsError: a backend was asked for by name and cannot run here.
    """
    if backend == "reference" or device.type == "meta":
        return "reference"
    if backend == "auto":
        try:
            return fastest_backend(device, dtype)
        except ParamsError as error:
            _say_once(str(error))
            return "reference"
    fast = _FAST.get(device.type, ())
    if backend not in fast:
        names = ", ".join(map(repr, ("auto", "reference", *fast)))
        raise ParamsError(
            f"selective scan: backend {backend!r} does not run on {device.type} tensors; "
            f"expected one of {names}"
        )
    if reason := _in_the_way(backend, dtype):
        raise ParamsError(f"selective scan: backend {backend!r} cannot run here: {reason}")
    return backend


def fastest_backend(device: torch.device, dtype: torch.dtype = torch.float32) -> ResolvedBackend:
    """The first of the device's fast ones that runs here.

    Raises:
        ParamsError: none does; says why, and what to install.
    """
    reasons = {name: _in_the_way(name, dtype) for name in _FAST.get(device.type, ())}
    for name, reason in reasons.items():
        if reason is None:
            return name
    found = "; ".join(filter(None, reasons.values())) or f"no other runs on {device.type}"
    raise ParamsError(f"selective scan: using the slow PyTorch reference: {found}")


def _in_the_way(backend: ResolvedBackend, dtype: torch.dtype) -> str | None:
    taken = dtype in (torch.float32, *_HALF)
    return _missing(backend) or (None if taken else f"{backend} takes float32 only, got {dtype}")


def implementation(name: ResolvedBackend) -> Callable[..., Tensor]:
    """The function behind a name: of the seven tensors, and an order (K, L), ``cuda`` of a grid."""
    if name == "numba":
        from petct_uad.ops.selective_scan.numba_cpu import selective_scan_numba

        return selective_scan_numba
    if name == "cuda":
        from petct_uad.ops.selective_scan.cuda import selective_scan_cuda

        return selective_scan_cuda
    if name == "triton":
        from petct_uad.ops.selective_scan.triton_gpu import selective_scan_triton

        return selective_scan_triton
    return selective_scan_reference


@cache
def _missing(backend: ResolvedBackend) -> str | None:
    """What is in the way of ``backend``, and what to install, if anything."""
    if backend == "numba":
        return _not_importable("numba", "numba", _NUMBA_ADVICE)
    if not torch.cuda.is_available():
        return "torch sees no GPU here"
    if backend == "triton":
        return _not_importable("triton", "triton", _TRITON_ADVICE)
    return _not_importable("mamba-ssm", "mamba_ssm.ops.selective_scan_interface", _CUDA_ADVICE)


def _not_importable(package: str, module: str, advice: str) -> str | None:
    if find_spec(module.split(".", maxsplit=1)[0]) is None:
        return f"{package} is not installed ({advice})"
    try:
        import_module(module)
    except Exception as error:  # compiled for another torch, CUDA or numpy, it may raise anything
        return f"{package} is installed but does not import: {error} ({advice})"
    return None


@cache
def _say_once(message: str) -> None:
    console.print(message, markup=False, soft_wrap=True)
