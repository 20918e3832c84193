"""Random single corruptions of a repository: does ``petct lineage verify`` name each one's file?

    cd CLONE && PYTHONPATH=src python BENCHMARKS/corruption.py --count 200 [--dvc 32]

works in the repository of the working directory, which must verify without findings, and puts
every file back. ``dvc status`` is asked about so many of them as ``--dvc`` says.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated

import typer

from petct_uad.lineage.store import cache_store, tracked
from petct_uad.lineage.verify import verify

app = typer.Typer()


@dataclass(frozen=True)
class Corruption:
    """What was done, and the files of which the audit must name one."""

    kind: str
    files: tuple[Path, ...]


class Journal:
    """What files were before they were changed."""

    def __init__(self) -> None:
        self._saved: dict[Path, tuple[bytes, os.stat_result]] = {}

    def rewrite(self, path: Path, content: bytes, *, rot: bool = False) -> None:
        """Write in place; ``rot`` keeps time and mode, as a failing disk does."""
        before = self._remember(path)
        path.chmod(0o644)
        path.write_bytes(content)
        if rot:
            path.chmod(before.st_mode & 0o777)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def remove(self, path: Path) -> None:
        """Delete a file."""
        self._remember(path)
        path.unlink()

    def undo(self) -> None:
        """Put every file back, with its time and mode."""
        for path, (content, stat) in self._saved.items():
            path.touch()
            path.write_bytes(content)
            path.chmod(stat.st_mode & 0o777)
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    def _remember(self, path: Path) -> os.stat_result:
        stat = path.stat()
        self._saved.setdefault(path, (path.read_bytes(), stat))
        return stat


Corrupt = Callable[[Random, Journal, list[Path]], tuple[Path, ...]]


_ROOMS = ("data", "models", "metrics", "reports")  # of outputs


@dataclass(frozen=True)
class Kind:
    """A way in which a repository goes wrong, and the files to which it can happen."""

    name: str
    corrupt: Corrupt  # says which files it changed
    patterns: tuple[str, ...]


def kind(name: str, corrupt: Corrupt, *patterns: str) -> Kind:
    """A kind in one line."""
    return Kind(name, corrupt, patterns)


def flips(draw: Random, journal: Journal, files: list[Path]) -> tuple[Path, ...]:
    """One bit of one file, with or without a new time."""
    return _flip(draw.choice(files), draw, journal, rot=draw.random() < 0.5)


def flips_object(draw: Random, journal: Journal, files: list[Path]) -> tuple[Path, ...]:
    """One bit of an object of DVC's cache, mostly of one in use, as a failing disk flips it."""
    store = cache_store()
    used = {store.path(out.md5) for out in tracked()}
    likely = [path for path in files if path in used or draw.random() < 0.2]
    return _flip(draw.choice(likely), draw, journal, rot=True)


def _flip(path: Path, draw: Random, journal: Journal, *, rot: bool) -> tuple[Path, ...]:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    journal.rewrite(path, bytes(content), rot=rot)
    return (path,)


def swaps(draw: Random, journal: Journal, files: list[Path]) -> tuple[Path, ...]:
    """Two files of the same kind change places."""
    first = draw.choice(files)
    content = first.read_bytes()
    second = draw.choice([path for path in files if path.read_bytes() != content])
    journal.rewrite(first, second.read_bytes())
    journal.rewrite(second, content)
    return first, second


def removes_row(draw: Random, journal: Journal, files: list[Path]) -> tuple[Path, ...]:
    """One line of a table."""
    path = draw.choice([path for path in files if path.read_bytes().count(b"\n") > 1])
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[draw.randrange(1, len(lines))]
    journal.rewrite(path, b"".join(lines))
    return (path,)


def edits_metric(draw: Random, journal: Journal, files: list[Path]) -> tuple[Path, ...]:
    """A better AUROC, written by hand."""
    path = draw.choice(files)
    content = json.loads(path.read_text())
    content["auroc"] += 0.01 if content["auroc"] < 0.99 else -0.01
    journal.rewrite(path, (json.dumps(content, indent=2) + "\n").encode())
    return (path,)


def removes_file(draw: Random, journal: Journal, files: list[Path]) -> tuple[Path, ...]:
    """One file is gone."""
    path = draw.choice(files)
    journal.remove(path)
    return (path,)


def changes_code(draw: Random, journal: Journal, files: list[Path]) -> tuple[Path, ...]:
    """A line more in a module that the stages ran."""
    path = draw.choice(files)
    journal.rewrite(path, path.read_bytes() + b"# changed\n")
    return (path,)


def changes_params(draw: Random, journal: Journal, files: list[Path]) -> tuple[Path, ...]:
    """Another value in params.yaml."""
    path = files[0]
    text = path.read_text()
    old, new = draw.choice([pair for pair in _VALUES if pair[0] in text])
    journal.rewrite(path, text.replace(old, new, 1).encode())
    return (path,)


