"""Several trainings at once, each in its own process: its result, its words and its error."""

from __future__ import annotations

import os
import signal
import time

import pytest
import torch

from petct_uad.core import parallel
from petct_uad.core.console import console
from petct_uad.core.errors import TrainingError
from petct_uad.training import together
from petct_uad.training.together import Tell, train_at_once, trainings_at_once


def trains(task: int, tell: Tell) -> tuple[int, int, int]:
    tell(1, 2)
    time.sleep(0.3)  # so that no process takes all of them
    console.print(f"training {task} has ended")
    tell(2, 2)
    return task, os.getpid(), torch.get_num_threads()


def diverges_or_sleeps(task: int, _tell: Tell) -> int:
    if task == 0:
        raise TrainingError("the loss of training 0 is not finite")
    time.sleep(60)
    return task


def is_killed(_task: int, _tell: Tell) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_results_keep_the_order_of_the_trainings_and_every_line_is_printed() -> None:
    with console.capture() as said:
        done = train_at_once(trains, [3, 1, 2], ["c", "a", "b"], 2)
    assert [task for task, _, _ in done] == [3, 1, 2]
    assert len({process for _, process, _ in done} - {os.getpid()}) == 2
    for task in (1, 2, 3):
        assert said.get().count(f"training {task} has ended") == 1


def test_trainings_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "cores", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    done = train_at_once(trains, [1, 2], ["a", "b"], 2)
    assert {threads for _, _, threads in done} == {4}


def test_the_error_of_one_training_is_raised_and_ends_the_others() -> None:
    before = time.monotonic()
    with pytest.raises(TrainingError, match="training 0 is not finite"):
        train_at_once(diverges_or_sleeps, [0, 1], ["a", "b"], 2)
    assert time.monotonic() - before < 30


def test_a_killed_training_is_named_and_says_that_it_resumes() -> None:
    with pytest.raises(TrainingError, match=r"killed from outside.*resumes"):
        train_at_once(is_killed, [0, 1], ["a", "b"], 2)


@pytest.mark.parametrize(
    ("iterations", "processes", "gib", "expected"),
    [
        ([800, 800, 800], 1, 64, 2),
        ([800], 1, 64, 1),
        ([800, 800, 800], 1, 3, 1),
        ([800, 800, 800], 2, 64, 1),
        ([6, 6, 6], 1, 64, 1),
        ([0, 0], 1, 64, 1),
    ],
)
def test_as_many_at_once_as_there_are_cores_if_memory_allows_and_it_is_worth_a_process(
    monkeypatch: pytest.MonkeyPatch,
    iterations: list[int],
    processes: int,
    gib: int,
    expected: int,
) -> None:
    monkeypatch.setattr(together, "cores", lambda: 2)
    monkeypatch.setattr(parallel, "free_bytes", lambda: gib << 30)
    assert trainings_at_once(torch.device("cpu"), iterations, processes) == expected


def test_one_training_after_another_on_a_gpu() -> None:
    assert trainings_at_once(torch.device("cuda"), [800, 800], 1) == 1
