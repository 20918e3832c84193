"""What the lineage audit costs: answers on a made lineage of a large cohort, and hashing.

    PYTHONPATH=src python benchmarks/lineage.py scale [--studies 1000]
    PYTHONPATH=src python benchmarks/lineage.py speed
    PYTHONPATH=src python benchmarks/lineage.py cost [--patients 8]

``scale`` writes the tables of so many studies, with 100 slices and 500 instances each, and times
every question in a process of its own, as a person would ask it. ``speed`` compares hashing as
``verify`` does it with ``sha256sum``. ``cost`` runs the data stages on a phantom cohort and says
which part of their time the lineage takes.
"""

from __future__ import annotations

import hashlib
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median
from typing import Annotated, Any, TypeVar
from unittest.mock import patch

import typer
from ruamel.yaml import YAML

from petct_uad.core.files import write_json, write_text
from petct_uad.core.provenance import record
from petct_uad.core.provenance.record import ACTIVITY
from petct_uad.core.provenance.table import TABLE, write_derivations
from petct_uad.lineage.hashing import Expected, hash_files
from petct_uad.lineage.names import family_of

Entity = tuple[str, str]
Edges = dict[Entity, list[Entity]]

INGEST, REGISTER = Path("data/interim/large/ingest"), Path("data/interim/large/register")
SPLIT, PROCESSED = Path("data/interim/large/split"), Path("data/processed/large")
SLICES, INSTANCES = 100, 500
RUNS = ("cmad-pet", "cmad-ct", "patchcore-pet", "patchcore-ct")
# What the record of a stage run spends its time on.
TIMED = (
    "sha256_file", "write_derivations", "library_modules", "source_hash", "package_versions",
    "write_json",
)  # fmt: skip
DATA_STAGES = ("phantom", "ingest", "register", "split", "preprocess", "validate")
Result = TypeVar("Result")
app = typer.Typer(no_args_is_help=True)


def entity(name: str) -> Entity:
    """A name and a digest that follows from it."""
    return name, hashlib.sha256(name.encode()).hexdigest()


def file(path: Path) -> Entity:
    """The entity of a file."""
    return entity(f"file:{path.as_posix()}")


def study_ids(count: int) -> list[str]:
    """As ingest makes them."""
    digests = (hashlib.sha256(str(i).encode()).hexdigest() for i in range(count))
    return [f"p-{digest[:10]}_{digest[10:18]}" for digest in digests]


def instances(study: str) -> list[Entity]:
    """The DICOM files of a study."""
    digest = int(hashlib.sha256(study.encode()).hexdigest()[:30], 16)
    return [entity(f"instance:2.25.{digest * 1000 + i}") for i in range(INSTANCES)]


def volumes(stage: Path, study: str, *names: str) -> list[Entity]:
    """Files of a study in a stage."""
    return [file(stage / "volumes" / study / f"{name}.nii.gz") for name in names]


def shard(study: str) -> Entity:
    """The shard of a study."""
    return file(PROCESSED / "shards" / f"{study}.safetensors")


def slices(study: str) -> list[Entity]:
    """The slices of a study."""
    return [entity(f"slice:{study}_{i:04d}") for i in range(SLICES)]


def ingest(studies: Iterable[str]) -> Edges:
    """What the ingest stage would write."""
    edges: Edges = {file(INGEST / "instances.csv"): []}
    for study in studies:
        found = instances(study)
        ct, pet, label = volumes(INGEST, study, "ct", "pet", "label")
        edges |= {ct: found[:200], pet: found[200:499], label: found}
        edges[file(INGEST / "instances.csv")] += found
    return edges


def register(studies: Iterable[str]) -> Edges:
    """What the register stage would write."""
    return {
        output: volumes(INGEST, study, "ct", "pet", "label")
        for study in studies
        for output in volumes(REGISTER, study, "ct", "pet", "label", "body")
    }


