"""Several trainings at once on a CPU, each with its share of the cores.

One training of a small network keeps two cores busy by little more than half: much of a step waits
for the step before. Two trainings of one thread each keep them busy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Generic, TextIO, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from petct_uad.core.console import console, progress_bar
from petct_uad.core.errors import TrainingError
from petct_uad.core.machine import cores
from petct_uad.core.parallel import fitting, worker_pool

Task = TypeVar("Task")
Result = TypeVar("Result")
Tell = Callable[[int, int], None]

DONE_FILE = "done.npy"  # (tasks, 2): iterations done and in all; every process maps it into memory
_BYTES = 2 << 30  # that the largest training of the default params takes (CMAD: 1.7 GiB)
_FEWEST = 100  # iterations of a small network take the 5 s in which a process imports torch
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class _Watched(Generic[Task]):
    """A task, and where its process writes what it says and how far it is."""

    task: Task
    index: int
    threads: int
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / f"{self.index}.log"


def trainings_at_once(device: torch.device, iterations: Sequence[int], processes: int) -> int:
    """How many trainings run at once: on a CPU as many as there are cores, if memory allows.

    One on a GPU, where torchrun has started several processes, and where all are so short that
    they would have ended before their processes have begun.

    Args:
        device: where each trains.
        iterations: of each training; 0 if it is fitted.
        processes: of torchrun.
    """
    count = min(cores(), len(iterations))
    if device.type != "cpu" or processes > 1 or count < 2 or max(iterations) < _FEWEST:
        return 1
    return fitting("trainings", count, [_BYTES] * len(iterations))


def train_at_once(
    function: Callable[[Task, Tell], Result],
    tasks: Sequence[Task],
    names: Sequence[str],
    count: int,
) -> list[Result]:
    """Call ``function(task, tell)`` for every task, in ``count`` processes at once.

    No process outlives the caller. What a training prints is printed here, line by line.

    Args:
        function: of a module; ``tell(done, total)`` moves the bar of its task.
        tasks: the longest first, so that none is left to run alone at the end.
        names: of the bars.
        count: of processes; each takes an equal share of the cores.

    Raises:
        TrainingError: a process was killed.
    """
    threads = max(1, min(torch.get_num_threads(), cores() // count))
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        watched = [_Watched(task, i, threads, folder) for i, task in enumerate(tasks)]
        np.save(folder / DONE_FILE, np.zeros((len(tasks), 2), np.int64))
        logs = [stack.enter_context(_opened(one.log)) for one in watched]
        pool = stack.enter_context(worker_pool(count, function.__module__))
        futures = [pool.submit(_run, function, one) for one in watched]
        try:
            _show(futures, logs, names, np.load(folder / DONE_FILE, mmap_mode="r"))
            return [future.result() for future in futures]
        except BrokenProcessPool as error:
            raise TrainingError(
                "a process of the training was killed from outside, perhaps for lack of memory. "
                "Run again: it resumes where it was"
            ) from error


def _opened(log: Path) -> TextIO:
    log.touch()
    return log.open(encoding="utf-8")


def _run(function: Callable[[Task, Tell], Result], watched: _Watched[Task]) -> Result:
    """One training, in its own process."""
    torch.set_num_threads(watched.threads)
    done = np.load(watched.folder / DONE_FILE, mmap_mode="r+")

    def tell(*done_of_total: int) -> None:
        done[watched.index] = done_of_total

    with watched.log.open("w", encoding="utf-8", buffering=1) as stream:
        console.file = stream
        return function(watched.task, tell)


def _show(
    futures: Sequence[Future[Result]],
    logs: Sequence[TextIO],
    names: Sequence[str],
    done: NDArray[np.int64],
) -> None:
    """A bar for each training, until all have ended; raises what the first to fail has raised."""
    with progress_bar() as bars:
        tasks = [bars.add_task(name, total=None) for name in names]
        left: Collection[Future[Result]] = futures
        while left:
            ended, left = wait(futures, _POLL_SECONDS)
            for line in chain.from_iterable(logs):
                console.print(line.rstrip(), markup=False, soft_wrap=True)
            for task, (count, total) in zip(tasks, done, strict=True):
                bars.update(task, completed=int(count), total=int(total) or None)
            for failed in (future for future in ended if future.exception()):
                failed.result()
