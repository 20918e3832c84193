"""Triton's scan against the PyTorch reference in double precision, in Triton's interpreter.

On a machine with a GPU the same tests run the compiled kernels.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from petct_uad.ops.selective_scan import scan, ss2d
from petct_uad.ops.selective_scan.scan import resolve_backend
from petct_uad.ops.selective_scan.ss2d import SS2D
from tests.unit.ops.test_selective_scan import _errors, _inputs, _reference, _with_gradients

pytest.importorskip("triton", reason="Triton has wheels for Linux only")

# Types as SS2D gives them; no driver is asked where the target is named.
COMPILE = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from petct_uad.ops.selective_scan import triton_gpu

sizes = {"chunk_t": 16, "block_n": 16, "block_e": 32}
counts = ("batch", "directions", "length", "channels", "states")
for kernel in (triton_gpu._forward, triton_gpu._backward):
    types = dict.fromkeys(kernel.arg_names, "*fp32") | dict.fromkeys(counts, "i32")
    types |= dict.fromkeys(sizes, "constexpr") | {"order": "*i64"}
    source = ASTSource(fn=kernel, signature=types, constexprs=sizes)
    found = compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": 1})
    print(kernel.__name__, len(found.asm["ptx"]) > 0)
"""
SOURCES = Path(__file__).parents[3] / "src"
HAS_GPU = torch.cuda.is_available()


@pytest.fixture(scope="module")
def triton_scan() -> Callable[..., Tensor]:
    from petct_uad.ops.selective_scan.triton_gpu import selective_scan_triton

    return selective_scan_triton


# (branches, directions, batch, tokens, channels, states): one token; several of each; a chunk and
# one token more, and channels and states that fill no block.
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1, 16, 4), (2, 2, 2, 3, 5, 3), (1, 1, 1, 17, 20, 31)], ids=str
)
def test_output_and_every_gradient_match_the_double_oracle(
    triton_scan: Callable[..., Tensor], shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    inputs, order = _inputs(shape)
    if HAS_GPU:
        inputs, order = [x.cuda() for x in inputs], order.cuda()
    found = _with_gradients(lambda *x: triton_scan(*x, order), inputs, dtype)
    oracle = _with_gradients(lambda *x: _reference(*x, order), inputs, torch.float64)
    assert all(x.dtype == dtype for x in found)
    assert max(_errors(found, oracle)) <= (1e-6 if dtype == torch.float32 else 1e-14)


def test_large_steps_neither_overflow_nor_lose_accuracy(
    triton_scan: Callable[..., Tensor],
) -> None:
    inputs, order = _inputs((1, 1, 1, 4, 16, 4))
    inputs[1] = 60 * inputs[1]
    if HAS_GPU:
        inputs, order = [x.cuda() for x in inputs], order.cuda()
    found = _with_gradients(lambda *x: triton_scan(*x, order), inputs)
    oracle = _with_gradients(lambda *x: _reference(*x, order), inputs, torch.float64)
    assert max(_errors(found, oracle)) <= 1e-6


@pytest.mark.parametrize("half", [False, True])
def test_a_block_gives_the_references_output_and_gradients_in_its_precision(
    triton_scan: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch, half: bool
) -> None:
    torch.manual_seed(0)
    device = torch.device("cuda" if HAS_GPU else "cpu")
    block = SS2D(8, state=3, expand=1, branches=1, backend="reference").to(device)
    tokens = torch.randn(1, 1, 2, 3, 8, device=device)

    def gradients(of: SS2D) -> list[Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            output = of(tokens)
        gradients = torch.autograd.grad(output.float().square().sum(), list(of.parameters()))
        return [output.detach(), *gradients]

    expected = gradients(copy.deepcopy(block))
    for module in (scan, ss2d):
        monkeypatch.setattr(module, "resolve_backend", lambda *_: "triton")
    found = gradients(block)
    assert [x.dtype for x in found] == [x.dtype for x in expected]
    assert max(_errors(found, expected)) <= (0.02 if half else 1e-5)


def test_it_stands_between_mamba_ssm_and_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    missing: dict[str, str | None] = {"cuda": None, "triton": None}
    monkeypatch.setattr(scan, "_missing", missing.__getitem__)
    assert resolve_backend("auto", gpu) == "cuda"
    missing["cuda"] = "mamba-ssm is not installed"
    assert resolve_backend("auto", gpu) == "triton"
    missing["triton"] = "triton is not installed"
    assert resolve_backend("auto", gpu) == "reference"


@pytest.mark.slow
def test_both_kernels_compile_for_a_gpu_that_is_not_here(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(SOURCES)}
    found = subprocess.run(
        [sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.split("\n")[:-1] == ["_forward True", "_backward True"]
