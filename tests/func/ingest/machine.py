"""The ingest stage as a process of its own, which a test may starve, kill or run twice."""

from __future__ import annotations

import os
import resource
import runpy
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from ruamel.yaml import YAML

from tests.func.ingest.hostile import ROOT, write_good

Prepare = Callable[[int], None]
HOME = Path("data/interim/x/ingest")


def as_it_is(_value: int) -> None:
    """Nothing is wrong with the machine."""


@dataclass(frozen=True)
class Ended:
    """How a stage ended: its exit code, negative where a signal ended it, and its stderr."""

    code: int
    said: str


@dataclass(frozen=True)
class Running:
    """A stage under way."""

    process: ForkServerProcess
    reader: Connection

    def end(self) -> Ended:
        with os.fdopen(os.dup(self.reader.fileno()), encoding="utf-8") as stream:
            said = stream.read()
        self.process.join(60)
        assert self.process.exitcode is not None
        return Ended(self.process.exitcode, said)


@dataclass(frozen=True)
class Repository:
    """A working directory with the stage's code and params, and a data set ``x`` of one study."""

    root: Path

    @property
    def raw(self) -> Path:
        return self.root / "data" / "raw" / "x"

    def start(self, prepare: Prepare = as_it_is, value: int = 0) -> Running:
        """Run the stage in a process forked from a fresh interpreter; ``prepare`` runs first."""
        context = get_context("forkserver")
        context.set_forkserver_preload(["petct_uad.ingest.run", "tests.func.ingest.machine"])
        reader, writer = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(self.root, writer, prepare, value))
        process.start()
        writer.close()
        return Running(process, reader)

    def run(self, prepare: Prepare = as_it_is, value: int = 0) -> Ended:
        return self.start(prepare, value).end()

    def output(self) -> dict[str, bytes] | None:
        """Every file of the stage's output; None where there is none."""
        home = self.root / HOME
        if not home.exists():
            return None
        files = (path for path in sorted(home.rglob("*")) if path.is_file())
        return {path.relative_to(home).as_posix(): path.read_bytes() for path in files}


def make_repository(root: Path) -> Repository:
    root.mkdir()
    for name in ("src", "stages", "pyproject.toml"):
        (root / name).symlink_to(ROOT / name)
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["dataset"], params["workers"] = "x", 1
    yaml.dump(params, root / "params.yaml")
    made = Repository(root)
    write_good(made.raw)
    return made


def no_file_longer_than(size: int) -> None:
    """What a full disk or a quota does: a write stops short."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def killed_at(count: int) -> None:
    """``kill -9`` at the n-th time that something below data/interim is opened, made or moved."""
    left = count

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        touches = event in {"open", "os.mkdir", "os.rename", "os.rmdir", "os.remove"}
        if touches and "interim" in str(arguments[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _run(root: Path, stderr: Connection, prepare: Prepare, value: int) -> None:
    os.chdir(root)
    os.dup2(stderr.fileno(), 2)
    stderr.close()
    sys.argv = ["stages/ingest.py"]
    prepare(value)
    runpy.run_path(str(Path("stages/ingest.py").absolute()), run_name="__main__")
