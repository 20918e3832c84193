"""One function over many items: in processes of this machine, on a cluster, or right here.

Which of them is the machine's affair and no param, since no output depends on it:

* ``PETCT_EXECUTOR=processes``, the default: as many as ``workers`` says;
* ``none``: in this process, one after the other, so that a debugger sees all;
* ``dask``: the workers of the Dask scheduler that ``PETCT_DASK_SCHEDULER`` names;
* ``slurm``: workers that ``dask-jobqueue`` starts as ``PETCT_SLURM_JOBS`` jobs.

The last two need ``pip install '.[cluster]'``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib import import_module
from itertools import accumulate
from multiprocessing import get_context, parent_process
from threading import Thread
from types import ModuleType
from typing import TypeVar

from petct_uad.core.console import console, progress_bar, track
from petct_uad.core.errors import ExecutorError
from petct_uad.core.machine import cores, free_bytes

Item = TypeVar("Item")
Result = TypeVar("Result")

EXECUTOR = "PETCT_EXECUTOR"
_KINDS = ("processes", "none", "dask", "slurm")
_GIB = 1 << 30


def map_in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    description: str,
    workers: int | None,
    bytes_of: Callable[[Item], int] | None = None,
) -> list[Result]:
    """Apply ``function`` to every item as the machine says; results keep the order of ``items``.

    No process outlives the caller: if that fails they are killed, and if it is killed they end. On
    a cluster an item may be begun again elsewhere, so what it writes must bear that.

    Args:
        workers: number of processes; 0 means one per core, 1 means no extra process. A cluster has
            its own. None keeps the items here, for a function that takes all cores or the GPU.
        bytes_of: memory that an item takes, where that is much; no more of them are worked on at
            once than the free memory of this machine holds, and a line says so.

    Raises:
        ExecutorError: the machine's setting is wrong, the cluster is not there, or what works on an
            item is killed again and again.
    """
    kind = os.environ.get(EXECUTOR) or _KINDS[0]
    if kind not in _KINDS:
        raise ExecutorError(f"{EXECUTOR}: found {kind!r}, expected one of {', '.join(_KINDS)}.")
    if workers is None or kind == "none" or not items:
        return _map_here(function, items, description)
    if kind == "processes":
        return _map_in_processes(function, items, description, workers, bytes_of)
    results: list[Result] = _cluster(kind).map_on_cluster(function, items, description, kind)
    return results


def _map_here(
    function: Callable[[Item], Result], items: Sequence[Item], description: str
) -> list[Result]:
    return [function(item) for item in track(items, description)]


def _cluster(kind: str) -> ModuleType:
    """What talks to Dask, found by its name: an import would put Dask among the packages that a
    stage's record names, though it changes no byte."""
    try:
        return import_module("petct_uad.core.cluster")
    except ModuleNotFoundError as error:
        raise ExecutorError(
            f"{EXECUTOR}={kind}: {error.name} is not installed. Run pip install '.[cluster]'."
        ) from None


def _map_in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    description: str,
    workers: int,
    bytes_of: Callable[[Item], int] | None,
) -> list[Result]:
    count = min(workers or cores(), len(items))
    if bytes_of is not None:
        count = fitting(description, count, [bytes_of(item) for item in items])
    if count == 1:
        return _map_here(function, items, description)
    try:
        with worker_pool(count, _module_of(function)) as pool, progress_bar() as progress:
            results = pool.map(function, items)
            return list(progress.track(results, total=len(items), description=description))
    except BrokenProcessPool:
        raise ExecutorError(
            f"{description}: a process was killed while it worked, which Linux does where memory "
            "ends. Set `workers` in params.yaml lower, and run again."
        ) from None


def _module_of(function: Callable[..., object]) -> str:
    """Of what a partial calls, too."""
    return str(getattr(function, "func", function).__module__)


@contextmanager
def worker_pool(count: int, module: str) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes that end with the block, with the caller, and if the block fails.

    Args:
        count: of processes.
        module: what every worker of every pool needs; imported once.
    """
    # Forking after torch or SimpleITK has started threads can deadlock: a clean process is forked.
    context = get_context("forkserver")
    context.set_forkserver_preload([module])
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_the_caller)
    with _none_left(pool):
        yield pool


def fitting(description: str, count: int, sizes: Sequence[int]) -> int:
    """How many of the largest items fit into memory together, at most ``count`` and at least 1."""
    free = free_bytes()
    together = accumulate(sorted(sizes, reverse=True)[:count])
    fitting = max(1, sum(size <= free for size in together))
    if fitting < count or max(sizes, default=0) > free:
        console.print(
            f"{description}: {fitting} of {count} processes, since the largest item takes about "
            f"{max(sizes) / _GIB:.1f} GiB, and {free / _GIB:.1f} GiB of memory are free.",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
    return fitting


@contextmanager
def _none_left(pool: ProcessPoolExecutor) -> Iterator[None]:
    """A pool that waits for its tasks when all is well, and for none of them otherwise."""
    try:
        yield
    except BaseException:
        for process in list(pool._processes.values()):  # Python 3.14: pool.kill_workers()
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_the_caller() -> None:
    """Once in every worker. A signal to the caller reaches no worker, and one that waits for its
    next item would wait for ever. Ctrl-C does reach all: then the caller decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_when_alone, daemon=True).start()


def _end_when_alone() -> None:
    caller = parent_process()
    if caller is not None:
        caller.join()
    os._exit(1)
