"""The compiled scan against the PyTorch reference in double precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numba import njit
from torch import Tensor

from petct_uad.core.errors import ParamsError
from petct_uad.ops.selective_scan.numba_cpu import selective_scan_numba
from petct_uad.ops.selective_scan.reference import (
    cross_scan_order,
    depthwise_conv_silu_reference,
    gated_norm_reference,
    selective_scan_reference,
)
from petct_uad.ops.selective_scan.scan import resolve_backend, selective_scan

CPU = torch.device("cpu")
# Seven tensors of a list and then the order: more than a type checker can count.
_scan: Callable[..., Tensor] = selective_scan
_numba: Callable[..., Tensor] = selective_scan_numba
_reference: Callable[..., Tensor] = selective_scan_reference

# (branches, directions, batch, tokens, channels, states)
SHAPES = [
    (1, 1, 1, 2, 16, 4),
    (2, 4, 2, 37, 48, 16),
    (1, 2, 1, 129, 80, 64),
    (2, 1, 3, 16, 21, 5),
    (1, 1, 1, 1001, 32, 8),
    (1, 1, 1, 33, 144, 31),
]


def _inputs(shape: tuple[int, ...], seed: int = 0) -> tuple[list[Tensor], Tensor]:
    """Seven inputs as a trained block may give them, and a random order."""
    branches, directions, batch, length, channels, states = shape
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    rates = torch.arange(1.0, states + 1).log()[:, None]
    inputs = [
        normal(branches, batch, length, channels),
        normal(branches, directions, batch, length, channels),
        normal(branches, directions, channels) - 4,
        -(rates + 0.1 * normal(branches, directions, states, channels)).exp(),
        normal(branches, batch, length, directions, states),
        normal(branches, batch, length, directions, states),
        normal(branches, directions, channels),
    ]
    orders = [torch.randperm(length, generator=generator) for _ in range(directions)]
    return inputs, torch.stack(orders)


def _with_gradients(
    function: Callable[..., Tensor], inputs: list[Tensor], dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """The output, and the gradient of every input for one fixed upstream gradient."""
    leaves = [tensor.detach().to(dtype).requires_grad_() for tensor in inputs]
    output = function(*leaves)
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    return [output.detach(), *torch.autograd.grad(output, leaves, upstream.to(dtype))]


def _errors(found: list[Tensor], expected: list[Tensor]) -> list[float]:
    pairs = zip(found, expected, strict=True)
    return [float((f - e).norm() / e.norm()) for f, e in pairs]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_compiled_scan_matches_the_double_oracle(shape: tuple[int, ...]) -> None:
    inputs, order = _inputs(shape)
    found = _with_gradients(lambda *x: _numba(*x, order), inputs)
    oracle = _with_gradients(lambda *x: _reference(*x, order), inputs, torch.float64)
    assert max(_errors(found, oracle)) <= 1e-6


@pytest.mark.parametrize("seed", range(6))
def test_compiled_scan_matches_on_random_shapes(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = tuple(
        int(torch.randint(low, high, (1,), generator=generator))
        for low, high in [(1, 3), (1, 5), (1, 4), (2, 90), (1, 150), (4, 65)]
    )
    test_compiled_scan_matches_the_double_oracle(shape)


@pytest.mark.slow
def test_tensors_too_large_to_be_kept_between_steps_are_scanned_like_others() -> None:
    shape = (1, 1, 1400, 16, 384, 1)
    assert _inputs(shape)[0][0].nbytes > 2**25
    test_compiled_scan_matches_the_double_oracle(shape)


def test_large_steps_neither_overflow_nor_lose_accuracy() -> None:
    inputs, order = _inputs((1, 2, 1, 50, 16, 16))
    inputs[1] = 60 * inputs[1]
    found = _with_gradients(lambda *x: _numba(*x, order), inputs)
    oracle = _with_gradients(lambda *x: _reference(*x, order), inputs, torch.float64)
    assert max(_errors(found, oracle)) <= 1e-6


@pytest.mark.parametrize("name", ["exp2", "_exp2_by_polynomial"])
def test_powers_of_two_are_exact_to_rounding_and_slow_decays_stay_slow(name: str) -> None:
    from petct_uad.ops.selective_scan import exponentials, simd

    function, load, store, step = getattr(exponentials, name), simd.load, simd.store, simd.LANES

    @njit(**simd.COMPILE)
    def compute(x, y):  # type: ignore[no-untyped-def]
        for at in range(0, len(x), step):
            store(y, at, function(load(x, at)))

    slow = -np.geomspace(1e-9, 1 / 32, 64_000)
    x = np.concatenate([np.linspace(-125.9, 126, 64_000), slow]).astype(np.float32)
    found = np.empty_like(x)
    compute(x, found)
    exact = np.exp2(x.astype(np.float64))
    assert np.abs(found / exact - 1).max() < 2e-7
    # What a state forgets per token, 1 - decay, sets for how long it remembers.
    errors = np.abs(found - exact)[len(slow) :]
    assert (errors - 4e-7 * (1 - exact[len(slow) :])).max() < 6e-8
    compute(np.full(step, -1e5, np.float32), found[:step])
    assert found[:step].max() < 1e-37


def test_reference_gradients_match_finite_differences() -> None:
    inputs, order = _inputs((2, 2, 1, 4, 3, 2))
    leaves = [tensor.double().requires_grad_() for tensor in inputs]
    assert torch.autograd.gradcheck(lambda *x: _reference(*x, order), leaves)


def test_reference_is_the_recurrence_written_out() -> None:
    inputs, _ = _inputs((1, 1, 1, 5, 1, 1))
    u, delta, bias, a, b, c, d = (tensor.double().flatten() for tensor in inputs)
    dt = torch.log1p(torch.exp(delta + bias))
    state, expected = torch.zeros(()), []
    for t in range(5):
        state = torch.exp(dt[t] * a[0]) * state + dt[t] * b[t] * u[t]
        expected.append(c[t] * state + d[0] * u[t])
    found = _reference(*(x.double() for x in inputs), torch.arange(5)[None])
    torch.testing.assert_close(found.flatten(), torch.stack(expected))


def test_result_does_not_depend_on_the_number_of_threads() -> None:
    inputs, order = _inputs((2, 4, 2, 40, 96, 16))
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        results.append(_with_gradients(lambda *x: _numba(*x, order), inputs))
    torch.set_num_threads(threads)
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def test_cross_scan_walks_rows_and_columns_both_ways() -> None:
    assert cross_scan_order(2, 3, CPU).tolist() == [
        [0, 1, 2, 3, 4, 5],
        [0, 3, 1, 4, 2, 5],
        [5, 4, 3, 2, 1, 0],
        [5, 2, 4, 1, 3, 0],
    ]


def test_auto_takes_the_compiled_scan_on_a_cpu() -> None:
    assert resolve_backend("auto", CPU) == "numba"
    assert resolve_backend("reference", CPU) == "reference"
    assert resolve_backend("auto", CPU, torch.float64) == "reference"


def test_half_precision_is_scanned_in_float32() -> None:
    assert resolve_backend("auto", CPU, torch.bfloat16) == "numba"
    inputs, _ = _inputs((1, 4, 2, 20, 32, 8))
    halves = [tensor.bfloat16() for tensor in inputs]
    for backend in ("numba", "reference"):
        found = _scan(*halves, (4, 5), backend=backend)
        expected = _scan(*(x.float() for x in halves), (4, 5), backend=backend)
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)


def test_nothing_is_computed_on_the_meta_device() -> None:
    inputs, _ = _inputs((1, 4, 2, 20, 32, 8))
    found = _scan(*(x.to("meta") for x in inputs), (4, 5), backend="auto")
    assert found.is_meta
    assert found.shape == inputs[0].shape


def test_a_backend_that_cannot_run_is_refused_by_name() -> None:
    with pytest.raises(ParamsError, match=r"'cuda' does not run on cpu tensors"):
        resolve_backend("cuda", CPU)
    with pytest.raises(ParamsError, match="float32 only"):
        resolve_backend("numba", CPU, torch.float64)


@pytest.mark.parametrize("shape", [(2, 2, 5, 7, 48), (1, 1, 1, 1, 16), (1, 3, 8, 1, 32)], ids=str)
def test_compiled_blocks_match_the_double_oracle(shape: tuple[int, ...]) -> None:
    from petct_uad.ops.selective_scan.numba_blocks import (
        depthwise_conv_silu_numba,
        gated_norm_numba,
    )

    generator = torch.Generator().manual_seed(0)
    x, z = torch.randn(*shape[:-1], 2 * shape[-1], generator=generator).chunk(2, -1)
    weight = torch.randn(shape[0], 3, 3, shape[-1], generator=generator)
    scale, shift = torch.randn(2, shape[0], shape[-1], generator=generator)
    blocks: list[tuple[Callable[..., Tensor], Callable[..., Tensor], list[Tensor]]] = [
        (depthwise_conv_silu_numba, depthwise_conv_silu_reference, [x, weight, shift]),
        (gated_norm_numba, gated_norm_reference, [x, z, scale, shift]),
    ]
    for compiled, reference, inputs in blocks:
        oracle = _with_gradients(reference, inputs, torch.float64)
        nonzero = [float(tensor.norm()) > 1e-9 for tensor in oracle]
        errors = _errors(_with_gradients(compiled, inputs), oracle)
        assert max(e for e, keep in zip(errors, nonzero, strict=True) if keep) <= 1e-6


def test_depthwise_conv_reads_strided_tokens() -> None:
    from petct_uad.ops.selective_scan.numba_blocks import depthwise_conv_silu_numba

    halves = torch.randn(1, 2, 4, 4, 32, generator=torch.Generator().manual_seed(0))
    weight, bias = torch.ones(1, 3, 3, 16), torch.zeros(1, 16)
    for half in (halves[..., :16], halves[..., 16:], halves[:, :, ::2, :, :16]):
        expected = depthwise_conv_silu_reference(half, weight, bias)
        found = depthwise_conv_silu_numba(half, weight, bias)
        torch.testing.assert_close(found, expected)


def test_memory_kept_for_the_backward_pass_is_linear_in_length() -> None:
    def kept_bytes(length: int) -> int:
        sizes: list[int] = []

        def keep(tensor: Tensor) -> Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        inputs, order = _inputs((1, 4, 1, length, 32, 16))
        leaves = [tensor.requires_grad_() for tensor in inputs]
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            _numba(*leaves, order)
        return sum(sizes)

    short, middle, long = (kept_bytes(length) for length in (64, 128, 192))
    assert long - middle == middle - short
    states_bytes = 4 * 64 * 32 * 16 * 4
    assert middle - short < states_bytes / 2
