"""Time SS2D beside its own linear layers: ``PYTHONPATH=src python benchmarks/ss2d.py``.

CMAD's default size: 2 branches, batch 8, 8 x 8 tokens, d 192, expand 2, 16 states. Forward plus
backward, both in turns, the best of each.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, process_time

import torch
import typer

from petct_uad.core.console import console
from petct_uad.ops.selective_scan.ss2d import SS2D

DIM, STATE, EXPAND, BRANCHES, BATCH, SIDE = 192, 16, 2, 2, 8, 8


def main(threads: int = 2, runs: int = 200, cpu_time: bool = False) -> None:
    """Print both times and their ratio; see ``selective_scan.py`` on ``--cpu-time``."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    clock = process_time if cpu_time else perf_counter
    block = SS2D(DIM, state=STATE, expand=EXPAND, branches=BRANCHES, backend="auto")
    steps = {"SS2D": _block_step(block), "its linear layers": _linear_step(block)}
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(runs):
        for name, step in steps.items():
            started = clock()
            step()
            best[name] = min(best[name], 1e3 * (clock() - started))
    whole, own = best.values()
    console.print(
        f"SS2D {whole:.1f} ms, its linear layers alone {own:.1f} ms: {whole / own:.2f} times"
    )


def _block_step(block: SS2D) -> Callable[[], None]:
    tokens = torch.randn(BRANCHES, BATCH, SIDE, SIDE, DIM, requires_grad=True)
    upstream = torch.randn_like(tokens)
    return lambda: block(tokens).backward(upstream)


def _linear_step(block: SS2D) -> Callable[[], None]:
    rows = BATCH * SIDE * SIDE
    inputs = [
        torch.randn(BRANCHES, rows, DIM),
        torch.randn(BRANCHES, rows, block.inner),
        torch.randn(4 * BRANCHES, rows, block.rank),
        torch.randn(BRANCHES, rows, block.inner),
    ]
    weights = [block.in_proj, block.x_proj, block.dt_proj.flatten(0, 1), block.out_proj]
    pairs = [
        (x.requires_grad_(), w.detach().clone().requires_grad_())
        for x, w in zip(inputs, weights, strict=True)
    ]
    upstream = [torch.randn_like(torch.bmm(*pair)) for pair in pairs]
    return lambda: torch.autograd.backward([torch.bmm(*pair) for pair in pairs], upstream)


if __name__ == "__main__":
    typer.run(main)
