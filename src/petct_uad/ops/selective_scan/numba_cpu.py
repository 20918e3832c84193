"""The selective scan compiled by numba for the CPU, forward and backward.

Work is cut into tasks of one branch, one sample and up to 64 channels. A task walks directions,
chunks of 16 tokens, pairs of states and vectors of 16 channels in a fixed order and writes to
places of its own, so the result does not depend on the number of threads. Tokens are the innermost
loop: a pair of states stays in registers over a chunk, everything else in the task's scratch, most
of which fits the L1 cache, and the decays of two tokens are computed at once. The forward pass
keeps the states before every chunk and the backward pass recomputes those within it, so memory is
linear in L at 1/16 of all states.
"""

# Numba infers the types of compiled functions, and its decorators have none.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
# ruff: noqa: PLR0917

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from numba import njit, prange
from torch import Tensor

from petct_uad.ops.selective_scan.exponentials import exp2, softplus, softplus_and_slope
from petct_uad.ops.selective_scan.kernels import kernel, run_kernel
from petct_uad.ops.selective_scan.memory import empty
from petct_uad.ops.selective_scan.simd import (
    COMPILE,
    LANES,
    add,
    aligned,
    broadcast,
    constant,
    fma,
    join,
    lane_sums,
    load,
    mul,
    prefetch,
    split,
    store,
    transpose,
)

CHUNK = 16  # tokens
VECTORS = 4
TASK_CHANNELS = VECTORS * LANES
_LOG2_E = 1.4426950408889634
_LN_2 = 0.6931471805599453

# Where things lie in the scratch of a task, in float32. One flat array, since each further array
# that a compiled function takes costs it eleven words per call. First (V, T, 16) each, five cache
# lines further apart than they fill: a load waits for a store just before it 4 KiB away.
_BLOCK = VECTORS * CHUNK * LANES + 5 * LANES
_DT, _DX, _OUT, _X, _GRAD_Y, _SLOPE, _GRAD_DX, _GRAD_DT = (i * _BLOCK for i in range(8))
# then (2, T, 16) each, for a pair of states:
_PAIR = 2 * CHUNK * LANES
_DECAY, _PAST, _GRAD_B, _GRAD_C = (8 * _BLOCK + i * _PAIR for i in range(4))
# then (2, V, 16), the gradients of d and of the bias:
_GRAD_D = 8 * _BLOCK + 4 * _PAIR
_GRAD_BIAS = _GRAD_D + TASK_CHANNELS
# and one record per state: (V, 16) three times.
_RECORDS = _GRAD_BIAS + TASK_CHANNELS
_RATE, _CARRY, _GRAD_RATE = (i * TASK_CHANNELS for i in range(3))
_RECORD = 3 * TASK_CHANNELS
# Last come the rows of ``bc`` (T, 2 S) and the gradients of its columns (2 S, T).


class Inputs(NamedTuple):
    """Contiguous arrays; shapes as in ``scan.selective_scan``, b and c side by side in ``bc``.

    S is N rounded up to a multiple of 16.
    """

    u: Any
    delta: Any
    delta_bias: Any
    a: Any
    bc: Any  # (P, B, L, K, 2 S)
    d: Any
    order: Any


class Gradients(NamedTuple):
    """What the backward pass writes; sums over samples or channel blocks are left to the caller."""

    u: Any
    delta: Any
    delta_bias: Any  # (B, P, K, E)
    a: Any  # (B, P, K, N, E)
    bc: Any  # (blocks, P, B, L, K, 2 S)
    d: Any  # (B, P, K, E)


class Place(NamedTuple):
    """A task and a direction: indices, and what follows from them."""

    branch: Any
    sample: Any
    block: Any
    k: Any
    group: Any  # branch and direction
    first: Any  # channel
    vectors: Any


class Span(NamedTuple):
    """The tokens of a chunk, counted in visiting order, and where things lie meanwhile."""

    start: Any
    count: Any
    before: Any  # in the checkpoints: the states before the chunk
    after: Any  # and those after it
    rows: Any  # in the scratch: b and c
    sums: Any  # and their gradients
    width: Any  # 2 S


