"""Compiling the parallel entry of a computation, keeping it on disk, and calling it on tensors."""

# Numba's own modules have no types.
# mypy: disable-error-code="misc, untyped-decorator, import-untyped"

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba
import torch
from numba import get_num_threads, njit, set_num_threads
from numba.core import event
from numba.misc.appdirs import user_cache_dir

from petct_uad.core.console import console
from petct_uad.ops.selective_scan.memory import keep_freed_memory
from petct_uad.ops.selective_scan.simd import COMPILE

_kernels: list[Any] = []


class _Announcer(event.Listener):
    """Says once per process that a kernel is being compiled, and not loaded from the cache."""

    silent = False

    def on_start(self, started: Any) -> None:
        if not self.silent and any(started.data["dispatcher"] is entry for entry in _kernels):
            _Announcer.silent = True
            console.print("selective scan: compiling for this CPU, once; takes about 30 s")

    def on_end(self, ended: Any) -> None:
        """Nothing to say."""


event.register("numba:compile", _Announcer())


def kernel(function: Callable[..., None]) -> Any:
    """Compile the parallel entry of a computation on first use, and keep it on disk.

    numba checks only the file of the kernel itself, so the folder is named for all sources here;
    its index is keyed by the CPU. It lies in the user's cache, which spares read-only installs and
    the source tree; ``NUMBA_CACHE_DIR`` moves it. Where nothing can be written nothing is kept.
    """
    given = numba.config.CACHE_DIR
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    folder = Path(given or user_cache_dir("petct-uad")) / sha256(sources).hexdigest()[:16]
    numba.config.CACHE_DIR = str(folder)
    try:
        compiled = njit(parallel=True, cache=True, **COMPILE)(function)
    except (RuntimeError, OSError):
        compiled = njit(parallel=True, **COMPILE)(function)
    finally:
        numba.config.CACHE_DIR = given
    _kernels.append(compiled)
    return compiled


def _start_threads() -> int:
    """How many threads numba may use."""
    given = torch.get_num_threads()
    most: int = get_num_threads()
    torch.set_num_threads(given)  # where both use OpenMP, numba has just set its own
    return most


_MOST_THREADS = _start_threads()


def run_kernel(entry: Callable[..., None], tasks: int, *arguments: Any) -> None:
    """Call a kernel with the memory of tensors, on as many threads as torch may use."""
    keep_freed_memory()
    set_num_threads(min(torch.get_num_threads(), _MOST_THREADS))
    entry(tasks, *(_memory(argument) for argument in arguments))


def _memory(argument: Any) -> Any:
    """Tensors as arrays, also inside a (named) tuple; anything else as it is."""
    if isinstance(argument, torch.Tensor):
        return argument.numpy()
    if isinstance(argument, tuple):
        items = [_memory(item) for item in argument]
        return argument._make(items) if hasattr(argument, "_make") else tuple(items)
    return argument
