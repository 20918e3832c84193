"""What is paid beyond what must be: ``PYTHONPATH=src:. python benchmarks/overhead.py``.

``floor`` gives the processor time of the data stages per study, as the difference of a cohort of
twice as many studies and one of as many, so that starting five stages does not count, beside the
floor: every pixel decoded once, CT and PET resampled once to the model's grid, the CT's slices
filtered once, all by SimpleITK on one thread, as the stages.

``noop`` gives the seconds of a ``dvc repro`` that has nothing to do, beside one of two empty
stages, in turns. The pipeline is this repository's, its raw data one archive per study; outputs are
stand-ins of a few bytes, as many as the stages write, since DVC looks at their names and times.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from time import process_time
from typing import Annotated

import SimpleITK as sitk
import typer
from rich.table import Table
from ruamel.yaml import YAML

from benchmarks.scale import RAW, ROOT, STAGES, build, children_s, lay_out
from petct_uad.core.console import console
from petct_uad.phantom.cohort import make_cohort
from petct_uad.phantom.params import PhantomParams
from petct_uad.preprocess.filters import bilateral
from petct_uad.preprocess.params import PreprocessParams
from petct_uad.schema import load_params

FLOOR_BAR, NOOP_BAR = 1.3, 2.0
_TWO_STAGES = """stages:
  first: {cmd: echo 1 > first, outs: [first]}
  second: {cmd: cat first > second, deps: [first], outs: [second]}
"""
_PER_STUDY = 3  # files of a study in each folder that a data stage writes

app = typer.Typer(no_args_is_help=True, help=__doc__)


@app.command()
def floor(
    studies: Annotated[
        int, typer.Option(help="Of the smaller cohort; at least 6, so that it can be split.")
    ] = 6,
    ct_matrix: Annotated[int, typer.Option(help="Pixels along a side of the CT.")] = 256,
    extent_mm: Annotated[float, typer.Option(help="Along the body.")] = 140.0,
) -> None:
    """Data stages per study, beside their floor."""
    asked = {"patients": 2 * studies, "extent_mm": extent_mm, "ct_matrix": ct_matrix, "seed": 7}
    asked |= {"max_shift_mm": 8.0, "max_rotation_deg": 2.0}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        raw, small, large = (Path(name, part) for part in ("raw", "small", "large"))
        make_cohort(PhantomParams.model_validate(asked), raw, Path(name, "truth"), workers=2)
        lay_out(large, raw)
        patients = sorted(path for path in raw.iterdir() if path.is_dir())
        params = load_params().preprocess
        least = sum(_least_s(patient, params) for patient in patients[studies:]) / studies
        for patient in patients[studies:]:
            shutil.rmtree(patient)
        lay_out(small, raw)
        few, many = (build(home, store=False).seconds for home in (small, large))
    each = {stage: (many[stage] - few[stage]) / studies for stage in STAGES}
    _show_floor(each, least)


def _least_s(patient: Path, params: PreprocessParams) -> float:
    """Processor seconds of one study."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    started = process_time()
    ct, pet = (_decoded(patient / name) for name in ("CT", "PET"))
    side, (width, height, depth) = params.image_size_px, ct.GetSize()
    grid = sitk.Image(side, side, depth, sitk.sitkUInt8)
    x_mm, y_mm, z_mm = ct.GetSpacing()
    grid.SetOrigin(ct.GetOrigin())
    grid.SetDirection(ct.GetDirection())
    grid.SetSpacing((x_mm * width / side, y_mm * height / side, z_mm))
    ct, _ = (sitk.Resample(x, grid, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32)
             for x in (ct, pet))  # fmt: skip
    bilateral(sitk.IntensityWindowing(ct, params.ct_low_hu, params.ct_high_hu, 0.0, 1.0), params)
    return process_time() - started


def _decoded(folder: Path) -> sitk.Image:
    return sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))


def _show_floor(each: Mapping[str, float], least: float) -> None:
    table = Table("per study", *each, "all", "but register", "floor")
    every = sum(each.values())
    rest = every - each["register"]
    figures = [f"{x:.2f}" for x in (*each.values(), every, rest, least)]
    table.add_row("CPU s", *figures)
    table.add_row("of the floor", *(f"{x / least:.2f}" for x in (*each.values(), every, rest)))
    console.print(table)
    raise typer.Exit(every > FLOOR_BAR * least)


@app.command()
def noop(
    studies: Annotated[list[int], typer.Option(help="In the cohort; one table row each.")],
    rounds: Annotated[int, typer.Option(help="Of which the best counts.")] = 3,
) -> None:
    """``dvc repro`` with nothing to do, beside two empty stages."""
    table = Table("studies", "files", "no-op, CPU s", "two empty stages, CPU s", "times")
    missed = False
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        empty = Path(name, "empty")
        empty.mkdir()
        _dvc(empty, "init", "--no-scm", "--quiet")
        (empty / "dvc.yaml").write_text(_TWO_STAGES, encoding="utf-8")
        _dvc(empty, "repro", "--quiet")
        for count in studies:
            home = Path(name, str(count))
            files = _stand_in(home, count)
            taken = [(_dvc(home, "repro"), _dvc(empty, "repro")) for _ in range(rounds)]
            ours, theirs = map(min, zip(*taken, strict=True))
            table.add_row(
                str(count), str(files), f"{ours:.2f}", f"{theirs:.2f}", f"{ours / theirs:.2f}"
            )
            missed |= count <= 100 and ours > NOOP_BAR * theirs
    console.print(table)
    raise typer.Exit(missed)


def _stand_in(home: Path, studies: int) -> int:
    """A repository whose outputs are recorded as they lie; how many files DVC tracks."""
    home.mkdir()
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", home)
    params = YAML().load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    YAML().dump(params | {"dataset": RAW.name}, home / "params.yaml")
    _fill(home / RAW, studies, 1)
    (home / "data/withdrawn.csv").write_text("patient,date\n", encoding="utf-8")
    _dvc(home, "init", "--no-scm", "--quiet")
    for path in _outputs_and_inputs(home):
        if path.suffix and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(path.name, encoding="utf-8")
        elif not path.exists():
            _fill(path, studies if "data" in path.parts else 1, _PER_STUDY)
    _dvc(home, "commit", "--force")
    said = subprocess.run(
        ["dvc", "status"], cwd=home, capture_output=True, text=True, check=True
    ).stdout
    if "up to date" not in said:
        raise SystemExit(said)
    tracked = [path for path in home.rglob("*") if path.is_file() and ".dvc" not in path.parts]
    return len(tracked)


def _outputs_and_inputs(home: Path) -> list[Path]:
    """Outputs first, since some inputs are single files of one."""
    from dvc.repo import Repo

    with Repo(str(home)) as repo:
        return [Path(x.fs_path) for x in (*repo.index.outs, *repo.index.deps)]


def _fill(folder: Path, studies: int, files: int) -> None:
    for study in range(studies):
        (folder / str(study)).mkdir(parents=True)
        for file in range(files):
            (folder / str(study) / str(file)).write_text(f"{folder} {study} {file}")


def _dvc(folder: Path, *arguments: str) -> float:
    """Processor seconds of a command and its children."""
    before = children_s()
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return children_s() - before


if __name__ == "__main__":
    app()
