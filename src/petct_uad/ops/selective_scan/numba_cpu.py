"""The selective scan compiled by numba for the CPU, forward and backward.

Work is cut into tasks of one branch, one sample and up to 64 channels; a task walks its vectors of
16 channels, directions and tokens in a fixed order and writes to places of its own, so the result
does not depend on the number of threads. The forward pass keeps the state once every 16 tokens; the
backward pass recomputes the states in between, so memory is linear in L at 1/16 of all states.
"""

# Numba infers the types of compiled functions, and its decorators have none.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
# ruff: noqa: PLR0917

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numba import njit, prange
from torch import Tensor

from petct_uad.ops.selective_scan.simd import (
    COMPILE,
    LANES,
    add,
    constant,
    exp2,
    fma,
    kernel,
    lane_sum,
    load,
    mul,
    run_kernel,
    sigmoid,
    softplus,
    splat,
    store,
)

CHECKPOINT_TOKENS = 16
TASK_CHANNELS = 64
_LOG2_E = 1.4426950408889634


class Inputs(NamedTuple):
    """Contiguous arrays; shapes as in ``scan.selective_scan``, b and c side by side in ``bc``."""

    u: Any
    delta: Any
    delta_bias: Any
    a: Any
    bc: Any  # (P, B, L, K, 2 N)
    d: Any
    order: Any


class Gradients(NamedTuple):
    """What the backward pass writes; sums over samples or channel blocks are left to the caller."""

    u: Any
    delta: Any
    delta_bias: Any  # (B, P, K, E)
    a: Any  # (B, P, K, N, E)
    bc: Any  # (blocks, P, B, L, K, 2 N)
    d: Any  # (B, P, K, E)


class Scratch(NamedTuple):
    """One vector of channels at work, small enough to stay in the L1 and L2 caches."""

    rates: Any  # (N, 16)
    grad_state: Any  # (N, 16)
    grad_rates: Any  # (N, 16)
    decays: Any  # (tokens, N, 16): exp(dt a)
    decayed: Any  # (tokens, N, 16): exp(dt a) h of the token before
    steps: Any  # (tokens, 16): dt


@njit(**COMPILE)
def _place(task, inputs):
    """The branch, the sample and the block of channels of a task."""
    batch, channels = inputs.u.shape[1], inputs.u.shape[3]
    blocks = (channels + TASK_CHANNELS - 1) // TASK_CHANNELS
    return task // (blocks * batch), (task // blocks) % batch, task % blocks


@njit(**COMPILE)
def _forward_vector(branch, sample, k, e, inputs, y, checkpoints, rates, state):
    """Scan channels e to e + 16 along direction k."""
    u, delta, delta_bias, a, bc, d, order = inputs
    batch, length, channels = u.shape[1:]
    directions, states = a.shape[1:3]
    group = branch * directions + k
    bias = load(delta_bias, group * channels + e)
    skip = load(d, group * channels + e)
    for n in range(states):
        rate = load(a, (group * states + n) * channels + e)
        store(rates, n * LANES, mul(rate, constant(_LOG2_E)))
        store(state, n * LANES, constant(0.0))
    for t in range(length):
        if t % CHECKPOINT_TOKENS == 0:
            kept = (group * batch + sample) * checkpoints.shape[3] + t // CHECKPOINT_TOKENS
            for n in range(states):
                where = (kept * states + n) * channels + e
                store(checkpoints, where, load(state, n * LANES))
        i = order[k, t]
        token = ((branch * batch + sample) * length + i) * channels + e
        step = ((group * batch + sample) * length + i) * channels + e
        x = load(u, token)
        dt = softplus(add(load(delta, step), bias))
        dx = mul(dt, x)
        out = mul(skip, x)
        for n in range(states):
            decay = exp2(mul(dt, load(rates, n * LANES)))
            h = mul(decay, load(state, n * LANES))
            h = fma(splat(bc[branch, sample, i, k, n]), dx, h)
            store(state, n * LANES, h)
            out = fma(splat(bc[branch, sample, i, k, states + n]), h, out)
        store(y, token, out if k == 0 else add(out, load(y, token)))


