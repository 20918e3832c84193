"""Time and check the selective scan: ``PYTHONPATH=src python benchmarks/selective_scan.py``.

Forward plus backward of the compiled scan beside three others: this repository's own PyTorch
reference, the loop over a (B, E, N) state as one writes it down, and mambapy's parallel scan, if
``pip install mambapy`` was run. All in turns, the best of each, since other work on the machine
only ever adds to a time. Then the share of the bound that arithmetic sets, accuracy, cost and
memory by length, and what the first use costs.

The field's own reference, mamba-ssm's ``selective_scan_ref``, is read from a source distribution
(``pip download mamba-ssm --no-deps --no-binary :all: --no-build-isolation``) and runs once, for
autograd fills a tensor of all states with zeros for every token: ``--mamba-ssm SDIST``.

On a machine that is busy with other things ``--threads 1 --cpu-time`` still gives fair ratios.
"""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from types import ModuleType
from typing import Annotated
from unittest.mock import MagicMock, patch

import numpy as np
import torch
import torch.nn.functional as F
import typer
from numba import njit, prange, set_num_threads
from torch import Tensor

from petct_uad.core.console import console
from petct_uad.ops.selective_scan.cuda import selective_scan_cuda
from petct_uad.ops.selective_scan.reference import cross_scan_order
from petct_uad.ops.selective_scan.scan import implementation
from petct_uad.ops.selective_scan.simd import COMPILE, LANES, add, constant, fma, load, store

# (branches, directions, batch, tokens, channels, states)
BAR = (1, 1, 4, 1024, 384, 16)
OTHERS = [(1, 1, 1, 256, 384, 16), (2, 4, 8, 64, 384, 16)]
LENGTHS = [256, 1024, 4096, 16384, 65536]
# Of the multiply-add units, per vector of 16 states, as `numba_cpu.py` writes them: dt a (1), exp2
# (4 with AVX-512, else 5), the state (2), the output (1); backward all but the last again, then the
# gradients of b, c, dx and dt (1 each), the state's (2), its exponent's (1) and the rates' (1).
FORWARD_INSTRUCTIONS, BACKWARD_INSTRUCTIONS = 8, 15
FIRST_USE = """
from time import perf_counter
import torch
from petct_uad.ops.selective_scan.ss2d import SS2D
block = SS2D(32, state=16, expand=2, branches=2, backend="numba")
started = perf_counter()
block(torch.randn(2, 1, 4, 4, 32)).sum().backward()
print(perf_counter() - started)
"""

Step = Callable[[], object]


def main(
    threads: int = 2,
    runs: int = 20,
    cpu_time: bool = False,
    mamba_ssm: Annotated[Path | None, typer.Option(help="mamba-ssm's sdist")] = None,
) -> None:
    """Run every measurement on ``threads`` threads, with as many rounds as ``runs``."""
    torch.set_num_threads(threads)
    set_num_threads(threads)
    torch.manual_seed(0)
    clock = process_time if cpu_time else perf_counter
    _report_lengths(clock)  # first, since a process's peak of memory never falls
    numba_ms = _report_bar(threads, runs, clock)
    _report_mamba_ssm(mamba_ssm, numba_ms, clock)
    for size in OTHERS:
        steps = {name: _scan_step(size, name) for name in ("numba", "reference")}
        best = _best_ms(steps, runs, clock)
        console.print(_sentence(size, best), soft_wrap=True)
    for size in (BAR, *OTHERS):
        forward, worst = _errors(size)
        console.print(f"{size}: relative error forward {forward:.1e}, worst gradient {worst:.1e}")
    with tempfile.TemporaryDirectory() as folder:
        console.print(f"first use, compiling: {_first_use(folder):.1f} s")
        console.print(f"first use of a process, from the cache: {_first_use(folder):.2f} s")


