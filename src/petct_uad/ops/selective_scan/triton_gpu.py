"""The selective scan on a GPU, compiled by Triton, which torch's wheel for Linux brings: no nvcc.

A program is one branch, direction and sample with some channels. It walks the tokens in the order
of its direction, so that nothing is flipped, transposed or gathered, and keeps all states of its
channels in registers. The forward pass keeps the states before every 16th token, the backward pass
recomputes those between, so memory is linear in L at 1/16 of all states. No program adds to what
another writes: sums over programs come afterwards, so results do not depend on timing.

With ``TRITON_INTERPRET=1`` in the environment when this is imported, the kernels run in Triton's
interpreter, on a CPU too, which is how they are tested.
"""

# Triton infers the types of compiled functions, and its decorators have none.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
# ruff: noqa: PLR0917

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 16  # tokens
_STATES_AND_CHANNELS = 512  # of a program: sixteen values per thread of a warp


def selective_scan_triton(
    u: Tensor,
    delta: Tensor,
    delta_bias: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    order: Tensor,
) -> Tensor:
    """Forward and backward in one launch each; shapes are those of ``scan.selective_scan``.

    Every tensor is of one type, float32 or float64; ``order`` is (K, L) int64, each row any
    permutation of the tokens.
    """
    found: Tensor = _Scan.apply(u, delta, delta_bias, a, b, c, d, order)
    return found