@njit(**COMPILE)
def _forward_task(task, inputs, y, checkpoints):
    branch, sample, block = _place(task, inputs)
    directions, states, channels = inputs.a.shape[1:]
    rates = np.empty((states, LANES), np.float32)
    state = np.empty((states, LANES), np.float32)
    end = min(channels, (block + 1) * TASK_CHANNELS)
    for e in range(block * TASK_CHANNELS, end, LANES):
        for k in range(directions):
            _forward_vector(branch, sample, k, e, inputs, y, checkpoints, rates, state)


@kernel
def _forward(tasks, inputs, y, checkpoints):
    for task in prange(tasks):
        _forward_task(task, inputs, y, checkpoints)


@njit(**COMPILE)
def _recompute(branch, sample, k, e, start, stop, inputs, checkpoints, scratch):
    """Fill the scratch for tokens start to stop of direction k, from the checkpoint at start."""
    u, delta, delta_bias, a, bc, _, order = inputs
    rates, _, _, decays, decayed, steps = scratch
    batch, length, channels = u.shape[1:]
    directions, states = a.shape[1:3]
    group = branch * directions + k
    bias = load(delta_bias, group * channels + e)
    kept = (group * batch + sample) * checkpoints.shape[3] + start // CHECKPOINT_TOKENS
    for n in range(states):
        store(decayed, n * LANES, load(checkpoints, (kept * states + n) * channels + e))
    for t in range(start, stop):
        i = order[k, t]
        x = load(u, ((branch * batch + sample) * length + i) * channels + e)
        step = load(delta, ((group * batch + sample) * length + i) * channels + e)
        dt = softplus(add(step, bias))
        dx = mul(dt, x)
        scaled = mul(dt, constant(_LOG2_E))
        store(steps, (t - start) * LANES, dt)
        for n in range(states):
            here = ((t - start) * states + n) * LANES
            decay = exp2(mul(scaled, load(rates, n * LANES)))
            h = mul(decay, load(decayed, here))
            store(decays, here, decay)
            store(decayed, here, h)
            if t + 1 < stop:
                h = fma(splat(bc[branch, sample, i, k, n]), dx, h)
                store(decayed, here + states * LANES, h)


@njit(**COMPILE)
def _reverse(branch, sample, block, k, e, start, stop, inputs, grad_y, grads, scratch, sums):
    """Walk tokens stop to start backwards; returns the running sums of the d and bias gradients."""
    u, delta, delta_bias, a, bc, d, order = inputs
    rates, grad_state, grad_rates, decays, decayed, steps = scratch
    batch, length, channels = u.shape[1:]
    directions, states = a.shape[1:3]
    group = branch * directions + k
    bias = load(delta_bias, group * channels + e)
    skip = load(d, group * channels + e)
    grad_skip, grad_bias = sums
    for t in range(stop - 1, start - 1, -1):
        i = order[k, t]
        token = ((branch * batch + sample) * length + i) * channels + e
        x = load(u, token)
        gy = load(grad_y, token)
        dt = load(steps, (t - start) * LANES)
        dx = mul(dt, x)
        grad_dx = constant(0.0)
        grad_dt = constant(0.0)
        for n in range(states):
            here = ((t - start) * states + n) * LANES
            write = splat(bc[branch, sample, i, k, n])
            read = splat(bc[branch, sample, i, k, states + n])
            past = load(decayed, here)
            grad_h = fma(read, gy, load(grad_state, n * LANES))
            h = fma(write, dx, past)
            grads.bc[block, branch, sample, i, k, n] += lane_sum(mul(grad_h, dx))
            grads.bc[block, branch, sample, i, k, states + n] += lane_sum(mul(gy, h))
            grad_dx = fma(grad_h, write, grad_dx)
            grad_exponent = mul(grad_h, past)
            grad_dt = fma(grad_exponent, load(rates, n * LANES), grad_dt)
            grad_rate = fma(grad_exponent, dt, load(grad_rates, n * LANES))
            store(grad_rates, n * LANES, grad_rate)
            store(grad_state, n * LANES, mul(grad_h, load(decays, here)))
        grad_x = fma(grad_dx, dt, mul(skip, gy))
        store(grads.u, token, grad_x if k == 0 else add(grad_x, load(grads.u, token)))
        step = ((group * batch + sample) * length + i) * channels + e
        slope = sigmoid(add(load(delta, step), bias))
        grad_step = mul(fma(grad_dx, x, grad_dt), slope)
        store(grads.delta, step, grad_step)
        grad_skip = fma(gy, x, grad_skip)
        grad_bias = add(grad_bias, grad_step)
    return grad_skip, grad_bias


