"""Does training survive shared cores? ``PYTHONPATH=src python benchmarks/shared_cores.py``.

Times a step of a small convolutional network on two threads, beside processes that keep every core
busy, once as torch's OpenMP comes and once after ``core.machine.share_cores``, which every stage
that loads torch calls first. OpenMP reads its settings once, so each is a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, process_time

import typer

from petct_uad.core.console import console
from petct_uad.core.machine import share_cores

LONGEST_S = 30.0
_THREADS = 2
_BUSY = "while True: pass"


def main(busy: int = 2, turns: int = 2, steps: int = 40, shared: bool | None = None) -> None:
    """Print what a step takes each way; with ``--shared`` or ``--no-shared``, one way here."""
    if shared is not None:
        time_steps(shared, steps)
        return
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "KMP_"))}
    with busy_processes(busy):
        for way in ("--no-shared", "--shared") * turns:
            command = [sys.executable, __file__, way, "--steps", str(steps)]
            subprocess.run(command, check=True, env=environment)


def time_steps(shared: bool, steps: int) -> None:
    """Time so many steps, or as many as fit into half a minute."""
    if shared:
        share_cores()
    import torch
    from torch import nn

    torch.set_num_threads(_THREADS)
    layers = [(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()) for _ in range(12)]
    net = nn.Sequential(*(layer for block in layers for layer in block))
    images = torch.zeros(8, 32, 32, 32)
    wall, used, done = perf_counter(), process_time(), 0
    while done < steps and perf_counter() - wall < LONGEST_S:
        net(images).square().mean().backward()
        done += 1
    wall_ms, used_ms = (1000 * x / done for x in (perf_counter() - wall, process_time() - used))
    way = "with share_cores" if shared else "as OpenMP comes"
    console.print(f"{way}: {wall_ms:.0f} ms a step, {used_ms:.0f} ms of processor time")


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """So many processes that each take a core."""
    started = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


if __name__ == "__main__":
    typer.run(main)
