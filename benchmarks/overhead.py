"""What is paid beyond what must be: ``PYTHONPATH=src:. python benchmarks/overhead.py``.

``floor`` gives the processor time of the data stages per study, as the difference of a cohort of
twice as many studies and one of as many, so that starting five stages does not count, beside the
floor: every pixel decoded once, CT and PET resampled once to the model's grid, the CT's slices
filtered once, all by SimpleITK on one thread, as the stages. ``register`` is shown and does not
count: it aligns and tests what it found, of which the floor does nothing. A few minutes.

``noop`` gives the seconds of a ``dvc repro`` that has nothing to do, beside one of two empty
stages, and one of as many empty stages as the pipeline has, in turns. The pipeline is this
repository's, its raw data one archive per study; outputs are stand-ins of a few bytes, in files and
folders as the stages lay them out, since DVC looks at names and times.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
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
# What stages write, by the folder's name or its parent's: per study, or for a row of the benchmark.
_LAYOUT = {
    "ingest": ("volumes/{study}/ct", "volumes/{study}/pet", "volumes/{study}/label"),
    "register": ("volumes/{study}/body", "volumes/{study}/transform"),
    "processed": ("shards/{study}", "lineage/table"),
    "registration": ("{study}",),
    "scores-lineage": ("lineage/activity", "lineage/table"),
    "scores": ("pet/seed/{study}", "ct/seed/{study}", "petct/seed/{study}"),
    "": tuple(f"{row}/{place}" for row in ("pet", "ct", "petct")
              for place in ("a", "b", "c", "d", "lineage/activity", "lineage/table")),
}  # fmt: skip

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
    raise typer.Exit(rest > FLOOR_BAR * least)


@app.command()
def noop(
    studies: Annotated[list[int], typer.Option(help="In the cohort; one table row each.")],
    rounds: Annotated[int, typer.Option(help="Of which the best counts.")] = 3,
    instances: Annotated[int, typer.Option(help="DICOM instances of a study's archive.")] = 500,
) -> None:
    """``dvc repro`` with nothing to do, beside empty stages."""
    table = Table("studies", "files", "no-op, CPU s", "two empty stages", "as many", "times two")
    missed = False
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        two = _empty_stages(Path(name, "two"), 2)
        for count in studies:
            home = Path(name, str(count))
            files, stages = _stand_in(home, count, instances)
            places = (home, two, _empty_stages(Path(name, f"{count}-empty"), stages))
            taken = [[_dvc(place, "repro") for place in places] for _ in range(rounds)]
            ours, least, as_many = map(min, zip(*taken, strict=True))
            figures = (f"{x:.2f}" for x in (ours, least, as_many, ours / least))
            table.add_row(str(count), str(files), *figures)
            missed |= count <= 100 and ours > NOOP_BAR * least
    console.print(table)
    raise typer.Exit(missed)


def _empty_stages(home: Path, count: int) -> Path:
    """A repository of stages in a row, each with one file in and one out; run once."""
    home.mkdir()
    (home / "0").touch()
    stages = {
        f"stage-{i}": {"cmd": f"cp {i} {i + 1}", "deps": [str(i)], "outs": [str(i + 1)]}
        for i in range(count)
    }
    YAML().dump({"stages": stages}, home / "dvc.yaml")
    _init(home)
    _dvc(home, "repro", "--quiet")
    return home


def _stand_in(home: Path, studies: int, instances: int) -> tuple[int, int]:
    """A repository whose outputs are recorded as they lie; how many files, and how many stages."""
    home.mkdir()
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", home)
    params = YAML().load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    YAML().dump(params | {"dataset": RAW.name}, home / "params.yaml")
    for study in range(studies):
        _pack(home / RAW / f"{study}.zip", study, instances)
    (home / "data/withdrawn.csv").write_text("patient,date\n", encoding="utf-8")
    _init(home)
    shutil.copy(ROOT / ".dvcignore", home)
    for path in _outputs_and_inputs(home):
        if path.suffix and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(path.name, encoding="utf-8")
        elif not path.exists():
            _fill(path, studies)
    _dvc(home, "commit", "--force")
    if "up to date" not in (said := "\n".join(_lines(home, "status"))):
        raise SystemExit(said)
    tracked = [path for path in home.rglob("*") if path.is_file() and ".dvc" not in path.parts]
    return len(tracked), len(_lines(home, "stage", "list"))


def _init(home: Path) -> None:
    """As this repository is."""
    _dvc(home, "init", "--no-scm", "--quiet")
    for option in ("core.analytics", "core.check_update"):
        _dvc(home, "config", option, "false")


def _outputs_and_inputs(home: Path) -> list[Path]:
    """Outputs first, since some inputs are single files of one."""
    from dvc.repo import Repo

    with Repo(str(home)) as repo:
        return [Path(x.fs_path) for x in (*repo.index.outs, *repo.index.deps)]


def _fill(folder: Path, studies: int) -> None:
    named = (x for x in (folder.name, folder.parent.name) if x in _LAYOUT)
    for pattern in _LAYOUT[next(named, "")]:
        for study in range(studies if "{study}" in pattern else 1):
            path = folder / pattern.format(study=study)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(path.as_posix(), encoding="utf-8")


def _pack(path: Path, study: int, instances: int) -> None:
    """As ``petct add --pack``, with a few bytes for each instance."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for instance in range(instances):
            archive.writestr(f"{study}/{instance}.dcm", f"{study} {instance}")


def _lines(home: Path, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(
        command, cwd=home, capture_output=True, text=True, check=True
    ).stdout.splitlines()


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
