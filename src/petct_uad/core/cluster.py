"""One function over many items on the workers of a Dask cluster.

A worker must see the repository under the same path as this process, have the same code and
packages, and one thread, since the libraries of the data stages are not made for two. Loaded by
name only: see ``core.parallel``.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from threading import Event, Thread
from typing import Any, Generic, TypeVar

import dask
from dask.distributed import Client, KilledWorker, get_worker

import petct_uad
from petct_uad.core.console import console, progress_bar
from petct_uad.core.errors import ExecutorError

Item = TypeVar("Item")
Result = TypeVar("Result")

SCHEDULER = "PETCT_DASK_SCHEDULER"
SLURM_JOBS = "PETCT_SLURM_JOBS"
_START = "dask worker {scheduler} --nthreads 1 --nworkers N"
_PATIENCE_S = 30  # to meet a scheduler and its first worker; a queue of jobs may take its time
_LOOK_EVERY_S = 0.5  # whether anybody waits for the item still
_SLURM_LOGS = ".cache/slurm"  # what jobs print, where ~/.config/dask names no other folder
_SCHEDULER_LOG = "all"  # Dask's topic of what befalls workers


def map_on_cluster(
    function: Callable[[Item], Result], items: Sequence[Item], description: str, kind: str
) -> list[Result]:
    """Apply ``function`` to every item on the cluster's workers; results keep the order.

    What a lost worker had is done again by another, and a line names it. If items fail, the first
    of them is told, as at home, and the others end: what a worker does for nobody ends with its
    process, which Dask starts anew.

    Args:
        function: of a module, or a partial of one; relative paths are below this folder.
        items: that can be pickled.
        description: for the progress bar.
        kind: ``dask`` or ``slurm``.

    Raises:
        ExecutorError: no scheduler or worker is there, one is not as it must be, or an item has
            lost several workers.
    """
    order = _Order(function, str(Path.cwd()), _fingerprint())
    with _client(kind) as client:
        client.subscribe_topic(_SCHEDULER_LOG, _name_the_lost)
        futures = client.map(order.work, items, pure=False, key=description)
        try:
            results = (future.result() for future in futures)  # in the order of the items
            with progress_bar() as progress:
                return list(progress.track(results, total=len(items), description=description))
        except KilledWorker as error:
            places = {future.key: place for place, future in enumerate(futures)}
            raise ExecutorError(_lost_several(error, description, items, places)) from None
        finally:
            client.cancel(futures)
            client.unsubscribe_topic(_SCHEDULER_LOG)  # else it is told of its own end, too late


@dataclass(frozen=True)
class _Order(Generic[Item, Result]):
    """What a worker is to do, and where."""

    function: Callable[[Item], Result]
    folder: str
    fingerprint: str

    def work(self, item: Item) -> Result:
        """On a worker."""
        worker = get_worker()
        self._check(worker)
        os.chdir(self.folder)
        with _ended_when_unwanted(worker, worker.get_current_task()):
            return self.function(item)

    def _check(self, worker: Any) -> None:
        who = f"worker {worker.address} on {platform.node()}"
        if worker.state.nthreads != 1:
            raise ExecutorError(
                f"{who}: found {worker.state.nthreads} threads, expected 1. Start it with "
                f"`{_START.format(scheduler=worker.scheduler.address)}`."
            )
        if not Path(self.folder).is_dir():
            raise ExecutorError(
                f"{who}: does not see {self.folder}. The repository must lie on a file system that "
                "all machines share, under one path."
            )
        if _fingerprint() != self.fingerprint:
            raise ExecutorError(
                f"{who}: runs other code or packages than this process, {Path(__file__).parent}. "
                "Start it with the same environment and the same PYTHONPATH."
            )


@cache
def _fingerprint() -> str:
    """Of what makes the bytes: Python, this library's files, and the packages that it asks for."""
    digest = hashlib.sha256(platform.python_version().encode())
    package = Path(petct_uad.__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    with suppress(PackageNotFoundError):
        for line in sorted(requires("petct-uad") or ()):
            if "extra ==" not in line:
                name = line.partition("=")[0].strip()
                digest.update(f"{name} {version(name)}".encode())
    return digest.hexdigest()


@contextmanager
def _ended_when_unwanted(worker: Any, key: str) -> Iterator[None]:
    """End this process if the caller fails, is interrupted or dies while the item is worked on.

    Dask cannot stop a thread, and one that went on would write into what a later run makes.
    """
    done = Event()

    def watch() -> None:
        while not done.wait(_LOOK_EVERY_S):
            task = worker.state.tasks.get(key)
            if not done.is_set() and (task is None or task.state not in ("executing", "memory")):
                os._exit(1)

    Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


@contextmanager
def _client(kind: str) -> Iterator[Client]:
    with _slurm_client() if kind == "slurm" else _scheduler_client() as client:
        yield client


def _scheduler_client() -> Client:
    address = os.environ.get(SCHEDULER)
    if not address:
        raise ExecutorError(
            f"{SCHEDULER}: not set. Expected the address of a Dask scheduler, as in "
            "tcp://192.168.1.5:8786, or the file that `dask scheduler --scheduler-file` writes."
        )
    if "://" not in address and not Path(address).is_file():  # Dask would wait for it for ever
        raise ExecutorError(
            f"{SCHEDULER}={address}: no such file, and no scheduler answers. Start "
            f"`dask scheduler --scheduler-file {address}`."
        )
    where = {"address": address} if "://" in address else {"scheduler_file": address}
    try:
        client = Client(**where, timeout=_PATIENCE_S, set_as_default=False)
    except (OSError, ValueError) as error:  # a time-out is an OSError
        raise ExecutorError(
            f"{SCHEDULER}={address}: no scheduler answers ({error}). Start `dask scheduler`."
        ) from None
    try:
        client.wait_for_workers(1, timeout=_PATIENCE_S)
    except TimeoutError:
        client.close()
        start = _START.format(scheduler=address)
        raise ExecutorError(f"{SCHEDULER}={address}: has no worker. Start `{start}`.") from None
    return client


def _slurm_client() -> Client:
    jobs = os.environ.get(SLURM_JOBS, "")
    if not jobs.isdigit() or jobs == "0":
        raise ExecutorError(
            f"{SLURM_JOBS}: found {jobs!r}, expected how many jobs of one process each to submit. "
            "Queue, memory and time of a job are in ~/.config/dask/jobqueue.yaml."
        )
    cluster = _slurm_cluster()
    cluster.scale(jobs=int(jobs))
    client = Client(cluster, set_as_default=False)
    console.print(f"waiting for the first of {jobs} SLURM jobs")
    client.wait_for_workers(1)
    return client


@cache
def _slurm_cluster() -> Any:
    """One for all that this process maps; it ends with the process."""
    try:
        from dask_jobqueue import SLURMCluster
    except ModuleNotFoundError as error:
        raise ExecutorError(
            f"{error.name} is not installed. Run pip install '.[cluster]'."
        ) from None
    log = dask.config.get("jobqueue.slurm.log-directory", None) or _SLURM_LOGS
    return SLURMCluster(cores=1, processes=1, log_directory=log)


def _name_the_lost(event: tuple[float, Any]) -> None:
    """Say which worker is gone, and that nothing is lost with it."""
    _, what = event
    if isinstance(what, dict) and what.get("action") == "remove-worker" and not what["expected"]:
        console.print(
            f"worker {what['worker']} is gone; what it was at is done again by another",
            style="yellow",
            markup=False,
        )


def _lost_several(
    error: KilledWorker, description: str, items: Sequence[object], places: dict[str, int]
) -> str:
    return (
        f"{description}: {items[places[error.task]]} has ended {error.allowed_failures + 1} "
        f"workers, the last was {error.last_worker.address}. Often their memory is too small: see "
        "their log, or run it alone with PETCT_EXECUTOR=none."
    )