class _Scan(torch.autograd.Function):
    """Between autograd and the kernels."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        inputs = [tensor.detach().contiguous() for tensor in tensors]
        u, delta, _, a, *_ = inputs
        branches, directions, batch, length, channels = delta.shape
        chunks, states = -(-length // CHUNK), a.shape[2]
        y = torch.empty_like(delta)  # of each direction, summed below
        kept = u.new_empty(branches * directions * batch, chunks, states, channels)
        with torch.cuda.device_of(u):
            _forward[_programs(delta, a)](
                *inputs, y, kept, batch, directions, length, channels, states, **_sizes(a)
            )
        ctx.save_for_backward(*inputs, kept)
        return y.sum(dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, kept = ctx.saved_tensors
        u, delta, _, a, b, *_ = inputs
        branches, directions, batch, length, channels = delta.shape
        programs, states = _programs(delta, a), a.shape[2]
        grad_u, grad_delta = torch.empty_like(delta), torch.empty_like(delta)
        grad_b, grad_c = (u.new_empty(programs[1], *b.shape) for _ in range(2))
        grad_a = u.new_empty(branches, directions, batch, states, channels)
        grad_d = u.new_empty(branches, directions, batch, channels)
        between = u.new_empty(branches * directions * batch, CHUNK, states, channels)
        with torch.cuda.device_of(u):
            _backward[programs](
                *inputs, kept, between, grad_y.contiguous(),
                grad_u, grad_delta, grad_a, grad_b, grad_c, grad_d,
                batch, directions, length, channels, states, **_sizes(a),
            )  # fmt: skip
        return (
            grad_u.sum(dim=1),
            grad_delta,
            grad_delta.sum(dim=(2, 3)),
            grad_a.sum(dim=2),
            grad_b.sum(dim=0),
            grad_c.sum(dim=0),
            grad_d.sum(dim=2),
            None,
        )


def _sizes(a: Tensor) -> dict[str, int]:
    """Powers of two, as Triton's blocks must be; what exceeds the tensors is masked."""
    states = triton.next_power_of_2(a.shape[2])
    channels = min(max(_STATES_AND_CHANNELS // states, 16), triton.next_power_of_2(a.shape[3]))
    return {"chunk_t": CHUNK, "block_n": states, "block_e": channels, "num_warps": 1}


def _programs(delta: Tensor, a: Tensor) -> tuple[int, int]:
    """Branches, directions and samples; blocks of channels."""
    branches, directions, batch, _, channels = delta.shape
    return branches * directions * batch, -(-channels // _sizes(a)["block_e"])


@triton.jit
def _softplus(z):
    # log1p(x) = x log(1 + x) / ((1 + x) - 1), which loses nothing where x is small.
    x = tl.exp(-tl.abs(z))
    above = 1.0 + x
    share = tl.where(above == 1.0, 1.0, tl.log(above)) / tl.where(above == 1.0, 1.0, above - 1.0)
    return tl.maximum(z, 0.0) + x * share


@triton.jit
def _sigmoid(z):
    x = tl.exp(-tl.abs(z))
    return tl.where(z >= 0.0, 1.0, x) / (1.0 + x)


@triton.jit
def _program(
    delta_bias, a, d,
    batch, directions, length, channels, states,
    block_n: tl.constexpr, block_e: tl.constexpr,
):  # fmt: skip
    """Which tokens, states and channels this program has, and what does not depend on tokens."""
    sequence = tl.program_id(0).to(tl.int64)  # of branch, direction and sample
    group = sequence // batch  # branch and direction
    tokens = (group // directions * batch + sequence % batch) * length
    k = group % directions
    e = tl.program_id(1).to(tl.int64) * block_e + tl.arange(0, block_e)
    n = tl.arange(0, block_n)
    is_e, is_n = e < channels, n < states
    is_state = is_n[:, None] & is_e[None, :]
    at = n[:, None] * channels + e[None, :]
    rates = tl.load(a + group * states * channels + at, mask=is_state, other=0.0)
    bias = tl.load(delta_bias + group * channels + e, mask=is_e, other=0.0)
    skip = tl.load(d + group * channels + e, mask=is_e, other=0.0)
    return sequence, tokens, k, e, n, is_e, is_n, is_state, at, rates, bias, skip


@triton.jit
def _forward(
    u, delta, delta_bias, a, b, c, d, order, y, kept,
    batch, directions, length, channels, states,
    chunk_t: tl.constexpr, block_n: tl.constexpr, block_e: tl.constexpr,
):  # fmt: skip
    sequence, tokens, k, e, n, is_e, is_n, is_state, at, rates, bias, skip = _program(
        delta_bias, a, d, batch, directions, length, channels, states, block_n, block_e
    )
    state = tl.zeros((block_n, block_e), dtype=u.dtype.element_ty)
    chunks = (length + chunk_t - 1) // chunk_t
    for t in range(0, length):
        if t % chunk_t == 0:
            place = (sequence * chunks + t // chunk_t) * states * channels
            tl.store(kept + place + at, state, mask=is_state)
        token = tl.load(order + k * length + t)
        row = (sequence * length + token) * channels + e
        x = tl.load(u + (tokens + token) * channels + e, mask=is_e, other=0.0)
        dt = _softplus(tl.load(delta + row, mask=is_e, other=0.0) + bias)
        column = ((tokens + token) * directions + k) * states + n
        write = tl.load(b + column, mask=is_n, other=0.0)
        read = tl.load(c + column, mask=is_n, other=0.0)
        state = tl.exp(dt[None, :] * rates) * state + write[:, None] * (dt * x)[None, :]
        tl.store(y + row, tl.sum(read[:, None] * state, axis=0) + skip * x, mask=is_e)


@triton.jit
def _backward(
    u, delta, delta_bias, a, b, c, d, order, kept, between, grad_y,
    grad_u, grad_delta, grad_a, grad_b, grad_c, grad_d,
    batch, directions, length, channels, states,
    chunk_t: tl.constexpr, block_n: tl.constexpr, block_e: tl.constexpr,
):  # fmt: skip
    sequence, tokens, k, e, n, is_e, is_n, is_state, at, rates, bias, skip = _program(
        delta_bias, a, d, batch, directions, length, channels, states, block_n, block_e
    )
    carry = tl.zeros((block_n, block_e), dtype=u.dtype.element_ty)  # what later tokens send back
    to_rates = tl.zeros((block_n, block_e), dtype=u.dtype.element_ty)
    to_skip = tl.zeros((block_e,), dtype=u.dtype.element_ty)
    # Sums over the channels of a block, of every token of every sequence.
    partial = tl.program_id(1).to(tl.int64) * (tl.num_programs(0) * length * states)
    chunks = (length + chunk_t - 1) // chunk_t
    for done in range(0, chunks):
        chunk = chunks - 1 - done
        start = chunk * chunk_t
        count = tl.minimum(chunk_t, length - start)
        size = states * channels
        state = tl.load(kept + (sequence * chunks + chunk) * size + at, mask=is_state, other=0.0)
        for i in range(0, count):
            tl.store(between + (sequence * chunk_t + i) * size + at, state, mask=is_state)
            token = tl.load(order + k * length + start + i)
            x = tl.load(u + (tokens + token) * channels + e, mask=is_e, other=0.0)
            row = (sequence * length + token) * channels + e
            dt = _softplus(tl.load(delta + row, mask=is_e, other=0.0) + bias)
            column = ((tokens + token) * directions + k) * states + n
            write = tl.load(b + column, mask=is_n, other=0.0)
            state = tl.exp(dt[None, :] * rates) * state + write[:, None] * (dt * x)[None, :]
        tl.debug_barrier()  # what one thread has stored another may load
        for j in range(0, count):
            i = count - 1 - j
            before = tl.load(
                between + (sequence * chunk_t + i) * size + at, mask=is_state, other=0.0
            )
            token = tl.load(order + k * length + start + i)
            x = tl.load(u + (tokens + token) * channels + e, mask=is_e, other=0.0)
            row = (sequence * length + token) * channels + e
            z = tl.load(delta + row, mask=is_e, other=0.0) + bias
            dt = _softplus(z)
            column = ((tokens + token) * directions + k) * states + n
            write = tl.load(b + column, mask=is_n, other=0.0)
            read = tl.load(c + column, mask=is_n, other=0.0)
            upstream = tl.load(grad_y + (tokens + token) * channels + e, mask=is_e, other=0.0)
            decayed = tl.exp(dt[None, :] * rates) * before
            after = decayed + write[:, None] * (dt * x)[None, :]
            to_read = tl.sum(after * upstream[None, :], axis=1)
            tl.store(grad_c + partial + column, to_read, mask=is_n)
            carry += read[:, None] * upstream[None, :]
            to_write = tl.sum(carry * (dt * x)[None, :], axis=1)
            tl.store(grad_b + partial + column, to_write, mask=is_n)
            written = tl.sum(carry * write[:, None], axis=0)
            to_exponent = carry * decayed
            to_rates += to_exponent * dt[None, :]
            to_dt = written * x + tl.sum(to_exponent * rates, axis=0)
            tl.store(grad_u + row, written * dt + skip * upstream, mask=is_e)
            tl.store(grad_delta + row, to_dt * _sigmoid(z), mask=is_e)
            to_skip += upstream * x
            carry *= tl.exp(dt[None, :] * rates)
        tl.debug_barrier()  # before the next chunk overwrites what this one has read
    tl.store(grad_a + sequence * states * channels + at, to_rates, mask=is_state)
    tl.store(grad_d + sequence * channels + e, to_skip, mask=is_e)
