"""Is everything the same after processes were killed at any moment?

    PYTHONPATH=src:. python benchmarks/chaos.py [--kills 100] [--seed 0] [--executor dask]

clones this repository's HEAD with a small pipeline and builds it undisturbed. Then, again and
again: DVC is to make a stage drawn at random anew, a process drawn at random among DVC, the stage
and its workers is killed (SIGKILL) at a random moment, and ``dvc repro`` finishes the work. Every
output must have the bytes of the undisturbed run, and ten seconds after the first DVC has ended
nothing that it had started may be alive. Every other time the store of studies is emptied first, so
that all is computed. DVC does not write ``dvc.lock`` aside: one that it was killed over and cannot
read any more is restored from git, as ``petct doctor`` says, and counted.

Under ``--executor dask`` a scheduler and two workers run beside DVC, which are killed as well;
Dask's nanny replaces a worker.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import psutil
import typer
from ruamel.yaml import YAML

from benchmarks.untouched import Case, Clone, make_clone
from petct_uad.core.files import sha256_file
from petct_uad.lineage.store import LOCK, PIPELINES

CASE = Case("chaos", "", 6, {"workers": 2, "train.checkpoint_every": 2}, {"cmad": ("petct", "pet")})
LONGEST_S = 10.0
REPRO = (sys.executable, "-m", "dvc", "repro", "--no-run-cache")
LOCKS = tuple(str(folder / LOCK) for folder in PIPELINES)
EXECUTOR, SCHEDULER = "PETCT_EXECUTOR", "PETCT_DASK_SCHEDULER"
Outputs = Mapping[str, str]


@dataclass(frozen=True)
class Place:
    """Where DVC runs, under which environment, and who is never killed."""

    clone: Clone
    environment: Mapping[str, str]
    spared: tuple[psutil.Process, ...] = ()

    @property
    def quietly(self) -> dict[str, Any]:
        """For ``Popen``."""
        nowhere = subprocess.DEVNULL
        return {
            "cwd": self.clone.root, "env": self.environment, "stdout": nowhere, "stderr": nowhere
        }  # fmt: skip


@dataclass(frozen=True)
class Kill:
    """What happened to one run."""

    stage: str
    after_s: float
    killed: str  # its command line, or "" where all was done before that
    restored: bool  # dvc.lock, from git
    left: tuple[str, ...]  # what was alive afterwards
    differing: tuple[str, ...]  # outputs

    def __str__(self) -> str:
        wrong = [*(f"alive: {x}" for x in self.left), *(f"differs: {x}" for x in self.differing)]
        done = f"{self.stage} after {self.after_s:.1f} s: killed {self.killed}"
        done += "; dvc.lock was restored" * self.restored
        return "\n  ".join([done, *wrong])


def main(
    kills: Annotated[int, typer.Option(help="how many runs to disturb")] = 100,
    seed: Annotated[int, typer.Option(help="of moments and victims")] = 0,
    executor: Annotated[str, typer.Option(help="processes or dask")] = "processes",
    revision: Annotated[str, typer.Option(help="of this repository")] = "HEAD",
) -> None:
    """Print each kill, and how many left something wrong."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        commit = Clone(Path(__file__).parents[1]).git("rev-parse", revision).strip()
        clone = make_clone(CASE, commit, Path(name))
        place = stack.enter_context(_place(clone, executor))
        subprocess.run(REPRO, check=True, **place.quietly)
        clone.commit("results")
        expected = _outputs(clone)
        takes_s = {stage: _takes_s(place, stage) for stage in _stages(clone)}
        wrong = done = restored = 0
        while done < kills:
            if done % 2:
                shutil.rmtree(clone.root / ".cache/studies", ignore_errors=True)
            stage = draw.choice(_stages(clone))
            said = _disturbed(place, stage, draw.uniform(0, takes_s[stage]), draw, expected)
            wrong += bool(said.left or said.differing)
            restored += said.restored
            if said.killed:
                done += 1
                print(f"{done}/{kills} {said}", flush=True)
            else:  # it was faster than the first time
                takes_s[stage] = said.after_s
    print(f"{kills} kills under {executor}, {wrong} with something wrong; seed {seed}")
    print(f"dvc.lock restored {restored} times")
    raise typer.Exit(int(wrong > 0))