def preprocess(studies: Iterable[str]) -> Edges:
    """What the preprocess stage would write."""
    index = file(PROCESSED / "index.csv")
    edges: Edges = {index: [file(SPLIT / "slices.csv")]}
    for study in studies:
        sources = volumes(REGISTER, study, "ct", "pet", "label", "body")
        edges |= dict.fromkeys(slices(study), sources)
        edges[shard(study)] = slices(study)
        edges[index] += slices(study)
    return edges


def write_cohort(root: Path, studies: list[str]) -> None:
    """Tables of every stage, as after a whole `dvc repro`."""
    half = len(studies) // 2
    write(root / INGEST, "ingest", ingest(studies))
    write(root / REGISTER, "register", register(studies))
    bodies = [body for study in studies for body in volumes(REGISTER, study, "body")]
    write(root / SPLIT, "split", {file(SPLIT / "slices.csv"): bodies})
    write(root / PROCESSED, "preprocess", preprocess(studies))
    for run in RUNS:
        place = Path(family_of(run)) / run
        weights = file("models" / place / "seed-0/weights.safetensors")
        metrics = file("metrics/runs" / place / "metrics.json")
        train, test = map(shard, studies[:half]), map(shard, studies[half:])
        write(root / "models" / place, f"train {run}", {weights: list(train)})
        write(root / "metrics/runs" / place, f"evaluate {run}", {metrics: [weights, *test]})
        write_json(root / "metrics/runs" / place / "metrics.json", {"run": run, "auroc": 0.5})
    write_text(root / INGEST / "instances.csv", instances_csv(studies))


def instances_csv(studies: Iterable[str]) -> str:
    """``instances.csv`` of the cohort."""
    lines = ["file,sha256,sop_instance_uid,series_instance_uid,study_id,role,slice_index"]
    for study in studies:
        patient = study.split("_")[0]
        for i, (name, digest) in enumerate(instances(study)):
            uid = name.removeprefix("instance:")
            lines.append(f"{patient}/CT/{i:04d}.dcm,{digest},{uid},{uid[:-3]},{study},ct,{i}")
    return "\n".join(lines) + "\n"


def write(folder: Path, stage: str, edges: Edges) -> None:
    """One stage's lineage folder."""
    write_derivations(folder / "lineage" / TABLE, edges)
    record = {
        "stage": stage, "params": {"model": {"cmpt": 8}}, "params_sha256": "", "source_sha256": "",
        "sources": {"src/petct_uad/core/files.py": "0" * 64}, "packages": {},
    }  # fmt: skip
    write_json(folder / "lineage" / ACTIVITY, record)


def seconds(command: list[str], root: Path, repeats: int = 5) -> tuple[float, float]:
    """The medians, over a few runs, of the time on the wall and on the processor."""
    wall, busy = [], []
    for _ in range(repeats):
        started, before = time.perf_counter(), getrusage(RUSAGE_CHILDREN)
        subprocess.run(command, cwd=root, check=True, capture_output=True)
        after = getrusage(RUSAGE_CHILDREN)
        wall.append(time.perf_counter() - started)
        busy.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return median(wall), median(busy)


@app.callback()
def main() -> None:
    """Speed of the lineage audit."""


