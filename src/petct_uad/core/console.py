"""What a person sees on the terminal while a stage runs."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
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

from petct_uad.core.errors import PetctError

Item = TypeVar("Item")

console = Console(stderr=True, highlight=False)
# What the machine may lack; any other OSError is a mistake of ours, and its traceback is needed.
_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO}
_INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it


@contextmanager
def fail_cleanly() -> Iterator[None]:
    """Print an intended error, or Ctrl-C, without its traceback; exit with its code."""
    try:
        yield
    except PetctError as error:
        _say(f"error: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        kept = "What was done is kept, and the last checkpoint of a training below .checkpoints"
        _say(f"interrupted. {kept}: `dvc repro` resumes from there.")
        sys.exit(_INTERRUPTED)
    except OSError as error:
        if error.errno not in _MACHINE:
            raise
        advice = "What was there before is untouched. Fix the disk or its permissions; run again."
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
