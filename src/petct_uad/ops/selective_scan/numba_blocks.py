"""What surrounds the scan in SS2D, compiled for the CPU: one pass over the tokens each.

At CMAD's size PyTorch spends as long on these few operations as on the scan: its depthwise
convolution wants channels first, and norm, affine, SiLU and product are passes of their own.
Tokens may be a strided view, such as one half of a projection's output.
"""

# Numba infers the types of compiled functions, and its decorators have none.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
# ruff: noqa: PLR0917

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from petct_uad.ops.selective_scan.exponentials import sigmoid
from petct_uad.ops.selective_scan.kernels import kernel, run_kernel
from petct_uad.ops.selective_scan.reference import NORM_EPS
from petct_uad.ops.selective_scan.simd import (
    COMPILE,
    LANES,
    add,
    constant,
    fma,
    lane_sum,
    load,
    mul,
    splat,
    store,
    sub,
)

_TAPS = 9


@njit(**COMPILE)
def _silu_slope(x, sigma):
    """The derivative of x sigmoid(x), from sigmoid(x)."""
    return mul(sigma, fma(x, sub(constant(1.0), sigma), constant(1.0)))


@njit(**COMPILE)
def _neighbour(h, w, tap, height, width):
    """Index of a pixel's neighbour, or -1 outside the image."""
    h, w = h + tap // 3 - 1, w + tap % 3 - 1
    return h * width + w if 0 <= h < height and 0 <= w < width else -1


@njit(**COMPILE)
def _convolved(x, row, first, h, w, e, branch, weight, bias, size):
    """The convolution at one pixel before its SiLU, channels e to e + 16."""
    height, width, channels = size
    total = load(bias, branch * channels + e)
    for tap in range(_TAPS):
        i = _neighbour(h, w, tap, height, width)
        if i >= 0:
            factor = load(weight, (branch * _TAPS + tap) * channels + e)
            total = fma(load(x, (first + i) * row + e), factor, total)
    return total


