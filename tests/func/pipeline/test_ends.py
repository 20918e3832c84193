"""A stage that is told to end, or killed, leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[3]
MOST_SECONDS = 60.0
BUSY_SECONDS = 0.5  # of a worker, which has imported all before


def eventually(holds: Callable[[], bool]) -> bool:
    before = time.monotonic()
    while not (found := holds()) and time.monotonic() - before < MOST_SECONDS:
        time.sleep(0.05)
    return found


@pytest.fixture
def heeding_interrupts() -> Iterator[None]:
    """What a shell starts in the background ignores SIGINT, and hands that on to its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def stage(tmp_path: Path, heeding_interrupts: None) -> Iterator[psutil.Popen]:
    """stages/phantom.py with work for minutes."""
    for name in ("src", "stages", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    params = YAML().load((ROOT / "params.yaml").read_text())
    params["workers"] = 2
    params["phantom"] |= {"patients": 48, "ct_matrix": 256}
    YAML().dump(params, tmp_path / "params.yaml")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "stages/phantom.py"]
    with psutil.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as run:
        yield run
        for process in (*run.children(recursive=True), run) if run.is_running() else ():
            process.kill()


def working(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.cpu_times().user > BUSY_SECONDS)
    return False


def alive(process: psutil.Process) -> bool:
    """A zombie has ended; whether anybody asks for its status is up to the machine's init."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_process_of_a_stage_outlives_it(stage: psutil.Popen, told: signal.Signals) -> None:
    both_work = eventually(lambda: sum(map(working, stage.children(recursive=True))) >= 2)
    assert both_work
    children = stage.children(recursive=True)
    stage.send_signal(told)
    assert eventually(lambda: stage.poll() is not None)
    assert eventually(lambda: not any(map(alive, children)))