_VALUES = (
    ("suv_high: 5.0", "suv_high: 5.5"), ("guard_mm: 5.0", "guard_mm: 6.0"),
    ("seed: 7", "seed: 8"), ("max_gap_mm: 0.1", "max_gap_mm: 0.2"),
)  # fmt: skip
_RAW = ("data/raw/*/*/*/*.dcm", "data/raw/*/*/*.png", "data/raw/*/*/*/*/*.png")
_VOLUMES = ("data/interim/*/*/volumes/*/*.gz", "data/interim/*/*/volumes/*/*.png")
_CODE = "src/petct_uad/"
KINDS = (
    kind("bit of a raw file", flips, *_RAW),
    kind("bit of the phantom's truth", flips, "data/truth/*/*", "data/truth/*/*/*"),
    kind("bit of a cache object", flips_object, ".dvc/cache/files/md5/*/*"),
    kind("bit of a volume", flips, *_VOLUMES),
    kind("bit of a shard", flips, "data/processed/*/shards/*"),
    kind("bit of weights", flips, "models/*/*/seed-*/weights.safetensors"),
    kind("bit of distilled weights", flips, "models/distil/*"),
    kind("bit of a figure", flips, "metrics/runs/*/*/*.csv", "metrics/runs/*/*/metrics.json"),
    kind("bit of a ROC curve", flips, "metrics/roc/*/*.csv"),
    kind("bit of a training curve", flips, "metrics/training/*/*.csv", "metrics/distil.csv"),
    kind("bit of a panel", flips, "reports/panels/*/*", "reports/panels/*/*/*"),
    kind("bit of the report", flips, "reports/index.html", "reports/registration/*"),
    kind("bit of a summary", flips, "metrics/*.json", "metrics/*.csv", "metrics/*.md"),
    kind("bit of a lineage table", flips, "data/*/*/lineage/*", "data/*/*/*/lineage/*"),
    kind("bit of a run's lineage", flips, *(f"{place}/lineage/*" for place in
         ("metrics", "metrics/runs/*/*", "models/*", "models/*/*"))),
    kind("metric edited by hand", edits_metric, "metrics/runs/*/*/metrics.json"),
    kind("raw files of two patients swapped", swaps, "data/raw/*/*/CT/*.dcm",
         "data/raw/*/train/good/*.png"),
    kind("volumes of two patients swapped", swaps, "data/interim/*/*/volumes/*/ct.nii.gz",
         "data/interim/*/*/volumes/*/image.png"),
    kind("shards of two patients swapped", swaps, "data/processed/*/shards/*"),
    kind("row removed from a table", removes_row, "data/interim/*/*/*.csv",
         "data/processed/*/*.csv", "metrics/runs/*/*/scores.csv"),
    kind("file removed", removes_file, *_RAW, *_VOLUMES, "reports/panels/*/*/*"),
    kind("code changed", changes_code, "stages/preprocess.py", *(f"{_CODE}{name}" for name in
         ("slices/store.py", "split/labels.py", "ingest/dicom/suv.py", "ingest/tables.py",
          "core/files.py"))),
    kind("params changed", changes_params, "params.yaml"),
)  # fmt: skip


Chance = tuple[Kind, list[Path]]  # what can go wrong, and where


def chances() -> list[Chance]:
    """Every kind to which this repository has files, without empty ones and leftovers of old."""
    outs = [out.path for out in tracked()]
    found = [(item, _files(item, outs)) for item in KINDS]
    return [(item, files) for item, files in found if files]


def _files(item: Kind, outs: list[str]) -> list[Path]:
    there = {path for pattern in item.patterns for path in Path().glob(pattern)}
    return sorted(
        path for path in there
        if path.is_file() and path.stat().st_size
        and (path.parts[0] not in _ROOMS or any(map(path.is_relative_to, outs)))
    )  # fmt: skip


def dvc_sees() -> bool:
    """Does ``dvc status`` say that anything changed, of what has run?"""
    stages = sorted({out.stage for out in tracked() if out.stage})
    command = [sys.executable, "-m", "dvc", "status", "--quiet", *stages]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.returncode != 0


def run_one(seed: int, here: list[Chance], *, ask_dvc: bool) -> tuple[Corruption, bool, bool]:
    """One corruption: what it was, whether the audit named its file, whether DVC saw anything."""
    journal = Journal()
    chosen, files = here[seed % len(here)]
    try:
        done = Corruption(chosen.name, chosen.corrupt(Random(seed), journal, files))
        named = {finding.path.split(":")[0] for finding in verify([]).findings}
        found = any(path.as_posix() in named for path in done.files)
        return done, found, dvc_sees() if ask_dvc else False
    finally:
        journal.undo()


@app.command()
def main(
    count: Annotated[int, typer.Option()] = 200,
    first: Annotated[int, typer.Option(help="seed, to continue another run")] = 0,
    dvc: Annotated[int, typer.Option(help="of how many `dvc status` is asked too")] = 0,
) -> None:
    """Count what is found, by kind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # puts the file back
    assert not verify([]).findings, "this repository has findings before any corruption"
    assert not (dvc and dvc_sees()), "dvc status sees a change before any corruption"
    tried, found, asked, seen = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    here = chances()
    for seed in range(first, first + count):
        ask_dvc = seed < first + dvc
        done, named, noticed = run_one(seed, here, ask_dvc=ask_dvc)
        tried[done.kind] += 1
        found[done.kind] += named
        asked[done.kind] += ask_dvc
        seen[done.kind] += noticed
        if not named:
            print(f"missed: seed {seed}, {done}")
    print(f"{'kind':36} tried  found by verify  dvc status asked  saw")
    for name in (*tried, "all"):
        counts = [c.total() if name == "all" else c[name] for c in (tried, found, asked, seen)]
        print(f"{name:36} {counts[0]:5}  {counts[1]:15}  {counts[2]:16}  {counts[3]:3}")


if __name__ == "__main__":
    app()
