"""What a machine without a compiler, and one that never compiled, see: in real processes."""

from __future__ import annotations

import os
import site
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SOURCES = Path(__file__).parents[3] / "src"
USE_SCAN = """
import torch
from petct_uad.ops.selective_scan.ss2d import SS2D
block = SS2D(16, state=4, expand=1, branches=1, backend="auto")
for _ in range(2):
    block(torch.ones(1, 1, 2, 2, 16)).sum().backward()
"""
KERNEL = """
import numpy as np
from numba import prange
from petct_uad.ops.selective_scan.kernels import kernel

@kernel
def fill(tasks, out):
    for task in prange(tasks):
        out[task] = task

out = np.zeros(4, np.float32)
fill(4, out)
print(out.tolist())
"""
LINE = "selective scan: compiling"


@pytest.fixture
def packages_without_numba(tmp_path: Path) -> Path:
    """The environment's packages, linked one by one, without the compiler."""
    for package in Path(site.getsitepackages()[0]).iterdir():
        if not package.name.startswith(("numba", "llvmlite")):
            (tmp_path / package.name).symlink_to(package)
    return tmp_path


def _run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )


def test_without_numba_one_line_says_what_runs_and_how_to_get_the_fast_one(
    packages_without_numba: Path,
) -> None:
    path = os.pathsep.join([str(SOURCES), str(packages_without_numba)])
    result = _run("-S", "-c", USE_SCAN, PYTHONPATH=path)
    (line,) = [line for line in result.stderr.splitlines() if "selective scan" in line]
    assert "slow PyTorch reference" in line
    assert "pip install numba" in line


def _compile(script: Path, cache: Path, **environment: str) -> tuple[str, bool]:
    """What the kernel printed, and whether it was said that it is being compiled."""
    result = _run(str(script), PYTHONPATH=str(SOURCES), NUMBA_CACHE_DIR=str(cache), **environment)
    return result.stdout, LINE in result.stderr


def test_compiling_is_announced_once_and_kept_apart_by_cpu(tmp_path: Path) -> None:
    script, cache = tmp_path / "kernel.py", tmp_path / "cache"
    script.write_text(KERNEL)
    first = _compile(script, cache)
    again = _compile(script, cache)
    cache.rename(tmp_path / "moved")
    other_cpu = _compile(script, tmp_path / "moved", NUMBA_CPU_NAME="generic")
    printed = "[0.0, 1.0, 2.0, 3.0]\n"
    assert (first, again, other_cpu) == ((printed, True), (printed, False), (printed, True))


def test_scanning_leaves_torch_its_number_of_threads() -> None:
    """Numba's threads and torch's may share OpenMP."""
    result = _run(
        "-c", f"import torch; torch.set_num_threads(1){USE_SCAN}print(torch.get_num_threads())"
    )
    assert result.stdout == "1\n"