def _report_bar(threads: int, runs: int, clock: Callable[[], float]) -> float:
    """Milliseconds of the compiled scan."""
    steps = {"numba": _scan_step(BAR, "numba"), "multiply-adds": _multiply_adds}
    slow = {"reference": _scan_step(BAR, "reference"), "textbook loop": _textbook_step(BAR)}
    try:
        slow["mambapy"] = _mambapy_step(BAR)
    except ImportError:
        console.print("mambapy is not installed (pip install mambapy): left out")
    best = _best_ms(steps, runs * 5, clock)
    best |= _best_ms(slow | {"numba": steps["numba"]}, max(runs // 5, 2), clock, best)
    peak = 2 * _ROUNDS * _CHAINS / best["multiply-adds"] * (1 if clock is perf_counter else threads)
    console.print(_sentence(BAR, best), soft_wrap=True)
    updates = np.prod(BAR[:2]) * np.prod(BAR[2:]) / LANES
    share = updates * (FORWARD_INSTRUCTIONS + BACKWARD_INSTRUCTIONS) / peak / best["numba"]
    console.print(
        f"measured peak: {peak / 1e6:.2f} multiply-adds of {LANES} float32 per ns; "
        f"the scan takes {share:.0%} of it"
    )
    return best["numba"]


def _report_mamba_ssm(sdist: Path | None, numba_ms: float, clock: Callable[[], float]) -> None:
    if sdist is None:
        console.print("mamba-ssm's sdist is not given (--mamba-ssm): left out")
        return
    forward, backward = _mamba_ssm_ms(BAR, sdist, clock)
    console.print(
        f"{BAR}: mamba-ssm's selective_scan_ref {forward + backward:.0f} ms "
        f"({(forward + backward) / numba_ms:.0f}x), forward alone {forward:.0f} ms",
        soft_wrap=True,
    )
    worst = _cuda_layout_error((2, 4, 2, 37, 48, 16), sdist)
    console.print(f"our CUDA backend around it: relative error at most {worst:.1e}")


def _cuda_layout_error(size: tuple[int, ...], sdist: Path) -> float:
    """Of output and gradients, where mamba-ssm's reference replaces its CUDA kernel."""
    name = "mamba_ssm.ops.selective_scan_interface"
    interface = ModuleType(name)
    interface.__dict__["selective_scan_fn"] = _mamba_ssm_reference(sdist)
    modules = {parent: ModuleType(parent) for parent in ("mamba_ssm", "mamba_ssm.ops")}
    inputs, _, upstream = _inputs(size)
    order = cross_scan_order(size[3], 1, torch.device("cpu"))
    leaves = [tensor.requires_grad_() for tensor in inputs]
    u, delta, bias, a, b, c, d = leaves
    with patch.dict(sys.modules, modules | {name: interface}):
        output = selective_scan_cuda(u, delta, bias, a, b, c, d, (size[3], 1))
    found = [output.detach(), *torch.autograd.grad(output, leaves, upstream)]
    exact = _gradients(inputs, order, upstream, "reference", torch.float64)
    return max(float((f - e).norm() / e.norm()) for f, e in zip(found, exact, strict=True))


def _sentence(size: tuple[int, ...], best: dict[str, float]) -> str:
    fast = best["numba"]
    names = [name for name in best if name not in {"numba", "multiply-adds"}]
    slower = ", ".join(f"{name} {best[name]:.0f} ms ({best[name] / fast:.0f}x)" for name in names)
    return f"{size}: numba {fast:.2f} ms, {slower}"


def _best_ms(
    steps: dict[str, Step],
    rounds: int,
    clock: Callable[[], float],
    known: dict[str, float] | None = None,
) -> dict[str, float]:
    """The least time of each step, all in turns."""
    best = {name: (known or {}).get(name, float("inf")) for name in steps}
    for step in steps.values():
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            started = clock()
            step()
            best[name] = min(best[name], 1e3 * (clock() - started))
    return best


def _gradients(
    inputs: list[Tensor], order: Tensor, upstream: Tensor, backend: str, dtype: torch.dtype
) -> list[Tensor]:
    leaves = [tensor.to(dtype).requires_grad_() for tensor in inputs]
    output = implementation(backend)(*leaves, order)  # type: ignore[arg-type]
    return [output.detach(), *torch.autograd.grad(output, leaves, upstream.to(dtype))]


def _scan_step(size: tuple[int, ...], backend: str) -> Step:
    inputs, order, upstream = _inputs(size)
    return lambda: _gradients(inputs, order, upstream, backend, torch.float32)


def _errors(size: tuple[int, ...]) -> tuple[float, float]:
    """Of the output and of the worst gradient: norm of the difference over norm."""
    inputs = _inputs(size)
    found = _gradients(*inputs, "numba", torch.float32)
    exact = _gradients(*inputs, "reference", torch.float64)
    errors = [float((f - e).norm() / e.norm()) for f, e in zip(found, exact, strict=True)]
    return errors[0], max(errors[1:])


def _textbook_step(size: tuple[int, ...]) -> Step:
    """A (B, E, N) state: one direction, one branch."""
    plain, upstream = _plain_inputs(size)
    leaves = [x.requires_grad_() for x in plain]

    def step() -> None:
        u, delta, bias, a, b, c, d = leaves
        dt = F.softplus(delta + bias)
        state = u.new_zeros(len(u), *a.shape)
        outputs = []
        # Views of all tokens at once: indexing token by token takes ten times as long.
        for x_t, dt_t, b_t, c_t in zip(*(x.unbind(1) for x in (u, dt, b, c)), strict=True):
            write = (dt_t * x_t)[..., None] * b_t[:, None]
            state = torch.exp(dt_t[..., None] * a) * state + write
            outputs.append((state * c_t[:, None]).sum(-1))
        y = torch.stack(outputs, dim=1) + d * u
        torch.autograd.grad(y, leaves, upstream)

    return step


def _mambapy_step(size: tuple[int, ...]) -> Step:
    from mambapy.mamba import MambaBlock  # type: ignore[import-not-found, import-untyped, unused-ignore]

    plain, upstream = _plain_inputs(size)
    leaves = [x.requires_grad_() for x in plain]

    def step() -> None:
        u, delta, bias, a, b, c, d = leaves
        # The method reads nothing of the block itself.
        y = MambaBlock.selective_scan(None, u, F.softplus(delta + bias), a, b, c, d)
        torch.autograd.grad(y, leaves, upstream)

    return step


def _mamba_ssm_ms(
    size: tuple[int, ...], sdist: Path, clock: Callable[[], float]
) -> tuple[float, float]:
    """Forward and backward of mamba-ssm's reference, once each."""
    plain, upstream = _plain_inputs(size)
    u, delta, bias, a, b, c, d = leaves = [x.requires_grad_() for x in plain]
    scan = _mamba_ssm_reference(sdist)
    started = clock()
    y = scan(u.mT, delta.mT, a, b.mT, c.mT, d, delta_bias=bias, delta_softplus=True)
    middle = clock()
    torch.autograd.grad(y, leaves, upstream.mT)
    return 1e3 * (middle - started), 1e3 * (clock() - middle)


def _mamba_ssm_reference(sdist: Path) -> Callable[..., Tensor]:
    """Its file imports CUDA extensions at the top, which the reference never calls."""
    with tarfile.open(sdist) as archive:
        suffix = "mamba_ssm/ops/selective_scan_interface.py"
        name = next(name for name in archive.getnames() if name.endswith(suffix))
        member = archive.extractfile(name)
        assert member is not None
        source = member.read()
    module = ModuleType("selective_scan_interface")
    stubs = {name: MagicMock() for name in _MAMBA_SSM_IMPORTS}
    with patch.dict(sys.modules, stubs):
        exec(compile(source, name, "exec"), module.__dict__)
    reference: Callable[..., Tensor] = module.selective_scan_ref
    return reference


_MAMBA_SSM_IMPORTS = (
    "causal_conv1d",
    "causal_conv1d.cpp_functions",
    "mamba_ssm",
    "mamba_ssm.utils",
    "mamba_ssm.utils.torch",
    "mamba_ssm.ops",
    "mamba_ssm.ops.triton",
    "mamba_ssm.ops.triton.layer_norm",
    "selective_scan_cuda",
)

_CHAINS, _ROUNDS = 12, 100_000


@njit(parallel=True, **COMPILE)
def _chains(tasks, rounds, out):  # type: ignore[no-untyped-def]
    """Twelve chains of multiply-adds on registers: more than the latency needs."""
    for task in prange(tasks):
        a = b = c = d = e = f = g = h = i = j = k = m = constant(1.0)
        x, y = load(out, 0), load(out, LANES)
        for _ in range(rounds):
            a, b, c, d = fma(a, x, y), fma(b, x, y), fma(c, x, y), fma(d, x, y)
            e, f, g, h = fma(e, x, y), fma(f, x, y), fma(g, x, y), fma(h, x, y)
            i, j, k, m = fma(i, x, y), fma(j, x, y), fma(k, x, y), fma(m, x, y)
        total = add(add(add(a, b), add(c, d)), add(add(e, f), add(g, h)))
        store(out, (2 + task) * LANES, add(total, add(add(i, j), add(k, m))))


_OUT = np.full(4 * LANES, 1e-3, np.float32)


def _multiply_adds() -> None:
    _chains(2, _ROUNDS, _OUT)


def _report_lengths(clock: Callable[[], float]) -> None:
    """One sample, 384 channels, 16 states; memory is the growth of the process's peak."""
    backward = _scan_step((1, 1, 1, 256, 384, 16), "numba")
    backward()
    start = _peak_mib()
    for length in LENGTHS:
        step = _scan_step((1, 1, 1, length, 384, 16), "numba")
        best = _best_ms({"numba": step}, 5, clock)["numba"]
        del step
        gc.collect()
        grown = _peak_mib() - start
        console.print(
            f"L {length}: {best:.1f} ms, {1e3 * best / length:.2f} us per token; "
            f"peak memory {grown:.0f} MiB, {1024 * grown / length:.1f} KiB per token"
        )


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


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


def _plain_inputs(size: tuple[int, ...]) -> tuple[list[Tensor], Tensor]:
    """The same of one branch and one direction, as others lay them out; a is (E, N)."""
    (u, delta, bias, a, b, c, d), _, upstream = _inputs(size)
    rates = a[0, 0].T.contiguous()
    plain = [u[0], delta[0, 0], bias[0, 0], rates, b[0, :, :, 0], c[0, :, :, 0], d[0, 0]]
    return plain, upstream[0]


def _first_use(cache: str) -> float:
    """Seconds of the first call in a new process."""
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    command = [sys.executable, "-c", FIRST_USE]
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(result.stdout)


if __name__ == "__main__":
    typer.run(main)
