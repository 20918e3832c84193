"""How the kernels' tensors get their memory from the system.

A step's tensors are freed and taken again at the next step. Where the system takes them back in
between, it hands them out page by page, cleared, and 4 KiB at a time that can cost more than the
scan itself. Smaller ones are therefore kept by the process, larger ones lie on pages of 2 MiB.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
from contextlib import suppress
from functools import cache
from math import prod

import torch
from torch import Tensor

_MOST_KEPT = 2**25  # bytes; glibc's own upper bound for what it never hands back
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


@cache
def keep_freed_memory() -> None:
    """Let glibc keep up to 256 MiB of freed memory for the next step, from the first kernel on.

    Left alone it may hand a step's tensors back to the system, depending on what lies above them:
    up to a quarter of the scan's time.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _MOST_KEPT)  # where it would arrive by itself
        libc.mallopt(_M_TRIM_THRESHOLD, 2**28)


def empty(*shape: int) -> Tensor:
    """A float32 tensor for a kernel to fill."""
    size = 4 * prod(shape)
    if sys.platform != "linux" or size <= _MOST_KEPT:
        return torch.empty(shape, dtype=torch.float32)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.float32).view(shape)
