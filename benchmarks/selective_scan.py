"""Time and check the selective scan: ``PYTHONPATH=src python benchmarks/selective_scan.py``.

Prints forward plus backward times of each backend, how far the compiled one is from a double
oracle, the cost of SS2D beside that of its own linear layers, and what the first use costs.
Times are the best of several runs, since other work on the machine only ever adds to them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from time import perf_counter

import torch
import typer
from torch import Tensor

from petct_uad.console import console
from petct_uad.ops.selective_scan.scan import selective_scan
from petct_uad.ops.selective_scan.ss2d import SS2D

# (branches, directions, batch, tokens, channels, states)
SIZES = [(1, 1, 4, 1024, 384, 16), (1, 1, 1, 256, 384, 16), (2, 4, 8, 64, 384, 16)]
FIRST_USE = """
from time import perf_counter
import torch
from petct_uad.ops.selective_scan.ss2d import SS2D
block = SS2D(32, state=16, expand=2, branches=2, backend="numba")
started = perf_counter()
block(torch.randn(2, 1, 4, 4, 32)).sum().backward()
print(perf_counter() - started)
"""


def main(threads: int = 2, runs: int = 20) -> None:
    """Run every measurement on ``threads`` threads."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    for size in SIZES:
        _report_scan(size, runs)
    _report_block(runs)
    with tempfile.TemporaryDirectory() as folder:
        console.print(f"first use, compiling: {_first_use(folder):.1f} s")
        console.print(f"first use of a process, from the cache: {_first_use(folder):.2f} s")


def _report_scan(size: tuple[int, ...], runs: int) -> None:
    inputs, order, upstream = _inputs(size)

    def gradients(backend: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        leaves = [tensor.to(dtype).requires_grad_() for tensor in inputs]
        output = selective_scan(*leaves, order, backend=backend)  # type: ignore[arg-type]
        return [output.detach(), *torch.autograd.grad(output, leaves, upstream.to(dtype))]

    fast, slow = (
        _best_ms(lambda name=name: gradients(name), count)
        for name, count in [("numba", runs), ("reference", 3)]
    )
    pairs = zip(gradients("numba"), gradients("reference", torch.float64), strict=True)
    errors = [float((found - exact).norm() / exact.norm()) for found, exact in pairs]
    console.print(
        f"scan {size}: reference {slow:.1f} ms, numba {fast:.2f} ms, {slow / fast:.0f} times "
        f"faster; relative error forward {errors[0]:.1e}, worst gradient {max(errors[1:]):.1e}"
    )


def _report_block(runs: int) -> None:
    block = SS2D(192, state=16, expand=2, branches=2, backend="auto")
    tokens = torch.randn(2, 8, 8, 8, 192, requires_grad=True)
    upstream = torch.randn_like(tokens)
    inner, ranks = torch.randn(2, 512, 384), torch.randn(8, 512, block.rank)
    products = [
        (tokens.detach().flatten(1, 3), block.in_proj),
        (inner, block.x_proj),
        (ranks, block.dt_proj.flatten(0, 1)),
        (inner, block.out_proj),
    ]
    leaves = [tuple(x.detach().requires_grad_() for x in pair) for pair in products]
    grads = [torch.randn_like(torch.bmm(*pair)) for pair in leaves]

    def linears() -> None:
        torch.autograd.backward([torch.bmm(*pair) for pair in leaves], grads)

    own = _best_ms(linears, runs)
    whole = _best_ms(lambda: block(tokens).backward(upstream), runs)
    console.print(
        f"SS2D of CMAD's size: {whole:.1f} ms, its linear layers alone {own:.1f} ms, "
        f"{whole / own:.2f} times as long"
    )


def _inputs(size: tuple[int, ...]) -> tuple[list[Tensor], Tensor, Tensor]:
    branches, directions, batch, length, channels, states = size
    rates = torch.arange(1.0, states + 1)[:, None]
    inputs = [
        torch.randn(branches, batch, length, channels),
        torch.randn(branches, directions, batch, length, channels),
        torch.randn(branches, directions, channels) - 4,
        -rates.expand(branches, directions, states, channels),
        torch.randn(branches, batch, length, directions, states),
        torch.randn(branches, batch, length, directions, states),
        torch.ones(branches, directions, channels),
    ]
    order = torch.arange(length).expand(directions, length)
    return inputs, order, torch.randn(branches, batch, length, channels)


def _best_ms(function: Callable[[], object], runs: int) -> float:
    function()
    times = []
    for _ in range(runs):
        started = perf_counter()
        function()
        times.append(perf_counter() - started)
    return 1e3 * min(times)


def _first_use(cache: str) -> float:
    """Seconds of the first call in a new process."""
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    command = [sys.executable, "-c", FIRST_USE]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(result.stdout)


if __name__ == "__main__":
    typer.run(main)