@njit(**COMPILE)
def _backward_vector(branch, sample, block, k, e, inputs, checkpoints, grad_y, grads, scratch):
    """Gradients of channels e to e + 16 along direction k."""
    length, channels = inputs.u.shape[2:]
    branches, directions, states = inputs.a.shape[:3]
    group = branch * directions + k
    for n in range(states):
        store(scratch.rates, n * LANES, load(inputs.a, (group * states + n) * channels + e))
        store(scratch.grad_state, n * LANES, constant(0.0))
        store(scratch.grad_rates, n * LANES, constant(0.0))
    sums = (constant(0.0), constant(0.0))
    for chunk in range(checkpoints.shape[3] - 1, -1, -1):
        start = chunk * CHECKPOINT_TOKENS
        stop = min(length, start + CHECKPOINT_TOKENS)
        _recompute(branch, sample, k, e, start, stop, inputs, checkpoints, scratch)
        sums = _reverse(
            branch, sample, block, k, e, start, stop, inputs, grad_y, grads, scratch, sums
        )
    row = sample * branches * directions + group
    store(grads.d, row * channels + e, sums[0])
    store(grads.delta_bias, row * channels + e, sums[1])
    for n in range(states):
        store(grads.a, (row * states + n) * channels + e, load(scratch.grad_rates, n * LANES))


@njit(**COMPILE)
def _scratch(states):
    return Scratch(
        np.empty((states, LANES), np.float32),
        np.empty((states, LANES), np.float32),
        np.empty((states, LANES), np.float32),
        np.empty((CHECKPOINT_TOKENS, states, LANES), np.float32),
        np.empty((CHECKPOINT_TOKENS, states, LANES), np.float32),
        np.empty((CHECKPOINT_TOKENS, LANES), np.float32),
    )


@njit(**COMPILE)
def _backward_task(task, inputs, checkpoints, grad_y, grads):
    branch, sample, block = _place(task, inputs)
    directions, states, channels = inputs.a.shape[1:]
    scratch = _scratch(states)
    grads.bc[block, branch, sample] = 0.0
    end = min(channels, (block + 1) * TASK_CHANNELS)
    for e in range(block * TASK_CHANNELS, end, LANES):
        for k in range(directions):
            _backward_vector(
                branch, sample, block, k, e, inputs, checkpoints, grad_y, grads, scratch
            )


@kernel
def _backward(tasks, inputs, checkpoints, grad_y, grads):
    for task in prange(tasks):
        _backward_task(task, inputs, checkpoints, grad_y, grads)


class _Scan(torch.autograd.Function):
    """Between autograd and the kernels; channels are a multiple of 16 here."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        inputs = Inputs(*(tensor.detach().contiguous() for tensor in tensors))
        branches, directions, states, channels = inputs.a.shape
        batch, length = inputs.u.shape[1:3]
        chunks = -(-length // CHECKPOINT_TOKENS)
        y = torch.empty_like(inputs.u)
        checkpoints = y.new_empty(branches, directions, batch, chunks, states, channels)
        run_kernel(_forward, _tasks(inputs), inputs, y, checkpoints)
        ctx.save_for_backward(*inputs, checkpoints)
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        *saved, checkpoints = ctx.saved_tensors
        inputs = Inputs(*saved)
        blocks, batch = -(-inputs.u.shape[3] // TASK_CHANNELS), inputs.u.shape[1]
        grads = Gradients(
            u=torch.empty_like(inputs.u),
            delta=torch.empty_like(inputs.delta),
            delta_bias=inputs.a.new_empty(batch, *inputs.delta_bias.shape),
            a=inputs.a.new_empty(batch, *inputs.a.shape),
            bc=inputs.bc.new_empty(blocks, *inputs.bc.shape),
            d=inputs.d.new_empty(batch, *inputs.d.shape),
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
    y: Tensor = _Scan.apply(u, delta, delta_bias, a, torch.cat([b, c], dim=-1), d, order)
    return y[..., :channels] if missing else y
