"""What a person sees on the terminal while a stage runs."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from os import cpu_count
from time import monotonic
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from petct_uad.errors import PetctError

Item = TypeVar("Item")
Result = TypeVar("Result")

console = Console(stderr=True, highlight=False)
# What the machine may lack; any other OSError is a mistake of ours, and its traceback is needed.
_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO}


@contextmanager
def fail_cleanly() -> Iterator[None]:
    """Print an error that was raised on purpose, without its traceback; exit with its code."""
    try:
        yield
    except PetctError as error:
        _say(f"error: {error}")
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in _MACHINE:
            raise
        advice = "What was there before is untouched. Mend the disk or its permissions; run again."
        _say(f"error: {error}. {advice}")
        sys.exit(1)


def _say(what: str) -> None:
    console.quiet = False  # as are all but one of the processes of a training
    console.print(what, style="bold red", markup=False, soft_wrap=True)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Say what starts, and what it took in seconds when it ends well."""
    started = monotonic()
    console.print(f"[bold]{name}[/bold]: started")
    yield
    console.print(f"[bold]{name}[/bold]: done in {monotonic() - started:.1f} s")


def progress_bar() -> Progress:
    """A bar with a count, the time spent and the time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


def track(items: Sequence[Item], description: str) -> Iterable[Item]:
    """Go through ``items`` under a progress bar."""
    with progress_bar() as progress:
        yield from progress.track(items, description=description)


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
