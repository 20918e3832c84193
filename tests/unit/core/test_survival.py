"""A stage whose DVC was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

MOST_SECONDS = 60.0
STAGE = """
import os, sys, time
from pathlib import Path
from petct_uad.core.survival import end_with_the_caller
end_with_the_caller()
Path(sys.argv[1], str(os.getpid())).touch()
time.sleep(600)
"""
STILL_STARTING = """
import os, sys, time
from pathlib import Path
import psutil
above = psutil.Process().parents()[:2]
Path(sys.argv[1], str(os.getpid())).touch()
while all(map(psutil.Process.is_running, above)):
    time.sleep(0.1)
from petct_uad.core.survival import end_with_the_caller
end_with_the_caller()
time.sleep(600)
"""
# As DVC runs a stage: through a shell that stays.
CALLER = """
import subprocess, sys
subprocess.run(["sh", "-c", '"$0" -c "$1" "$2"; true', sys.executable, *sys.argv[1:]])
"""


def run(
    folder: Path, stage: str = STAGE, **environment: str
) -> tuple[psutil.Popen, psutil.Process]:
    """What stands for DVC, in a session as a terminal gives it, and the stage below it."""
    command, quiet = [sys.executable, "-c", CALLER, stage, str(folder)], subprocess.DEVNULL
    caller = psutil.Popen(
        command, env=os.environ | environment, stderr=quiet, start_new_session=True
    )
    before = time.monotonic()
    while not any(folder.iterdir()) and time.monotonic() - before < MOST_SECONDS:
        time.sleep(0.05)
    (pid,) = (int(path.name) for path in folder.iterdir())
    return caller, psutil.Process(pid)


@pytest.fixture(autouse=True)
def nobody_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    for path in tmp_path.iterdir():
        if psutil.pid_exists(int(path.name)):
            psutil.Process(int(path.name)).kill()


def test_a_stage_ends_when_the_dvc_that_runs_it_is_killed(tmp_path: Path) -> None:
    """It once trained on, and wrote into what the next run had made."""
    caller, stage = run(tmp_path, DVC_STAGE="train@cmad")
    caller.kill()
    caller.wait()
    _, left = psutil.wait_procs([stage], timeout=MOST_SECONDS)
    assert left == []


def test_a_stage_ends_when_its_dvc_was_killed_while_it_was_still_importing(tmp_path: Path) -> None:
    """It once found the first process of the machine as its parent, and worked on to its end."""
    caller, stage = run(tmp_path, STILL_STARTING, DVC_STAGE="train@cmad")
    caller.kill()
    caller.wait()
    _, left = psutil.wait_procs([stage], timeout=MOST_SECONDS)
    assert left == []


def test_a_stage_that_somebody_started_by_hand_outlives_the_terminal(tmp_path: Path) -> None:
    caller, stage = run(tmp_path, DVC_STAGE="")
    caller.kill()
    caller.wait()
    _, left = psutil.wait_procs([stage], timeout=3)
    assert left == [stage]