@njit(**COMPILE)
def _conv_forward_image(image, batch, x, row, weight, bias, y, size):
    height, width, channels = size
    first = image * height * width
    for h in range(height):
        for w in range(width):
            for e in range(0, channels, LANES):
                pre = _convolved(x, row, first, h, w, e, image // batch, weight, bias, size)
                where = (first + h * width + w) * channels + e
                store(y, where, mul(pre, sigmoid(pre)))


@kernel
def _conv_forward(images, batch, x, row, weight, bias, y, size):
    for image in prange(images):
        _conv_forward_image(image, batch, x, row, weight, bias, y, size)


@njit(**COMPILE)
def _conv_backward_image(image, batch, x, row, weight, bias, grad_y, grad_x, grad_w, grad_b, size):
    """Per image; the sum over the batch is left to the caller."""
    height, width, channels = size
    first = image * height * width
    branch = image // batch
    grad_pre = np.empty((height * width, LANES), np.float32)
    taps = np.empty((_TAPS, LANES), np.float32)
    for e in range(0, channels, LANES):
        total = constant(0.0)
        for h in range(height):
            for w in range(width):
                i = h * width + w
                pre = _convolved(x, row, first, h, w, e, branch, weight, bias, size)
                slope = _silu_slope(pre, sigmoid(pre))
                grad = mul(load(grad_y, (first + i) * channels + e), slope)
                store(grad_pre, i * LANES, grad)
                total = add(total, grad)
        store(grad_b, image * channels + e, total)
        for tap in range(_TAPS):
            store(taps, tap * LANES, constant(0.0))
        for h in range(height):
            for w in range(width):
                i = first + h * width + w
                here = load(x, i * row + e)
                grad = constant(0.0)
                for tap in range(_TAPS):
                    # The output pixel that read this input pixel through the tap.
                    j = _neighbour(h, w, _TAPS - 1 - tap, height, width)
                    if j >= 0:
                        arriving = load(grad_pre, j * LANES)
                        factor = load(weight, (branch * _TAPS + tap) * channels + e)
                        grad = fma(arriving, factor, grad)
                        total = fma(arriving, here, load(taps, tap * LANES))
                        store(taps, tap * LANES, total)
                store(grad_x, i * channels + e, grad)
        for tap in range(_TAPS):
            store(grad_w, (image * _TAPS + tap) * channels + e, load(taps, tap * LANES))


@kernel
def _conv_backward(images, batch, x, row, weight, bias, grad_y, grad_x, grad_w, grad_b, size):
    for image in prange(images):
        _conv_backward_image(
            image, batch, x, row, weight, bias, grad_y, grad_x, grad_w, grad_b, size
        )


@njit(**COMPILE)
def _mean_and_scale(y, at, channels):
    """Mean and inverse standard deviation of one token."""
    total = constant(0.0)
    for e in range(0, channels, LANES):
        total = add(total, load(y, at + e))
    mean = lane_sum(total) / np.float32(channels)
    total = constant(0.0)
    for e in range(0, channels, LANES):
        centred = sub(load(y, at + e), splat(mean))
        total = fma(centred, centred, total)
    variance = lane_sum(total) / np.float32(channels)
    return mean, np.float32(1.0) / np.sqrt(variance + np.float32(NORM_EPS))


@njit(**COMPILE)
def _norm_forward_image(image, batch, tokens, channels, y, z, row, weight, bias, out):
    affine = (image // batch) * channels
    for i in range(image * tokens, (image + 1) * tokens):
        mean, scale = _mean_and_scale(y, i * channels, channels)
        for e in range(0, channels, LANES):
            normed = mul(sub(load(y, i * channels + e), splat(mean)), splat(scale))
            normed = fma(normed, load(weight, affine + e), load(bias, affine + e))
            gate = load(z, i * row + e)
            store(out, i * channels + e, mul(normed, mul(gate, sigmoid(gate))))


@kernel
def _norm_forward(images, batch, tokens, channels, y, z, row, weight, bias, out):
    for image in prange(images):
        _norm_forward_image(image, batch, tokens, channels, y, z, row, weight, bias, out)


@njit(**COMPILE)
def _norm_backward_token(i, affine, sums, y, z, row, weight, bias, grad_out, grads):
    """Gradients of one token; those of weight and bias are added to what is there."""
    grad_y, grad_z, grad_weight, grad_bias = grads
    channels = y.shape[-1]
    mean, scale = _mean_and_scale(y, i * channels, channels)
    plain, weighted = constant(0.0), constant(0.0)
    for e in range(0, channels, LANES):
        normed = mul(sub(load(y, i * channels + e), splat(mean)), splat(scale))
        gate = load(z, i * row + e)
        sigma = sigmoid(gate)
        grad = load(grad_out, i * channels + e)
        factor = load(weight, affine + e)
        ahead = fma(normed, factor, load(bias, affine + e))
        store(grad_z, i * channels + e, mul(mul(grad, ahead), _silu_slope(gate, sigma)))
        grad = mul(grad, mul(gate, sigma))
        store(grad_weight, sums + e, fma(grad, normed, load(grad_weight, sums + e)))
        store(grad_bias, sums + e, add(grad, load(grad_bias, sums + e)))
        grad = mul(grad, factor)
        store(grad_y, i * channels + e, grad)
        plain = add(plain, grad)
        weighted = fma(grad, normed, weighted)
    mean_grad = lane_sum(plain) / np.float32(channels)
    mean_product = lane_sum(weighted) / np.float32(channels)
    for e in range(0, channels, LANES):
        normed = mul(sub(load(y, i * channels + e), splat(mean)), splat(scale))
        grad = sub(load(grad_y, i * channels + e), splat(mean_grad))
        grad = sub(grad, mul(normed, splat(mean_product)))
        store(grad_y, i * channels + e, mul(grad, splat(scale)))


@njit(**COMPILE)
def _norm_backward_image(image, batch, tokens, y, z, row, weight, bias, grad_out, grads):
    channels = y.shape[-1]
    for e in range(0, channels, LANES):
        store(grads[2], image * channels + e, constant(0.0))
        store(grads[3], image * channels + e, constant(0.0))
    affine = (image // batch) * channels
    for i in range(image * tokens, (image + 1) * tokens):
        _norm_backward_token(i, affine, image * channels, y, z, row, weight, bias, grad_out, grads)


@kernel
def _norm_backward(images, batch, tokens, y, z, row, weight, bias, grad_out, grads):
    for image in prange(images):
        _norm_backward_image(image, batch, tokens, y, z, row, weight, bias, grad_out, grads)


def _rows(tokens: Tensor) -> tuple[Tensor, int]:
    """The memory of (..., E) tokens from the first one on, and the distance between two tokens."""
    row = tokens.stride(-2)
    spacing = [row]
    for size in reversed(tokens.shape[1:-1]):
        spacing.insert(0, spacing[0] * size)
    if tokens.stride() != (*spacing, 1):
        tokens, row = tokens.contiguous(), tokens.shape[-1]
    length = (tokens.shape[:-1].numel() - 1) * row + tokens.shape[-1]
    return tokens.as_strided((length,), (1,)), row


class _ConvSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        weight, bias = weight.detach().contiguous(), bias.detach().contiguous()
        x = x.detach()
        y = torch.empty(x.shape)
        branches, batch, *size = x.shape
        run_kernel(_conv_forward, branches * batch, batch, *_rows(x), weight, bias, y, tuple(size))
        ctx.save_for_backward(x, weight, bias)
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, ...]:
        x, weight, bias = ctx.saved_tensors
        branches, batch, *size = x.shape
        grad_x = torch.empty(x.shape)
        grad_weight = torch.empty(branches, batch, *weight.shape[1:])
        grad_bias = torch.empty(branches, batch, *bias.shape[1:])
        run_kernel(
            _conv_backward, branches * batch, batch, *_rows(x), weight, bias,
            grad_y.contiguous(), grad_x, grad_weight, grad_bias, tuple(size),
        )  # fmt: skip
        return grad_x, grad_weight.sum(1), grad_bias.sum(1)


class _GatedNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y, z = y.detach().contiguous(), z.detach()
        weight, bias = weight.detach().contiguous(), bias.detach().contiguous()
        out = torch.empty_like(y)
        branches, batch, height, width, channels = y.shape
        run_kernel(
            _norm_forward, branches * batch, batch, height * width, channels, y, *_rows(z),
            weight, bias, out,
        )  # fmt: skip
        ctx.save_for_backward(y, z, weight, bias)
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, ...]:
        y, z, weight, bias = ctx.saved_tensors
        branches, batch, height, width, channels = y.shape
        grad_y, grad_z = torch.empty_like(y), torch.empty(z.shape)
        partial = y.new_empty(2, branches, batch, channels).unbind()
        run_kernel(
            _norm_backward, branches * batch, batch, height * width, y, *_rows(z),
            weight, bias, grad_out.contiguous(), (grad_y, grad_z, *partial),
        )  # fmt: skip
        return grad_y, grad_z, partial[0].sum(1), partial[1].sum(1)


def depthwise_conv_silu_numba(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As ``blocks.depthwise_conv_silu_reference``; float32, channels a multiple of 16."""
    y: Tensor = _ConvSilu.apply(x, weight, bias)
    return y


def gated_norm_numba(y: Tensor, z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As ``blocks.gated_norm_reference``; float32, channels a multiple of 16."""
    out: Tensor = _GatedNorm.apply(y, z, weight, bias)
    return out