@app.command()
def scale(studies: Annotated[int, typer.Option()] = 1000) -> None:
    """Time each question over a cohort of this size."""
    cohort = study_ids(studies)
    questions = {
        "trace a slice": ("trace", slices(cohort[1])[50][0].removeprefix("slice:")),
        "trace a model": ("trace", "cmad-pet"),
        "trace a metric": ("trace", "cmad-pet:auroc"),
        "impact of a patient": ("impact", cohort[2].split("_")[0]),
        "impact of an instance": ("impact", instances(cohort[3])[7][0].removeprefix("instance:")),
        "impact of a param": ("impact", "model.cmpt"),
        "impact of a module": ("impact", "src/petct_uad/core/files.py"),
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_cohort(root, cohort)
        size = sum(path.stat().st_size for path in root.rglob(TABLE))
        print(f"{studies} studies, {studies * SLICES} slices, {studies * INSTANCES} instances: "
              f"{size / 1e6:.1f} MB of tables")  # fmt: skip
        for name, words in questions.items():
            command = [sys.executable, "-m", "petct_uad.cli.app", "lineage", *words]
            wall, busy = seconds(command, root)
            print(f"{name:24} {wall:6.2f} s on the wall, {busy:6.2f} s of processor")


@app.command()
def speed(megabytes: Annotated[int, typer.Option()] = 512) -> None:
    """Time hashing as ``verify`` does it against ``sha256sum`` on two workers."""
    with tempfile.TemporaryDirectory() as folder:
        sizes = [*[1 << 17] * (megabytes * 4), *[1 << 25] * (megabytes // 64)]  # slices, shards
        files = [Path(folder, f"{i:05d}") for i in range(len(sizes))]
        for file_path, size in zip(files, sizes, strict=True):
            file_path.write_bytes(os.urandom(size))
        listed = "\0".join(map(str, files)).encode()
        command = ["xargs", "-0", "-P2", "-n64", "sha256sum"]
        wanted = [Expected(path, "sha256", "") for path in files]
        theirs, ours = [], []
        for _ in range(5):
            started = time.perf_counter()
            subprocess.run(command, input=listed, check=True, capture_output=True)
            theirs.append(time.perf_counter() - started)
            started = time.perf_counter()
            hash_files(wanted, "hashing")
            ours.append(time.perf_counter() - started)
        total = sum(sizes) / 1e6
        print(f"{total:.0f} MB in {len(files)} files: verify {total / median(ours):.0f} MB/s, "
              f"sha256sum on two workers {total / median(theirs):.0f} MB/s")  # fmt: skip


@app.command()
def cost(patients: Annotated[int, typer.Option()] = 8) -> None:
    """Print the seconds of each data stage, and how many of them its lineage took."""
    with tempfile.TemporaryDirectory() as folder, chdir(_workspace(Path(folder), patients)):
        clock = _Clock()
        with clock.on_lineage():
            spent = [_stage_seconds(name, clock) for name in DATA_STAGES]
    for name, (whole, lineage) in zip(DATA_STAGES, spent, strict=True):
        print(f"{name:12} {whole:6.2f} s, lineage {lineage:5.2f} s, {100 * lineage / whole:4.1f} %")
    whole, lineage = map(sum, zip(*spent, strict=True))
    print(f"{'all':12} {whole:6.2f} s, lineage {lineage:5.2f} s, {100 * lineage / whole:4.1f} %")


@dataclass
class _Clock:
    """Seconds spent in lineage calls of this process."""

    seconds: float = 0.0

    @contextmanager
    def on_lineage(self) -> Iterator[None]:
        """Time hashing for entities and writing tables; neither calls the other."""
        with ExitStack() as stack:
            for name in TIMED:
                timed = self._timed(getattr(record, name))
                stack.enter_context(patch.object(record, name, timed))
            yield

    def _timed(self, function: Callable[..., Result]) -> Callable[..., Result]:
        def call(*args: Any) -> Result:
            began = time.perf_counter()
            try:
                return function(*args)
            finally:
                self.seconds += time.perf_counter() - began

        return call


def _stage_seconds(name: str, clock: _Clock) -> tuple[float, float]:
    began, before = time.perf_counter(), clock.seconds
    runpy.run_path(str(Path(f"stages/{name}.py").absolute()))["main"]()
    return time.perf_counter() - began, clock.seconds - before


def _workspace(home: Path, patients: int) -> Path:
    """Code and params; one process, so that all its time is seen."""
    for name in ("src", "stages"):
        shutil.copytree(name, home / name)
    shutil.copy("pyproject.toml", home)  # says which packages a stage may import
    params = YAML().load(Path("params.yaml").read_text(encoding="utf-8"))
    params["phantom"]["patients"] = patients
    params["workers"] = 1
    YAML().dump(params, home / "params.yaml")
    return home


if __name__ == "__main__":
    app()
