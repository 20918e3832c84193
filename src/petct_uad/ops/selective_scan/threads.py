"""Sharing the tasks of a compiled kernel between threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch


def share(kernel: Callable[..., None], tasks: int, *arguments: Any) -> None:
    """Run ``kernel(first, last, *arguments)`` over ``range(tasks)`` on torch's number of threads.

    The kernel must release the GIL. Our own pool rather than numba's: it follows
    ``torch.set_num_threads``, survives a fork and needs no OpenMP or TBB beside torch's.
    """
    threads = min(torch.get_num_threads(), tasks)
    bounds = [tasks * part // threads for part in range(threads + 1)]
    others = [
        _pool(threads - 1).submit(kernel, first, last, *arguments)
        for first, last in zip(bounds[1:-1], bounds[2:], strict=True)
    ]
    kernel(bounds[0], bounds[1], *arguments)
    for other in others:
        other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="selective_scan")
