"""What a cohort costs as it grows.

    PYTHONPATH=src:. python benchmarks/scale.py add --studies 100
    PYTHONPATH=src:. python benchmarks/scale.py grow --patients 100 --patients 1000

``add`` builds a cohort of phantoms through the data stages (ingest, register, split, preprocess,
validate) with a store of studies, then again with nothing changed, with one study more, one
changed, one whose folder is renamed and one less, each as processes of their own, and last
everything with the store switched off. It gives the processor time of each, by stage, as a part of
the full build's, and compares the SHA-256 of every output of the cohort with one more to those of
the build without a store. Stages run in one process each (``workers: 1``), since the time of a
pool's workers is not told to who starts them.

``grow`` rebuilds cohorts of several sizes from phantoms to the report, with PatchCore and a few
iterations of CMAD, stage by stage through DVC, and gives what each took: seconds, processor time
per study, and the largest memory of any one process. At the end ``dvc repro`` has nothing to do.
Above 300 mm every fourth patient has two studies, so that 800 patients are 1,000 studies.
Whole bodies: ``-S phantom.extent_mm=900.0 -S phantom.ct_matrix=512 -S preprocess.region=thorax``.
"""

from __future__ import annotations

import compileall
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer
from rich.table import Table
from ruamel.yaml import YAML

from benchmarks.untouched import Case, make_clone
from petct_uad.core.console import console
from petct_uad.core.files import read_table, sha256_file
from petct_uad.ingest.tables import STUDIES, StudyRow
from petct_uad.phantom.cohort import make_cohort
from petct_uad.phantom.params import PhantomParams

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("ingest", "register", "split", "preprocess", "validate")
WHOLE = (
    "params", "data/dvc.yaml:phantom", *STAGES, "distil", "train@patchcore", "train@cmad",
    "score@patchcore", "score@cmad", "evaluate@patchcore", "evaluate@cmad", "evaluate_trivial",
    "compare",
)  # fmt: skip
OUTPUTS = ("data/interim", "data/processed", "metrics", "reports")
RAW = Path("data/raw/cohort")
INGESTED = Path("data/interim/phantom/ingest")

app = typer.Typer(no_args_is_help=True, help=__doc__)


@app.callback()
def main() -> None:
    """Each measure is a command."""


@dataclass(frozen=True)
class Cost:
    """Processor time of each stage and its children, in seconds."""

    seconds: Mapping[str, float]

    @property
    def total(self) -> float:
        """Of all stages."""
        return sum(self.seconds.values())


