"""The selective scan compiled by numba for the CPU, forward and backward.

Work is cut into tasks of one branch, one sample and up to 64 channels; a task walks its directions,
vectors of 16 channels and tokens in a fixed order and writes to places of its own, so the result
does not depend on the number of threads. The forward pass keeps the state once every 16 tokens; the
backward pass recomputes the states in between, so memory is linear in L at 1/16 of all states.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
import torch.nn.functional as F
from numba import njit, prange
from torch import Tensor

from petct_uad.ops.selective_scan.simd import (
    LANES,
    add,
    constant,
    exp2,
    fma,
    lane_sum,
    load,
    mul,
    sigmoid,
    softplus,
    splat,
    store,
)

CHECKPOINT_TOKENS = 16
TASK_CHANNELS = 64
_LOG2_E = 1.4426950408889634
_TASK = {"nogil": True, "error_model": "numpy"}
_COMPILE = {**_TASK, "parallel": True, "cache": True}


@njit(**_TASK)
def _forward_task(task, u, delta, delta_bias, a, b, c, d, order, y, checkpoints):
    branches, batch, length, channels = u.shape
    directions, states = a.shape[1], a.shape[2]
    blocks = (channels + TASK_CHANNELS - 1) // TASK_CHANNELS
    state = np.empty((states, LANES), np.float32)
    rates = np.empty((states, LANES), np.float32)
    block = task % blocks
    sample = (task // blocks) % batch
    branch = task // (blocks * batch)
    end = min(channels, (block + 1) * TASK_CHANNELS)
    for e in range(block * TASK_CHANNELS, end, LANES):
        for k in range(directions):
            group = branch * directions + k
            bias = load(delta_bias, group * channels + e)
            skip = load(d, group * channels + e)
            for n in range(states):
                rate = load(a, (group * states + n) * channels + e)
                store(rates, n * LANES, mul(rate, constant(_LOG2_E)))
                store(state, n * LANES, constant(0.0))
            tokens = (branch * batch + sample) * length
            steps = (group * batch + sample) * length
            kept = (group * batch + sample) * checkpoints.shape[3]
            for t in range(length):
                if t % CHECKPOINT_TOKENS == 0:
                    at = (kept + t // CHECKPOINT_TOKENS) * states
                    for n in range(states):
                        where = (at + n) * channels + e
                        store(checkpoints, where, load(state, n * LANES))
                i = order[k, t]
                x = load(u, (tokens + i) * channels + e)
                dt = softplus(add(load(delta, (steps + i) * channels + e), bias))
                dx = mul(dt, x)
                out = mul(skip, x)
                for n in range(states):
                    decay = exp2(mul(dt, load(rates, n * LANES)))
                    h = mul(decay, load(state, n * LANES))
                    h = fma(splat(b[branch, sample, i, k, n]), dx, h)
                    store(state, n * LANES, h)
                    out = fma(splat(c[branch, sample, i, k, n]), h, out)
                where = (tokens + i) * channels + e
                store(y, where, out if k == 0 else add(out, load(y, where)))


@njit(**_TASK)
def _backward_task(
    task, u, delta, delta_bias, a, b, c, d, order, checkpoints, grad_y,
    grad_u, grad_delta, grad_delta_bias, grad_a, grad_b, grad_c, grad_d,
):  # fmt: skip
    branches, batch, length, channels = u.shape
    directions, states = a.shape[1], a.shape[2]
    blocks = (channels + TASK_CHANNELS - 1) // TASK_CHANNELS
    chunks = checkpoints.shape[3]
    rates = np.empty((states, LANES), np.float32)
    grad_state = np.empty((states, LANES), np.float32)
    grad_rates = np.empty((states, LANES), np.float32)
    decays = np.empty((CHECKPOINT_TOKENS, states, LANES), np.float32)
    decayed = np.empty((CHECKPOINT_TOKENS, states, LANES), np.float32)
    step = np.empty((CHECKPOINT_TOKENS, LANES), np.float32)
    block = task % blocks
    sample = (task // blocks) % batch
    branch = task // (blocks * batch)
    end = min(channels, (block + 1) * TASK_CHANNELS)
    for e in range(block * TASK_CHANNELS, end, LANES):
        for k in range(directions):
            group = branch * directions + k
            bias = load(delta_bias, group * channels + e)
            skip = load(d, group * channels + e)
            for n in range(states):
                rate = load(a, (group * states + n) * channels + e)
                store(rates, n * LANES, rate)
                store(grad_state, n * LANES, constant(0.0))
                store(grad_rates, n * LANES, constant(0.0))
            tokens = (branch * batch + sample) * length
            steps = (group * batch + sample) * length
            kept = (group * batch + sample) * chunks
            grad_skip = constant(0.0)
            grad_bias = constant(0.0)
            for chunk in range(chunks - 1, -1, -1):
                start = chunk * CHECKPOINT_TOKENS
                stop = min(length, start + CHECKPOINT_TOKENS)
                for t in range(start, stop):
                    i = order[k, t]
                    x = load(u, (tokens + i) * channels + e)
                    dt = softplus(add(load(delta, (steps + i) * channels + e), bias))
                    dx = mul(dt, x)
                    scaled = mul(dt, constant(_LOG2_E))
                    store(step, (t - start) * LANES, dt)
                    for n in range(states):
                        here = ((t - start) * states + n) * LANES
                        if t == start:
                            h = load(checkpoints, ((kept + chunk) * states + n) * channels + e)
                        else:
                            h = load(decayed, here)
                        decay = exp2(mul(scaled, load(rates, n * LANES)))
                        h = mul(decay, h)
                        store(decays, here, decay)
                        store(decayed, here, h)
                        if t + 1 < stop:
                            h = fma(splat(b[branch, sample, i, k, n]), dx, h)
                            store(decayed, here + states * LANES, h)
                for t in range(stop - 1, start - 1, -1):
                    i = order[k, t]
                    where = (tokens + i) * channels + e
                    x = load(u, where)
                    gy = load(grad_y, where)
                    dt = load(step, (t - start) * LANES)
                    dx = mul(dt, x)
                    grad_dx = constant(0.0)
                    grad_dt = constant(0.0)
                    for n in range(states):
                        here = ((t - start) * states + n) * LANES
                        write = splat(b[branch, sample, i, k, n])
                        read = splat(c[branch, sample, i, k, n])
                        past = load(decayed, here)
                        g = fma(read, gy, load(grad_state, n * LANES))
                        h = fma(write, dx, past)
                        grad_c[block, branch, sample, i, k, n] += lane_sum(mul(gy, h))
                        grad_b[block, branch, sample, i, k, n] += lane_sum(mul(g, dx))
                        grad_dx = fma(g, write, grad_dx)
                        grad_decay = mul(g, past)
                        grad_dt = fma(grad_decay, load(rates, n * LANES), grad_dt)
                        grad_rate = fma(grad_decay, dt, load(grad_rates, n * LANES))
                        store(grad_rates, n * LANES, grad_rate)
                        store(grad_state, n * LANES, mul(g, load(decays, here)))
                    grad_skip = fma(gy, x, grad_skip)
                    grad_x = fma(grad_dx, dt, mul(skip, gy))
                    store(grad_u, where, grad_x if k == 0 else add(grad_x, load(grad_u, where)))
                    where = (steps + i) * channels + e
                    slope = sigmoid(add(load(delta, where), bias))
                    grad_dt = mul(fma(grad_dx, x, grad_dt), slope)
                    grad_bias = add(grad_bias, grad_dt)
                    store(grad_delta, where, grad_dt)
            where = (sample * branches * directions + group) * channels + e
            store(grad_delta_bias, where, grad_bias)
            store(grad_d, where, grad_skip)
            for n in range(states):
                row = (sample * branches * directions + group) * states + n
                store(grad_a, row * channels + e, load(grad_rates, n * LANES))


@njit(**_COMPILE)
def _forward(tasks, u, delta, delta_bias, a, b, c, d, order, y, checkpoints):
    for task in prange(tasks):
        _forward_task(task, u, delta, delta_bias, a, b, c, d, order, y, checkpoints)


@njit(**_COMPILE)
def _backward(
    tasks, u, delta, delta_bias, a, b, c, d, order, checkpoints, grad_y,
    grad_u, grad_delta, grad_delta_bias, grad_a, grad_b, grad_c, grad_d,
):  # fmt: skip
    for task in prange(tasks):
        _backward_task(
            task, u, delta, delta_bias, a, b, c, d, order, checkpoints, grad_y,
            grad_u, grad_delta, grad_delta_bias, grad_a, grad_b, grad_c, grad_d,
        )  # fmt: skip


class _Scan(torch.autograd.Function):
    """Glue between autograd and the kernels; channels are a multiple of 16 here."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:  # type: ignore[override]
        inputs = [tensor.detach().contiguous() for tensor in tensors]
        u, _, _, a, *_ = inputs
        branches, batch, length, channels = u.shape
        directions, states = a.shape[1:3]
        chunks = -(-length // CHECKPOINT_TOKENS)
        y = torch.empty_like(u)
        checkpoints = u.new_empty(branches, directions, batch, chunks, states, channels)
        _share(_forward, _tasks(u), *inputs, y, checkpoints)
        ctx.save_for_backward(*inputs, checkpoints)
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        inputs = ctx.saved_tensors
        u, delta, delta_bias, a, b, c, d, _, checkpoints = inputs
        blocks, batch = -(-u.shape[3] // TASK_CHANNELS), u.shape[1]
        grad_u, grad_delta = torch.empty_like(u), torch.empty_like(delta)
        grad_delta_bias, grad_a, grad_d = (p.new_empty(batch, *p.shape) for p in (delta_bias, a, d))
        grad_b, grad_c = (p.new_zeros(blocks, *p.shape) for p in (b, c))
        partial = (grad_delta_bias, grad_a, grad_b, grad_c, grad_d)
        _share(_backward, _tasks(u), *inputs, grad_y.contiguous(), grad_u, grad_delta, *partial)
        return (grad_u, grad_delta, *(p.sum(0) for p in partial), None)


def _tasks(u: Tensor) -> int:
    branches, batch, _, channels = u.shape
    return int(branches * batch * -(-channels // TASK_CHANNELS))


def _share(kernel: Any, tasks: int, *tensors: Tensor) -> None:
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
    kernel(tasks, *(tensor.numpy() for tensor in tensors))


def selective_scan_numba(
    u: Tensor, delta: Tensor, delta_bias: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor,
    order: Tensor,
) -> Tensor:  # fmt: skip
    """The compiled scan; float32 on the CPU, shapes as in ``scan.selective_scan``."""
    channels = u.shape[3]
    missing = -channels % LANES
    if missing:
        u, delta, delta_bias, a, d = (F.pad(p, (0, missing)) for p in (u, delta, delta_bias, a, d))
    y: Tensor = _Scan.apply(u, delta, delta_bias, a, b, c, d, order)  # type: ignore[no-untyped-call]
    return y[..., :channels] if missing else y