@njit(**COMPILE)
def _place(task, k, inputs):
    batch, channels = inputs.u.shape[1], inputs.u.shape[3]
    blocks = (channels + TASK_CHANNELS - 1) // TASK_CHANNELS
    branch, sample, block = task // (blocks * batch), (task // blocks) % batch, task % blocks
    first = block * TASK_CHANNELS
    vectors = min(VECTORS, (channels - first) // LANES)
    return Place(branch, sample, block, k, branch * inputs.a.shape[1] + k, first, vectors)


@njit(**COMPILE)
def _span(task, k, chunk, inputs):
    length, width = inputs.u.shape[2], inputs.bc.shape[4]
    start = chunk * CHUNK
    chunks, states = (length + CHUNK - 1) // CHUNK, _even(inputs.a.shape[2])
    kept = ((task * inputs.a.shape[1] + k) * (chunks + 1) + chunk) * states * TASK_CHANNELS
    rows = _record(states)
    return Span(
        start, min(CHUNK, length - start), kept, kept + states * TASK_CHANNELS,
        rows, rows + CHUNK * width, width,
    )  # fmt: skip


@njit(**COMPILE)
def _record(n):
    return _RECORDS + n * _RECORD


@njit(**COMPILE)
def _even(states):
    """An odd number of states gets one more, which stays zero."""
    return states + states % 2


@njit(**COMPILE)
def _scratch(inputs):
    """Zeros."""
    width = inputs.bc.shape[4]
    return aligned(_record(_even(inputs.a.shape[2])) + 2 * CHUNK * width)


@njit(**COMPILE)
def _token(place, i, v, inputs):
    """Where channels of vector v of token i lie in u, y and their gradients."""
    batch, length, channels = inputs.u.shape[1:]
    row = (place.branch * batch + place.sample) * length + i
    return row * channels + place.first + v * LANES


@njit(**COMPILE)
def _step(place, i, v, inputs):
    """The same in delta and its gradient."""
    batch, length, channels = inputs.u.shape[1:]
    row = (place.group * batch + place.sample) * length + i
    return row * channels + place.first + v * LANES


@njit(**COMPILE)
def _row(place, i, inputs):
    """Where b and c of token i lie in ``bc`` and its gradient."""
    batch, length, directions, width = inputs.bc.shape[1:]
    row = (place.branch * batch + place.sample) * length + i
    return (row * directions + place.k) * width


@njit(**COMPILE)
def _begin(place, inputs, scratch):
    """The rates of a direction, times log2(e); sums at zero."""
    states, channels = inputs.a.shape[2:]
    for n in range(states):
        for v in range(place.vectors):
            at = _record(n) + v * LANES
            rate = load(inputs.a, (place.group * states + n) * channels + place.first + v * LANES)
            store(scratch, at + _RATE, mul(rate, constant(_LOG2_E)))
            store(scratch, at + _CARRY, constant(0.0))
            store(scratch, at + _GRAD_RATE, constant(0.0))
    for v in range(place.vectors):
        store(scratch, _GRAD_D + v * LANES, constant(0.0))
        store(scratch, _GRAD_BIAS + v * LANES, constant(0.0))


@njit(**COMPILE)
def _gather(place, span, inputs, scratch):
    """b and c of a chunk."""
    for t in range(span.count):
        row = _row(place, inputs.order[place.k, span.start + t], inputs)
        for j in range(0, span.width, LANES):
            store(scratch, span.rows + t * span.width + j, load(inputs.bc, row + j))
    for at in range(span.rows + span.count * span.width, span.sums, LANES):
        store(scratch, at, constant(0.0))


@njit(**COMPILE)
def _decays(v, t, rate1, rate2, scratch):
    """exp(dt a) of two tokens and two states, (2, 2, 16)."""
    dt1 = load(scratch, (v * CHUNK + t) * LANES + _DT)
    dt2 = load(scratch, (v * CHUNK + t + 1) * LANES + _DT)
    x = join(mul(dt1, rate1), mul(dt1, rate2), mul(dt2, rate1), mul(dt2, rate2))
    return exp2(x)


@njit(**COMPILE)
def _forward_pair(n, v, span, checkpoints, scratch):
    """States n and n + 1 of one vector of channels, over the tokens of a chunk."""
    one, two = _record(n) + v * LANES, _record(n + 1) + v * LANES
    rate1, rate2 = load(scratch, one + _RATE), load(scratch, two + _RATE)
    state = n * TASK_CHANNELS + v * LANES
    h1 = load(checkpoints, span.before + state)
    h2 = load(checkpoints, span.before + state + TASK_CHANNELS)
    for t in range(0, CHUNK, 2):
        decays = split(_decays(v, t, rate1, rate2, scratch))
        for i in range(2):
            at, row = (v * CHUNK + t + i) * LANES, span.rows + (t + i) * span.width + n
            b1, b2 = broadcast(scratch, row), broadcast(scratch, row + 1)
            row += span.width // 2
            c1, c2 = broadcast(scratch, row), broadcast(scratch, row + 1)
            dx = load(scratch, at + _DX)
            h1 = fma(decays[2 * i], h1, mul(b1, dx))
            h2 = fma(decays[2 * i + 1], h2, mul(b2, dx))
            store(scratch, at + _OUT, fma(c2, h2, fma(c1, h1, load(scratch, at + _OUT))))
    store(checkpoints, span.after + state, h1)
    store(checkpoints, span.after + state + TASK_CHANNELS, h2)


@njit(**COMPILE)
def _clear(at, span, scratch):
    """No input after the last token: the loops over states always run over whole chunks."""
    for t in range(span.count, CHUNK):
        store(scratch, at + t * LANES, constant(0.0))


@njit(**COMPILE)
def _prepare_forward(place, span, inputs, scratch):
    """dt, dt u and the skip of a chunk."""
    for v in range(place.vectors):
        channel = place.group * inputs.u.shape[3] + place.first + v * LANES
        bias, skip = load(inputs.delta_bias, channel), load(inputs.d, channel)
        for t in range(span.count):
            i = inputs.order[place.k, span.start + t]
            at = (v * CHUNK + t) * LANES
            x = load(inputs.u, _token(place, i, v, inputs))
            dt = softplus(add(load(inputs.delta, _step(place, i, v, inputs)), bias))
            store(scratch, at + _DT, dt)
            store(scratch, at + _DX, mul(dt, x))
            store(scratch, at + _OUT, mul(skip, x))
        for block in (_DT, _DX):
            _clear(block + v * CHUNK * LANES, span, scratch)


@njit(**COMPILE)
def _write_out(place, span, inputs, y, scratch):
    """Add a direction to the output."""
    for t in range(span.count):
        i = inputs.order[place.k, span.start + t]
        for v in range(place.vectors):
            token = _token(place, i, v, inputs)
            out = load(scratch, (v * CHUNK + t) * LANES + _OUT)
            store(y, token, out if place.k == 0 else add(out, load(y, token)))


@njit(**COMPILE)
def _fetch(place, chunk, n, inputs, by_token, by_step):
    """Bring a share of another chunk's tokens nearer, while a pair of states is at work.

    Memory would otherwise wait for arithmetic and arithmetic for memory, in turns.
    """
    length, states = inputs.u.shape[2], inputs.a.shape[2]
    share = (2 * CHUNK + states - 1) // states
    first = chunk * CHUNK + n // 2 * share
    for t in range(max(first, 0), min(first + share, chunk * CHUNK + CHUNK, length)):
        i = inputs.order[place.k, t]
        for v in range(place.vectors):
            for array in by_token:
                prefetch(array, _token(place, i, v, inputs))
            for array in by_step:
                prefetch(array, _step(place, i, v, inputs))


@njit(**COMPILE)
def _fetch_states(checkpoints, kept, n):
    """The same for a pair of states."""
    for i in range(0, 2 * TASK_CHANNELS, LANES):
        prefetch(checkpoints, kept + n * TASK_CHANNELS + i)


@njit(**COMPILE)
def _forward_direction(task, k, inputs, y, checkpoints, scratch):
    states = inputs.a.shape[2]
    place = _place(task, k, inputs)
    _begin(place, inputs, scratch)
    first = _span(task, k, 0, inputs)
    for i in range(first.before, first.after, LANES):
        store(checkpoints, i, constant(0.0))
    for chunk in range(checkpoints.shape[2] - 1):
        span = _span(task, k, chunk, inputs)
        _gather(place, span, inputs, scratch)
        _prepare_forward(place, span, inputs, scratch)
        for n in range(0, states, 2):
            _fetch(place, chunk + 1, n, inputs, (inputs.u, y), (inputs.delta,))
            _fetch_states(checkpoints, 2 * span.after - span.before, n)
            for v in range(place.vectors):
                _forward_pair(n, v, span, checkpoints, scratch)
        _write_out(place, span, inputs, y, scratch)


@kernel
def _forward(tasks, inputs, y, checkpoints):
    for task in prange(tasks):
        scratch = _scratch(inputs)
        for k in range(inputs.a.shape[1]):
            _forward_direction(task, k, inputs, y, checkpoints, scratch)


@njit(**COMPILE)
def _recompute_pair(n, v, span, checkpoints, scratch):
    """As _forward_pair, keeping decay and the state before each token; returns the last states."""
    one, two = _record(n) + v * LANES, _record(n + 1) + v * LANES
    rate1, rate2 = load(scratch, one + _RATE), load(scratch, two + _RATE)
    state = span.before + n * TASK_CHANNELS + v * LANES
    h1, h2 = load(checkpoints, state), load(checkpoints, state + TASK_CHANNELS)
    for t in range(0, CHUNK, 2):
        wide = _decays(v, t, rate1, rate2, scratch)
        store(scratch, 2 * t * LANES + _DECAY, wide)
        decays = split(wide)
        for i in range(2):
            at, pair = (v * CHUNK + t + i) * LANES, 2 * (t + i) * LANES
            row = span.rows + (t + i) * span.width + n
            b1, b2 = broadcast(scratch, row), broadcast(scratch, row + 1)
            dx = load(scratch, at + _DX)
            store(scratch, pair + _PAST, h1)
            store(scratch, pair + _PAST + LANES, h2)
            h1 = fma(decays[2 * i], h1, mul(b1, dx))
            h2 = fma(decays[2 * i + 1], h2, mul(b2, dx))
    return h1, h2


@njit(**COMPILE)
def _so_far(scratch, at, terms):
    """A sum in the scratch, whose place holds something else before the first term."""
    return load(scratch, at) if terms > 0 else constant(0.0)


@njit(**COMPILE)
def _reverse_pair(n, v, span, h1, h2, scratch):
    """Gradients of a pair of states, from the last token of a chunk to its first."""
    one, two = _record(n) + v * LANES, _record(n + 1) + v * LANES
    rate1, rate2 = load(scratch, one + _RATE), load(scratch, two + _RATE)
    carry1, carry2 = load(scratch, one + _CARRY), load(scratch, two + _CARRY)
    sum1, sum2 = load(scratch, one + _GRAD_RATE), load(scratch, two + _GRAD_RATE)
    for t in range(CHUNK - 1, -1, -1):
        at, pair, lane = (v * CHUNK + t) * LANES, 2 * t * LANES, t * LANES
        row = span.rows + t * span.width + n
        b1, b2 = broadcast(scratch, row), broadcast(scratch, row + 1)
        row += span.width // 2
        c1, c2 = broadcast(scratch, row), broadcast(scratch, row + 1)
        dt, dx = load(scratch, at + _DT), load(scratch, at + _DX)
        gy = load(scratch, at + _GRAD_Y)
        grad1, grad2 = fma(c1, gy, carry1), fma(c2, gy, carry2)
        b_at, c_at, half = lane + _GRAD_B, lane + _GRAD_C, CHUNK * LANES
        store(scratch, b_at, fma(grad1, dx, _so_far(scratch, b_at, v)))
        store(scratch, b_at + half, fma(grad2, dx, _so_far(scratch, b_at + half, v)))
        store(scratch, c_at, fma(gy, h1, _so_far(scratch, c_at, v)))
        store(scratch, c_at + half, fma(gy, h2, _so_far(scratch, c_at + half, v)))
        grad_dx = fma(grad1, b1, _so_far(scratch, at + _GRAD_DX, n))
        store(scratch, at + _GRAD_DX, fma(grad2, b2, grad_dx))
        carry1 = mul(grad1, load(scratch, pair + _DECAY))
        carry2 = mul(grad2, load(scratch, pair + _DECAY + LANES))
        h1, h2 = load(scratch, pair + _PAST), load(scratch, pair + _PAST + LANES)
        slope1, slope2 = mul(carry1, h1), mul(carry2, h2)
        grad_dt = fma(slope1, rate1, _so_far(scratch, at + _GRAD_DT, n))
        store(scratch, at + _GRAD_DT, fma(slope2, rate2, grad_dt))
        sum1, sum2 = fma(slope1, dt, sum1), fma(slope2, dt, sum2)
    store(scratch, one + _CARRY, carry1)
    store(scratch, two + _CARRY, carry2)
    store(scratch, one + _GRAD_RATE, sum1)
    store(scratch, two + _GRAD_RATE, sum2)


@njit(**COMPILE)
def _backward_pair(n, vectors, span, checkpoints, scratch):
    for v in range(vectors):
        h1, h2 = _recompute_pair(n, v, span, checkpoints, scratch)
        _reverse_pair(n, v, span, h1, h2, scratch)
    for i in range(2):
        column, lanes = span.sums + (n + i) * CHUNK, i * CHUNK * LANES
        store(scratch, column, lane_sums(scratch, lanes + _GRAD_B))
        column += span.width // 2 * CHUNK
        store(scratch, column, lane_sums(scratch, lanes + _GRAD_C))


@njit(**COMPILE)
def _prepare_backward(place, span, inputs, grad_y, scratch):
    """dt, its slope, dt u, u and the upstream gradient of a chunk."""
    for v in range(place.vectors):
        channel = place.group * inputs.u.shape[3] + place.first + v * LANES
        bias = load(inputs.delta_bias, channel)
        for t in range(span.count):
            i = inputs.order[place.k, span.start + t]
            at = (v * CHUNK + t) * LANES
            token = _token(place, i, v, inputs)
            x = load(inputs.u, token)
            raw = load(inputs.delta, _step(place, i, v, inputs))
            dt, slope = softplus_and_slope(add(raw, bias))
            store(scratch, at + _DT, dt)
            store(scratch, at + _SLOPE, slope)
            store(scratch, at + _DX, mul(dt, x))
            store(scratch, at + _X, x)
            store(scratch, at + _GRAD_Y, load(grad_y, token))
        for block in (_DT, _DX, _GRAD_Y):
            _clear(block + v * CHUNK * LANES, span, scratch)


@njit(**COMPILE)
def _write_grad_bc(place, span, inputs, grads, scratch):
    for j in range(0, span.width, LANES):
        transpose(scratch, span.sums + j * CHUNK)
    block = place.block * inputs.bc.size
    for t in range(span.count):
        row = block + _row(place, inputs.order[place.k, span.start + t], inputs)
        for j in range(0, span.width, LANES):
            store(grads.bc, row + j, load(scratch, span.sums + j * CHUNK + t * LANES))


@njit(**COMPILE)
def _write_grad_tokens(place, span, inputs, grads, scratch):
    """Gradients of u and delta of a chunk, and its share of those of d and the bias."""
    for v in range(place.vectors):
        skip = load(inputs.d, place.group * inputs.u.shape[3] + place.first + v * LANES)
        grad_d = load(scratch, _GRAD_D + v * LANES)
        grad_bias = load(scratch, _GRAD_BIAS + v * LANES)
        for t in range(span.count):
            i = inputs.order[place.k, span.start + t]
            at, token = (v * CHUNK + t) * LANES, _token(place, i, v, inputs)
            gy, x = load(scratch, at + _GRAD_Y), load(scratch, at + _X)
            grad_dx = load(scratch, at + _GRAD_DX)
            grad_u = fma(grad_dx, load(scratch, at + _DT), mul(skip, gy))
            store(grads.u, token, grad_u if place.k == 0 else add(grad_u, load(grads.u, token)))
            grad_dt = fma(grad_dx, x, mul(load(scratch, at + _GRAD_DT), constant(_LN_2)))
            grad_raw = mul(grad_dt, load(scratch, at + _SLOPE))
            store(grads.delta, _step(place, i, v, inputs), grad_raw)
            grad_d, grad_bias = fma(gy, x, grad_d), add(grad_bias, grad_raw)
        store(scratch, _GRAD_D + v * LANES, grad_d)
        store(scratch, _GRAD_BIAS + v * LANES, grad_bias)


@njit(**COMPILE)
def _write_grad_weights(place, inputs, grads, scratch):
    """Gradients of a, d and the bias, summed over the tokens of a direction."""
    branches, directions, states, channels = inputs.a.shape
    row = place.sample * branches * directions + place.group
    for v in range(place.vectors):
        e = place.first + v * LANES
        store(grads.d, row * channels + e, load(scratch, _GRAD_D + v * LANES))
        store(grads.delta_bias, row * channels + e, load(scratch, _GRAD_BIAS + v * LANES))
        for n in range(states):
            grad = load(scratch, _record(n) + _GRAD_RATE + v * LANES)
            store(grads.a, (row * states + n) * channels + e, grad)


@njit(**COMPILE)
def _backward_direction(task, k, inputs, checkpoints, grad_y, grads, scratch):
    states = inputs.a.shape[2]
    place = _place(task, k, inputs)
    _begin(place, inputs, scratch)
    for chunk in range(checkpoints.shape[2] - 2, -1, -1):
        span = _span(task, k, chunk, inputs)
        _gather(place, span, inputs, scratch)
        _prepare_backward(place, span, inputs, grad_y, scratch)
        for n in range(0, states, 2):
            if chunk > 0:
                _fetch(
                    place, chunk - 1, n, inputs, (inputs.u, grad_y, grads.u),
                    (inputs.delta, grads.delta),
                )  # fmt: skip
            _fetch_states(checkpoints, 2 * span.before - span.after, n)
            _backward_pair(n, place.vectors, span, checkpoints, scratch)
        _write_grad_bc(place, span, inputs, grads, scratch)
        _write_grad_tokens(place, span, inputs, grads, scratch)
    _write_grad_weights(place, inputs, grads, scratch)


@kernel
def _backward(tasks, inputs, checkpoints, grad_y, grads):
    for task in prange(tasks):
        scratch = _scratch(inputs)
        for k in range(inputs.a.shape[1]):
            _backward_direction(task, k, inputs, checkpoints, grad_y, grads, scratch)


class _Scan(torch.autograd.Function):
    """Between autograd and the kernels; channels are a multiple of 16 here."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        inputs = Inputs(*(tensor.detach().contiguous() for tensor in tensors))
        directions, states = inputs.a.shape[1:3]
        chunks, tasks = -(-inputs.u.shape[2] // CHUNK), _tasks(inputs)
        y = empty(*inputs.u.shape)
        kept = tasks, directions, chunks + 1, states + states % 2, TASK_CHANNELS
        checkpoints = empty(*kept)
        run_kernel(_forward, tasks, inputs, y, checkpoints)
        ctx.save_for_backward(*inputs, checkpoints)
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        *saved, checkpoints = ctx.saved_tensors
        inputs = Inputs(*saved)
        blocks, batch = -(-inputs.u.shape[3] // TASK_CHANNELS), inputs.u.shape[1]
        grads = Gradients(
            u=empty(*inputs.u.shape),
            delta=empty(*inputs.delta.shape),
            delta_bias=empty(batch, *inputs.delta_bias.shape),
            a=empty(batch, *inputs.a.shape),
            bc=empty(blocks, *inputs.bc.shape),
            d=empty(batch, *inputs.d.shape),
        )
        run_kernel(_backward, _tasks(inputs), inputs, checkpoints, grad_y.contiguous(), grads)
        return grads.u, grads.delta, *(partial.sum(0) for partial in grads[2:]), None


def _tasks(inputs: Inputs) -> int:
    branches, batch, _, channels = inputs.u.shape
    return int(branches * batch * -(-channels // TASK_CHANNELS))


def selective_scan_numba(
    u: Tensor,
    delta: Tensor,
    delta_bias: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    order: Tensor,
) -> Tensor:
    """The compiled scan; float32 on the CPU, shapes as in ``scan.selective_scan``."""
    channels = u.shape[3]
    missing = -channels % LANES
    if missing:
        u, delta, delta_bias, a, d = (F.pad(p, (0, missing)) for p in (u, delta, delta_bias, a, d))
    unused = -b.shape[4] % LANES
    if unused:
        b, c = F.pad(b, (0, unused)), F.pad(c, (0, unused))
    y: Tensor = _Scan.apply(u, delta, delta_bias, a, torch.cat([b, c], dim=-1), d, order)
    return y[..., :channels] if missing else y
