"""One function over many items, in as many processes as the machine gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from os import cpu_count
from typing import TypeVar

from petct_uad.core.console import progress_bar, track

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], description: str, workers: int
) -> list[Result]:
    """Apply ``function`` to every item in worker processes; results keep the order of ``items``.

    Args:
        workers: number of processes; 0 means one per core, 1 means no extra process.
    """
    count = min(workers or cpu_count() or 1, max(len(items), 1))
    if count == 1:
        return [function(item) for item in track(items, description)]
    # Forking after torch or SimpleITK has started threads can deadlock: a clean process is forked,
    # which imports once what every worker of every pool needs.
    context = get_context("forkserver")
    context.set_forkserver_preload([function.__module__])
    pool = ProcessPoolExecutor(count, mp_context=context)
    with pool, progress_bar() as progress:
        results = pool.map(function, items)
        return list(progress.track(results, total=len(items), description=description))
