"""Many items in as many processes as the machine bears, none of which stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from petct_uad.core.console import console
from petct_uad.core.errors import ExecutorError, UnitsError
from petct_uad.core.parallel import EXECUTOR, map_in_processes

LIBRARY = Path(__file__).parents[3] / "src/petct_uad"
HUGE = 1 << 60
STAGE = """
import gc
from petct_uad.core.provenance.stage import run_stage
from petct_uad.core.parallel import worker_pool

if __name__ == "__main__":
    with worker_pool(1, "gc") as pool:
        print(gc.isenabled(), pool.submit(gc.isenabled).result())
        with run_stage("stage", __file__):
            print(gc.isenabled(), pool.submit(gc.isenabled).result())
"""


def process_of(item: int) -> tuple[int, int]:
    time.sleep(0.2)  # so that no process takes all of them
    return item, os.getpid()


def fails_at_once_or_sleeps(item: int) -> int:
    if item == 0:
        raise ValueError("the first item")
    time.sleep(60)
    return item


def test_results_keep_the_order_of_the_items() -> None:
    done = map_in_processes(process_of, [3, 1, 2], "items", workers=2)
    assert [item for item, _ in done] == [3, 1, 2]
    assert len({process for _, process in done}) == 2


def test_items_that_fit_into_memory_one_by_one_are_worked_on_one_by_one() -> None:
    with console.capture() as said:
        done = map_in_processes(
            process_of, [1, 2, 3], "register", workers=2, bytes_of=lambda _: HUGE
        )
    assert {process for _, process in done} == {os.getpid()}
    assert "register: 1 of 2 processes" in said.get()
    assert f"about {HUGE / 2**30:.1f} GiB" in said.get()


def test_small_items_are_worked_on_at_once_and_nothing_is_said_of_memory() -> None:
    with console.capture() as said:
        done = map_in_processes(process_of, [1, 2, 3], "items", workers=2, bytes_of=lambda _: 1)
    assert len({process for _, process in done}) == 2
    assert "memory" not in said.get()


def test_an_item_that_fails_ends_the_others() -> None:
    """It once took until they were done."""
    before = time.monotonic()
    with pytest.raises(ValueError, match="the first item"):
        map_in_processes(fails_at_once_or_sleeps, [0, 1, 2], "items", workers=2)
    assert time.monotonic() - before < 30
    ours = psutil.Process().children(recursive=True)
    assert [child for child in ours if "spawn_main" in " ".join(child.cmdline())] == []


def refuses(item: int) -> int:
    raise UnitsError(f"study {item}", found="no dose", expected="(0018,1074)", advice="Ask for it.")


def is_killed(item: int) -> int:
    if item == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_without_an_executor_all_is_done_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXECUTOR, "none")
    done = map_in_processes(process_of, [3, 1, 2], "items", workers=2)
    assert done == [(item, os.getpid()) for item in (3, 1, 2)]


def test_an_executor_that_there_is_not_is_refused_with_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(EXECUTOR, "spark")
    with pytest.raises(ExecutorError, match="'spark', expected one of processes, none, dask"):
        map_in_processes(process_of, [1], "items", workers=1)


def test_nothing_is_started_for_no_items() -> None:
    assert map_in_processes(process_of, [], "items", workers=2) == []


def test_a_refusal_comes_back_from_a_process_as_it_was_made() -> None:
    """It once broke the pool: it could not be made again from its text."""
    with pytest.raises(UnitsError) as caught:
        map_in_processes(refuses, [1, 2], "items", workers=2)
    assert caught.value.expected == "(0018,1074)"
    assert str(caught.value) == "study 1: found no dose; expected (0018,1074). Ask for it."


def test_a_process_that_is_killed_is_said_without_a_traceback() -> None:
    with pytest.raises(ExecutorError, match=r"items: a process was killed.*Set `workers`"):
        map_in_processes(is_killed, [1, 2, 3], "items", workers=2)


def test_pools_of_processes_are_made_in_one_place() -> None:
    """So that what holds of it holds of every stage."""
    makers = [
        path.relative_to(LIBRARY).as_posix()
        for path in sorted(LIBRARY.rglob("*.py"))
        if any(word in path.read_text() for word in ("ProcessPoolExecutor", "Popen", "Pool("))
    ]
    assert makers == ["core/parallel.py"]


def test_garbage_is_not_looked_for_among_imports_but_wherever_something_runs(
    tmp_path: Path,
) -> None:
    """A worker, which imports the stage's file too, once never looked for any."""
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "params.yaml").write_text("dataset: x\n")
    command = [sys.executable, str(tmp_path / "stage.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True", "True"]
