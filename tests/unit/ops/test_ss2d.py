"""The SS2D block."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from petct_uad.core.params.base import ScanBackend
from petct_uad.ops.selective_scan.reference import cross_scan_order
from petct_uad.ops.selective_scan.ss2d import SS2D


def _block(**options: int) -> SS2D:
    torch.manual_seed(0)
    defaults = {"state": 16, "expand": 2, "branches": 2}
    return SS2D(32, **(defaults | options), backend="auto")


@pytest.mark.parametrize("expand", [1, 2])
def test_compiled_block_matches_the_reference_in_double(expand: int) -> None:
    block = _block(expand=expand)
    oracle = copy.deepcopy(block).double()
    tokens = torch.randn(2, 2, 5, 7, 32)
    upstream = torch.randn_like(tokens)
    found = torch.autograd.grad(block(tokens), list(block.parameters()), upstream)
    expected = torch.autograd.grad(
        oracle(tokens.double()), list(oracle.parameters()), upstream.double()
    )
    for (name, _), f, e in zip(block.named_parameters(), found, expected, strict=True):
        assert (f - e).norm() <= 1e-6 * e.norm(), name


def test_branches_never_exchange_anything() -> None:
    block = _block()
    tokens = torch.randn(2, 1, 4, 4, 32)
    changed = tokens.clone()
    changed[1] += 1
    assert torch.equal(block(tokens)[0], block(changed)[0])
    assert not torch.equal(block(tokens)[1], block(changed)[1])


def test_every_token_sees_every_other() -> None:
    block = _block(branches=1)
    tokens = torch.randn(1, 1, 4, 4, 32, requires_grad=True)
    for row, column in [(0, 0), (3, 1)]:
        (grad,) = torch.autograd.grad(block(tokens)[0, 0, row, column].sum(), tokens)
        assert (grad.abs().sum(-1) > 0).all()


def test_samples_of_a_batch_are_independent() -> None:
    block = _block()
    tokens = torch.randn(2, 3, 4, 5, 32)
    torch.testing.assert_close(block(tokens)[:, 1:2], block(tokens[:, 1:2]))


def test_steps_start_between_a_thousandth_and_a_tenth() -> None:
    steps = torch.nn.functional.softplus(_block().dt_bias)
    assert steps.min() >= 0.99e-3
    assert steps.max() <= 0.101


def test_a_block_starts_with_mambas_rates_and_a_skip_of_one() -> None:
    """Rates of 1 to N in every channel (S4D-real), and the input passed on as it is."""
    block = _block()
    rates = torch.arange(1.0, 17)[:, None].expand_as(block.a_log)
    torch.testing.assert_close(block.a_log.exp(), rates)
    assert torch.equal(block.d, torch.ones_like(block.d))


def test_width_need_not_fit_the_vector_length() -> None:
    block = SS2D(5, state=3, expand=1, branches=1, backend="auto")
    tokens = torch.randn(1, 1, 3, 3, 5)
    expected = copy.deepcopy(block).double()(tokens.double())
    torch.testing.assert_close(block(tokens).double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_autocast_gives_the_same_up_to_the_precision_of_bfloat16(backend: ScanBackend) -> None:
    block = _block()
    block.backend = backend
    tokens = torch.randn(2, 2, 5, 7, 32)
    upstream = torch.randn_like(tokens)

    def gradients(enabled: bool) -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = block(tokens)
        assert output.dtype == (torch.bfloat16 if enabled else torch.float32)
        return list(torch.autograd.grad(output.float(), list(block.parameters()), upstream))

    for (name, _), f, e in zip(
        block.named_parameters(), gradients(True), gradients(False), strict=True
    ):
        assert f.dtype == torch.float32, name
        assert (f - e).norm() <= 0.03 * e.norm(), name


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_a_block_can_learn_after_it_was_evaluated(backend: ScanBackend) -> None:
    block = _block()
    block.backend = backend
    tokens = torch.randn(2, 1, 3, 11, 32)
    cross_scan_order.cache_clear()
    with torch.inference_mode():
        evaluated = block(tokens)
    learning = block(tokens)
    learning.sum().backward()
    assert torch.equal(learning, evaluated)
    assert all(parameter.grad is not None for parameter in block.parameters())


def test_blocks_shape_is_known_on_the_meta_device() -> None:
    tokens = torch.empty(2, 1, 3, 5, 32, device="meta")
    assert _block().to("meta")(tokens).shape == tokens.shape
