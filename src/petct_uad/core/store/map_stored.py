"""A function of many studies, of which those in the store are taken."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from petct_uad.core.console import console
from petct_uad.core.machine import cores
from petct_uad.core.parallel import map_in_processes
from petct_uad.core.store.study_store import Storable, StudyStore, adapter_of

_MOST_THREADS = 8  # that hash at once; more wait for the disk

Task = TypeVar("Task", bound=Storable)
Result = TypeVar("Result")


def map_stored(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    result: type[Result],
    description: str,
    *,
    workers: int | None,
    store: StudyStore | None,
    bytes_of: Callable[[Task], int] | None = None,
    finish: Callable[[Task, Result], None] | None = None,
) -> list[Result]:
    """:func:`map_in_processes` for studies: those in the store are taken, the others computed.

    Args:
        function: of a module, by whose name and ``task.said`` and sources a result is found again.
        tasks: one per study.
        result: the function's, a dataclass of plain values.
        description: of the progress.
        workers: number of processes; 0 means one per core, None this one whatever the machine says.
        store: None computes every study, and keeps nothing.
        bytes_of: as :func:`map_in_processes` has it.
        finish: what is done with each study once its files are there, wherever they came from;
            by the process that computed it, or by a thread of this one.
    """
    work = _Work(function, result, store, finish)
    with ThreadPoolExecutor(min(workers or cores(), _MOST_THREADS)) as pool:  # hashing frees them
        looked = list(pool.map(work.look, tasks))
    missing = [item for item in looked if item.found is None]
    if store is not None and (taken := len(tasks) - len(missing)):
        text = f"{description}: {taken} of {len(tasks)} taken from {store.root}"
        console.print(text, markup=False, soft_wrap=True)
    weigh = None if bytes_of is None else partial(_weigh, bytes_of=bytes_of)
    done = map_in_processes(work, missing, description, workers, weigh) if missing else []
    if missing and store is not None:
        store.trim()
    computed = iter(done)
    return [next(computed) if item.found is None else item.found for item in looked]


@dataclass(frozen=True)
class _Work(Generic[Task, Result]):
    """What is done with every task."""

    function: Callable[[Task], Result]
    result: type[Result]
    store: StudyStore | None
    finish: Callable[[Task, Result], None] | None

    def look(self, task: Task) -> _Looked[Task, Result]:
        """Take it from the store, if it is there."""
        if self.store is None:
            return _Looked(task, "", None)
        _clear(task)
        key = self.store.key(self.function.__qualname__, task)
        found = self.store.take(key, task, self.result)
        if found is not None and self.finish is not None:
            self.finish(task, found)
        return _Looked(task, key, found)

    @property
    def func(self) -> Callable[[Task], Result]:
        """What it calls, named as a partial's is: pools import its module beforehand."""
        return self.function

    def __call__(self, item: _Looked[Task, Result]) -> Result:
        """Compute it, and keep it."""
        if self.store is not None:
            _clear(item.task)
        done = self.function(item.task)
        content = _as_json(done, self.result) if item.key else None
        if self.store is not None and content is not None:
            self.store.keep(item.key, item.task, content)
        if self.finish is not None:
            self.finish(item.task, done)
        return done


@dataclass(frozen=True)
class _Looked(Generic[Task, Result]):
    """A task and what the store has of it; under "" nothing is kept."""

    task: Task
    key: str
    found: Result | None


def _as_json(done: Result, kind: type[Result]) -> bytes | None:
    """What gives back the same values to the bit; None where nothing does.

    JSON has no text that is not UTF-8, which a hostile file's name may be; and a whole number in a
    field for fractions would come back as another Python value.
    """
    adapter = adapter_of(kind)
    try:
        content = json.dumps(adapter.dump_python(done), ensure_ascii=False).encode()
        same = repr(adapter.validate_json(content)) == repr(done)
    except (UnicodeEncodeError, ValidationError):
        return None
    return content if same else None


def _weigh(item: _Looked[Any, Any], *, bytes_of: Callable[[Any], int]) -> int:
    return bytes_of(item.task)


def _clear(task: Storable) -> None:
    """Nothing is written into a file that the store may share, such as a lost worker's."""
    for path in task.outputs.values():
        path.unlink(missing_ok=True)
