"""Random single corruptions of a repository: does ``petct lineage verify`` name each one's file?

    cd CLONE && PYTHONPATH=src python BENCHMARKS/corruption.py --count 200 [--dvc]

works in the repository of the working directory, which must verify without findings, and puts
every file back. ``--dvc`` asks ``dvc status`` about each corruption too (some seconds each).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated

import typer

from petct_uad.audit.store import cache_store, tracked
from petct_uad.audit.verify import verify

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


Corrupt = Callable[[Random, Journal], Corruption]


def _pick(draw: Random, *patterns: str) -> Path:
    found = sorted(path for pattern in patterns for path in Path().glob(pattern) if path.is_file())
    return draw.choice(found)


def _flip(path: Path, draw: Random, journal: Journal, *, rot: bool) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    journal.rewrite(path, bytes(content), rot=rot)


def flips(kind: str, *patterns: str) -> Corrupt:
    """One bit of one file, with or without a new time."""

    def corrupt(draw: Random, journal: Journal) -> Corruption:
        path = _pick(draw, *patterns)
        _flip(path, draw, journal, rot=draw.random() < 0.5)
        return Corruption(kind, (path,))

    return corrupt


def swaps(kind: str, pattern: str) -> Corrupt:
    """Two files of the same kind change places."""

    def corrupt(draw: Random, journal: Journal) -> Corruption:
        files = sorted(Path().glob(pattern))
        first = draw.choice(files)
        content = first.read_bytes()
        others = [path for path in files if path.read_bytes() != content]
        second = draw.choice(others)
        journal.rewrite(first, second.read_bytes())
        journal.rewrite(second, content)
        return Corruption(kind, (first, second))

    return corrupt


def removes_row(kind: str, *patterns: str) -> Corrupt:
    """One line of a table."""

    def corrupt(draw: Random, journal: Journal) -> Corruption:
        files = sorted(path for pattern in patterns for path in Path().glob(pattern))
        path = draw.choice([path for path in files if path.read_bytes().count(b"\n") > 1])
        lines = path.read_bytes().splitlines(keepends=True)
        del lines[draw.randrange(1, len(lines))]
        journal.rewrite(path, b"".join(lines))
        return Corruption(kind, (path,))

    return corrupt


def edits_metric(draw: Random, journal: Journal) -> Corruption:
    """A better AUROC, written by hand."""
    path = _pick(draw, "metrics/runs/*/*/metrics.json")
    content = json.loads(path.read_text())
    content["auroc"] += 0.01 if content["auroc"] < 0.99 else -0.01
    journal.rewrite(path, (json.dumps(content, indent=2) + "\n").encode())
    return Corruption("metric edited by hand", (path,))


def removes_file(draw: Random, journal: Journal) -> Corruption:
    """One file is gone."""
    path = _pick(draw, "data/raw/*/*/*/*.dcm", "data/interim/*/*/volumes/*/*.gz")
    journal.remove(path)
    return Corruption("file removed", (path,))


def changes_code(draw: Random, journal: Journal) -> Corruption:
    """A line more in a module that the stages ran."""
    modules = (
        "slices/images.py",
        "slices/labels.py",
        "dicom/suv.py",
        "dicom/series.py",
        "files.py",
    )
    path = _pick(draw, "stages/preprocess.py", *(f"src/petct_uad/{name}" for name in modules))
    journal.rewrite(path, path.read_bytes() + b"# changed\n")
    return Corruption("code changed", (path,))


def changes_params(draw: Random, journal: Journal) -> Corruption:
    """Another value in params.yaml."""
    path = Path("params.yaml")
    old, new = draw.choice([
        ("suv_high: 5.0", "suv_high: 5.5"), ("guard_mm: 5.0", "guard_mm: 6.0"),
        ("seed: 7", "seed: 8"), ("max_gap_mm: 0.1", "max_gap_mm: 0.2"),
    ])  # fmt: skip
    text = path.read_text()
    assert old in text
    journal.rewrite(path, text.replace(old, new, 1).encode())
    return Corruption("params changed", (path,))


def flips_object(draw: Random, journal: Journal) -> Corruption:
    """One bit of an object of DVC's cache, as a failing disk flips it."""
    used = {out.md5 for out in tracked()}
    objects = [path for md5, path in cache_store().objects() if draw.random() < 0.2 or md5 in used]
    path = draw.choice([path for path in objects if path.stat().st_size])
    _flip(path, draw, journal, rot=True)
    return Corruption("cache object", (path,))


CORRUPTIONS: tuple[Corrupt, ...] = (
    flips("bit of a raw file", "data/raw/*/*/*/*.dcm"),
    flips_object,
    flips("bit of a volume", "data/interim/*/*/volumes/*/*.gz"),
    flips("bit of a shard", "data/processed/*/shards/*"),
    flips("bit of weights", "models/*/*/seed-*/weights.safetensors"),
    flips("bit of a metric", "metrics/runs/*/*/*.csv", "metrics/runs/*/*/metrics.json"),
    flips("bit of a lineage table", "data/*/*/lineage/*", "data/*/*/*/lineage/*"),
    flips("bit of a run's lineage", "metrics/runs/*/*/lineage/*", "models/*/*/lineage/*"),
    edits_metric,
    swaps("raw files of two patients swapped", "data/raw/*/*/CT/*.dcm"),
    swaps("volumes of two patients swapped", "data/interim/*/*/volumes/*/ct.nii.gz"),
    swaps("shards of two patients swapped", "data/processed/*/shards/*"),
    removes_row("row removed from a table", "data/interim/*/*/*.csv", "data/processed/*/*.csv"),
    removes_file,
    changes_code,
    changes_params,
)


def dvc_sees() -> bool:
    """Does ``dvc status`` say that anything changed, of what has run?"""
    stages = sorted({out.stage for out in tracked() if out.stage})
    command = [sys.executable, "-m", "dvc", "status", "--quiet", *stages]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.returncode != 0


def run_one(seed: int, *, ask_dvc: bool) -> tuple[Corruption, bool, bool]:
    """One corruption: what it was, whether the audit named its file, whether DVC saw anything."""
    journal = Journal()
    try:
        done = CORRUPTIONS[seed % len(CORRUPTIONS)](Random(seed), journal)
        named = {finding.path.split(":")[0] for finding in verify([]).findings}
        found = any(path.as_posix() in named for path in done.files)
        return done, found, dvc_sees() if ask_dvc else False
    finally:
        journal.undo()


@app.command()
def main(
    count: Annotated[int, typer.Option()] = 200,
    dvc: Annotated[bool, typer.Option()] = False,
) -> None:
    """Count what is found, by kind."""
    assert not verify([]).findings, "this repository has findings before any corruption"
    assert not (dvc and dvc_sees()), "dvc status sees a change before any corruption"
    tried, found, seen = Counter[str](), Counter[str](), Counter[str]()
    for seed in range(count):
        done, named, noticed = run_one(seed, ask_dvc=dvc)
        tried[done.kind] += 1
        found[done.kind] += named
        seen[done.kind] += noticed
        if not named:
            print(f"missed: seed {seed}, {done}")
    for kind in (*tried, "all"):
        counts = [c.total() if kind == "all" else c[kind] for c in (tried, found, seen)]
        asked = f", by dvc status {counts[2]:4}" if dvc else ""
        print(f"{kind:36} {counts[0]:4}, found by verify {counts[1]:4}{asked}")


if __name__ == "__main__":
    app()