@cache
def _stages(clone: Clone) -> tuple[str, ...]:
    """As DVC names them."""
    said = clone.run(sys.executable, "-m", "dvc", "stage", "list", "--all", "--name-only")
    return tuple(said.split())


def _anew(stage: str) -> tuple[str, ...]:
    return (*REPRO, "--force", "--single-item", stage)


def _takes_s(place: Place, stage: str) -> float:
    """Undisturbed, with nothing to be found in the store."""
    shutil.rmtree(place.clone.root / ".cache/studies", ignore_errors=True)
    began = monotonic()
    subprocess.run(_anew(stage), check=True, **place.quietly)
    return monotonic() - began


def _disturbed(
    place: Place, stage: str, after_s: float, draw: random.Random, expected: Outputs
) -> Kill:
    """One run that is cut short, and one that finishes."""
    run = psutil.Popen(_anew(stage), **place.quietly)
    with suppress(psutil.TimeoutExpired):
        run.wait(after_s)
    killed, family = "", [run, *run.children(recursive=True)] if run.is_running() else []
    if family:
        workers = [x for x in psutil.Process().children(recursive=True) if x not in place.spared]
        victim = draw.choice(workers)
        killed = _command(victim)
        victim.kill()
        run.wait()  # DVC continues where it was a helper, or Dask's, whose work another does
    left = tuple(map(_command, psutil.wait_procs(family, timeout=LONGEST_S)[1]))
    restored = not _repaired(place)
    if restored:
        place.clone.git("checkout", "--quiet", "--", *LOCKS)
        subprocess.run(REPRO, check=True, **place.quietly)
    found = _outputs(place.clone)
    differing = {x for x in {*found, *expected} if found.get(x) != expected.get(x)}
    return Kill(stage, after_s, killed, restored, left, tuple(sorted(differing)))


def _repaired(place: Place) -> bool:
    """Whether DVC could finish the work; False if it cannot read what it has written.

    Raises:
        RuntimeError: it could not for another reason.
    """
    done = subprocess.run(
        REPRO, cwd=place.clone.root, env=place.environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    unreadable = re.search(r"dvc\.lock' (is invalid|validation failed)", done.stderr)
    if done.returncode and not unreadable:
        raise RuntimeError(done.stdout + done.stderr)
    return not done.returncode


def _outputs(clone: Clone) -> Outputs:
    """The hash of every file that DVC tracks as an output of a stage, by its path.

    ``dvc.lock`` knows stages of the repository's own pipeline, which is larger, too.
    """
    names = {name.rpartition(":")[2] for name in _stages(clone)}
    outs = [
        clone.root / out["path"]
        for lock in LOCKS
        for name, stage in YAML(typ="safe").load(clone.root / lock)["stages"].items()
        if name in names
        for out in stage.get("outs", ())
    ]
    files = [x for out in outs for x in (out.rglob("*") if out.is_dir() else [out]) if x.is_file()]
    return {path.relative_to(clone.root).as_posix(): sha256_file(path) for path in files}


def _command(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())[-80:]}"
    except psutil.Error:
        return str(process.pid)


@contextmanager
def _place(clone: Clone, executor: str) -> Iterator[Place]:
    """Under Dask with a scheduler and two workers, which end with it."""
    environment = os.environ | {"PYTHONPATH": _paths(clone), EXECUTOR: executor}
    if executor != "dask":
        yield Place(clone, environment)
        return
    file = clone.root.parent / "scheduler.json"
    with ExitStack() as stack:
        spared = [
            psutil.Popen(
                [sys.executable, "-m", "dask", *words, "--scheduler-file", str(file)],
                cwd=clone.root, env=environment, stderr=subprocess.DEVNULL,
            )
            for words in (("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"),
                          ("worker", "--nthreads", "1", "--nworkers", "2", "--no-dashboard"))
        ]  # fmt: skip
        for process in spared:
            stack.callback(process.terminate)
        yield Place(clone, environment | {SCHEDULER: str(file)}, tuple(spared))


def _paths(clone: Clone) -> str:
    """The clone's code before what this process has besides its own."""
    ours = str(Path(__file__).parents[1])
    others = [x for x in os.environ.get("PYTHONPATH", "").split(os.pathsep) if x]
    kept = [x for x in others if not Path(x).resolve().is_relative_to(ours)]
    return os.pathsep.join([str(clone.root / "src"), *kept])


if __name__ == "__main__":
    typer.run(main)