@app.command()
def add(
    studies: int = 24, ct_matrix: int = 256, extent_mm: float = 140.0, workers: int = 2
) -> None:
    """One study more, changed and less, beside the whole cohort."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        made, kept, without = (Path(name, part) for part in ("made", "kept", "without"))
        asked = {"patients": studies + 1, "seed": 7, "extent_mm": extent_mm, "ct_matrix": ct_matrix}
        limits = {"max_shift_mm": 8.0, "max_rotation_deg": 2.0}
        params = PhantomParams.model_validate(asked | limits)
        make_cohort(params, made / "raw", made / "truth", workers=workers)
        lay_out(kept, made / "raw")
        last = max(path for path in (kept / RAW).iterdir() if path.is_dir())
        last.rename(Path(name, "last"))
        costs = {"all, empty store": build(kept, store=True)}
        _show(studies, costs)
        costs["nothing changed"] = build(kept, store=True)
        Path(name, "last").rename(last)
        costs["one more"] = build(kept, store=True)
        _show(studies, costs)
        found = _hashes(kept)
        for what, change in (
            ("one changed", _change), ("one renamed", _rename), ("one less", shutil.rmtree)
        ):  # fmt: skip
            last = change(last) or last
            costs[what] = build(kept, store=True)
        _show(studies, costs)
        lay_out(without, made / "raw")
        costs["all, store off"] = build(without, store=False)
        _show(studies, costs)
        differ = sorted(k for k, v in (_hashes(without).items() ^ found.items()))
    console.print(f"outputs that differ between one more and all, store off: {differ or 'none'}")
    console.print(f"{len(found)} outputs compared")


@dataclass(frozen=True)
class Taken:
    """What one command took, with all that it waited for."""

    wall_s: float
    cpu_s: float
    peak_mib: float  # of the largest process

    def line(self, studies: int) -> tuple[str, str, str]:
        """Seconds, processor seconds per study, MiB."""
        return f"{self.wall_s:.0f}", f"{self.cpu_s / studies:.2f}", f"{self.peak_mib:.0f}"


@app.command()
def grow(
    patients: Annotated[list[int], typer.Option(help="sizes of cohort, in their order")],
    change: Annotated[
        list[str], typer.Option("-S", help="KEY=VALUE of params.yaml, as `dvc exp run` has it")
    ] = [],  # noqa: B006  typer's way to say none
    revision: str = "HEAD",
    keep: Annotated[Path | None, typer.Option(help="where the repositories stay")] = None,
) -> None:
    """Cohorts of several sizes, from phantoms to the report; or of whole bodies."""
    commit = subprocess.check_output(["git", "rev-parse", revision], cwd=ROOT, text=True).strip()
    pairs = (text.split("=", 1) for text in ("phantom.extent_mm=100.0", *change))
    asked = {key: YAML(typ="safe").load(value) for key, value in pairs}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        for size in patients:
            home = keep or Path(name)
            taken = _grown(size, asked, commit, home)
            studies = len(read_table(home / f"grow-{size}" / INGESTED / STUDIES, StudyRow))
            table = Table(f"{studies} studies", "s", "CPU s per study", "MiB")
            for what, took in taken:
                table.add_row(what, *took.line(studies))
            console.print(table)


def _grown(
    patients: int, asked: Mapping[str, Any], commit: str, folder: Path
) -> list[tuple[str, Taken]]:
    params = {
        **asked, "model.scan": "auto", "split.train_fraction": 0.5, "split.val_fraction": 0.125
    }  # fmt: skip
    rows = {"patchcore": ("pet",), "cmad": ("petct",)}
    clone = make_clone(Case(f"grow-{patients}", "", patients, params, rows), commit, folder)
    stages = {stage: ("--single-item", stage) for stage in WHOLE}
    taken = []
    for what, words in (stages | {"what is left": (), "nothing to do": ()}).items():
        taken.append((what, _took(clone.root, "repro", *words)))
        console.print(f"{patients} patients: {what} {taken[-1][1].wall_s:.0f} s")
    return taken


def _took(root: Path, *words: str) -> Taken:
    """Run DVC there."""
    began = monotonic()
    environment = os.environ | {"PYTHONPATH": "src"}
    with Path(root.parent, "log.txt").open("a", encoding="utf-8") as log:
        run = subprocess.Popen(
            [sys.executable, "-m", "dvc", *words], cwd=root, env=environment, stdout=log, stderr=log
        )
        _, status, used = os.wait4(run.pid, 0)
    if status:
        raise SystemExit(f"dvc {' '.join(words)} failed in {root}: see {root.parent}/log.txt")
    return Taken(monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def lay_out(home: Path, raw: Path) -> None:
    """A repository whose data set is the cohort, under the default params."""
    compileall.compile_dir(ROOT / "src", quiet=2)  # else every stage may pay for it, or the first
    home.mkdir()
    for name in ("src", "stages", "pyproject.toml"):
        (home / name).symlink_to(ROOT / name)
    params = YAML().load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params |= {"dataset": RAW.name, "workers": 1}
    YAML().dump(params, home / "params.yaml")
    shutil.copytree(raw, home / RAW)
    (home / "data/withdrawn.csv").write_text("patient,date\n", encoding="utf-8")


def build(home: Path, *, store: bool) -> Cost:
    """Run the data stages, with the store of studies or without."""
    switch = {"PYTHONPATH": str(ROOT / "src"), "PETCT_STORE": "on" if store else "off"}
    seconds = {}
    for stage in STAGES:
        before = children_s()
        command = [sys.executable, f"stages/{stage}.py"]
        done = subprocess.run(
            command, cwd=home, env=os.environ | switch, capture_output=True, text=True, check=False
        )
        if done.returncode and stage != "validate":  # which may find a small cohort wanting
            raise SystemExit(done.stderr)
        seconds[stage] = children_s() - before
    return Cost(seconds)


def children_s() -> float:
    """Processor time of all processes that were waited for, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _change(patient: Path) -> None:
    """One bit of one CT slice."""
    file = min(patient.glob("CT/*"))
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)


def _rename(patient: Path) -> Path:
    return patient.rename(patient.with_name(f"{patient.name}-again"))


def _hashes(home: Path) -> dict[str, str]:
    return {
        path.relative_to(home).as_posix(): sha256_file(path)
        for folder in OUTPUTS
        for path in sorted((home / folder).rglob("*"))
        if path.is_file()
    }


def _show(studies: int, costs: Mapping[str, Cost]) -> None:
    whole = next(iter(costs.values())).total
    table = Table(f"{studies} studies", *STAGES, "CPU s", "of the whole")
    for what, cost in costs.items():
        stages = [f"{cost.seconds[stage]:.1f}" for stage in STAGES]
        table.add_row(what, *stages, f"{cost.total:.1f}", f"{100 * cost.total / whole:.1f} %")
    console.print(table)


if __name__ == "__main__":
    app()
