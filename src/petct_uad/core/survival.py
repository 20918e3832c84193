"""A stage ends with whoever runs it: what runs on alone would write into a later run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import PurePath
from threading import Thread
from time import sleep

import psutil

_LOOK_EVERY_S = 0.5
_SHELLS = {"sh", "dash", "bash", "zsh", "fish", "ksh"}
# Set by DVC for a stage, and by torchrun for each of its processes. Without them somebody typed the
# command, and may want it to outlive the terminal.
_STARTED_BY = ("DVC_STAGE", "TORCHELASTIC_RUN_ID")


def end_with_the_caller(environment: Mapping[str, str] = os.environ) -> None:
    """End this process, with no chance to write, within a second of DVC's or torchrun's end.

    A killed DVC leaves its stage running, and a killed torchrun its processes. Where that happened
    while this process was still importing, it ends here.
    """
    if not any(environment.get(name) for name in _STARTED_BY):
        return
    Thread(target=_watch, args=(_callers(),), daemon=True).start()


def _callers() -> list[psutil.Process]:
    """This process's parent and, where that is a shell or torchrun on behalf of it, its parent."""
    callers: list[psutil.Process] = []
    this = psutil.Process()
    for child, process in pairwise([this, *this.parents()]):
        if _adopted(child, process):
            break
        callers.append(process)
        if not _passes_on(process):
            return callers
    os._exit(1)


def _adopted(child: psutil.Process, parent: psutil.Process) -> bool:
    """Whether it took the child over from one that ended, as the first process of a machine and a
    person's systemd do. A container's first process may be DVC, which shares its session."""
    try:
        if parent.name() == "systemd":
            return True
        return parent.pid == 1 and os.getsid(child.pid) != os.getsid(parent.pid)
    except (psutil.Error, ProcessLookupError):
        return True


def _passes_on(process: psutil.Process) -> bool:
    try:
        command = process.cmdline()
    except psutil.Error:
        return False
    names = [PurePath(word).name for word in command[:2]]
    runs_one_line = bool(names) and names[0] in _SHELLS and "-c" in command
    return runs_one_line or "torchrun" in names


def _watch(callers: list[psutil.Process]) -> None:
    while all(map(_is_there, callers)):
        sleep(_LOOK_EVERY_S)
    os._exit(1)


def _is_there(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
