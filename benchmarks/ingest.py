"""Time ingestion beside dcm2niix and SimpleITK: ``PYTHONPATH=src python benchmarks/ingest.py``.

One phantom study of the default size and one real study (``$PETCT_DATA/sts``, default
``../shared/data``); CT and PET only, which is all that the others read. Ours indexes, hashes,
chooses, checks the geometry, computes SUVbw, writes compressed NIfTI and four tables. dcm2niix (the
Debian package's or the wheel's, PyPI ``dcm2niix``) converts the same files with its users' ``-z y``
(pigz), with ``-z i`` and without compression; a plain ``SimpleITK.ImageSeriesReader`` reads every
series and writes it compressed. In turns, medians. Last, where our own time goes, and what it takes
to start workers: a single study starts none.

On a machine that is busy with other things the processor time, also given, is the fairer figure.
"""

from __future__ import annotations

import importlib
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import SimpleITK as sitk
import typer

from petct_uad.core.console import console
from petct_uad.core.files import sha256_file
from petct_uad.ingest.dicom.geometry import stack_slices
from petct_uad.ingest.dicom.index import index_files
from petct_uad.ingest.dicom.volumes import read_ct, read_pet
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.run import ingest_dataset
from petct_uad.phantom.cohort import make_cohort
from petct_uad.phantom.params import PhantomParams

PHANTOM = {"patients": 4, "seed": 7, "extent_mm": 140.0, "ct_matrix": 256}
REAL = Path(os.environ.get("PETCT_DATA", "../shared/data")) / "sts/dicom/STS_013"

Convert = Callable[[Path, Path], object]


def main(workers: int = 2, runs: int = 5) -> None:
    """Print the medians of ``runs`` and their ratios to dcm2niix."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        for name, raw in _studies(Path(folder)):
            files = [path for path in raw.rglob("*") if path.is_file()]
            size = sum(path.stat().st_size for path in files) / 1e6
            console.print(f"\n[bold]{name}[/bold]: {len(files)} files, {size:.1f} MB")
            _compare(raw, Path(folder) / "out", workers, runs)
            _shares(raw, Path(folder) / "out")
        first, next_ = (_start_workers(workers) for _ in range(2))
        console.print(f"\nstarting {workers} worker processes: {first:.2f} s, again {next_:.2f} s")


def _studies(folder: Path) -> Iterator[tuple[str, Path]]:
    asked = {**PHANTOM, "max_shift_mm": 8.0, "max_rotation_deg": 2.0}
    made = folder / "made"
    make_cohort(PhantomParams.model_validate(asked), made, folder / "truth", workers=2)
    for patient in sorted(made.glob("*/")):
        shutil.rmtree(patient / "SEG", ignore_errors=True)
    one = shutil.copytree(min(made.glob("*/")), folder / "one" / "P")
    yield "one phantom study", one.parent
    if REAL.is_dir():
        for series in ("CT", "PET"):
            shutil.copytree(REAL / series / "image", folder / "real" / series)
        yield "one real study (STS_013)", folder / "real"
    else:
        console.print(f"{REAL}: no real study here; set PETCT_DATA")


def _start_workers(workers: int) -> float:
    """Seconds until every worker process has imported what it needs, as in ``map_in_processes``."""
    started = perf_counter()
    context = get_context("forkserver")
    context.set_forkserver_preload(["petct_uad.ingest.dicom.study"])
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        list(pool.map(_import, ["petct_uad.ingest.dicom.study"] * workers))
    return perf_counter() - started


def _import(name: str) -> None:
    importlib.import_module(name)


def _compare(raw: Path, out: Path, workers: int, runs: int) -> None:
    ways: dict[str, Convert] = {f"ours, {workers} workers": _ours(workers)}
    for name, binary in _dcm2niix().items():
        for level, words in (("y", "-z y, pigz"), ("i", "-z i"), ("n", "-z n, uncompressed")):
            ways[f"{name} {words}"] = _run(binary, level)
    ways["SimpleITK.ImageSeriesReader"] = _series_reader
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(runs + 1):
        for name, convert in ways.items():
            spent = _timed(convert, raw, out)
            times[name] += [spent] if turn else []  # the first warms caches and imports
    _print(times)


def _print(times: dict[str, list[tuple[float, float]]]) -> None:
    medians = {
        name: [statistics.median(values) for values in zip(*spent, strict=True)]
        for name, spent in times.items()
    }
    ours = next(iter(medians.values()))
    for name, (wall, cpu) in medians.items():
        ratios = f"ours is {ours[0] / wall:.2f} times that, {ours[1] / cpu:.2f} in processor time"
        console.print(f"  {name:34} {wall:.3f} s, processor {cpu:.3f} s; {ratios}")


def _timed(convert: Convert, raw: Path, out: Path) -> tuple[float, float]:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    cpu, started = _processor_s(), perf_counter()
    convert(raw, out)
    return perf_counter() - started, _processor_s() - cpu


def _processor_s() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def _ours(workers: int) -> Convert:
    asked: dict[str, object] = {
        "labels": "auto",
        "label_roi": ".*",
        "suv": "bw",
        "pseudonyms": "public",
        "on_reject": "stop",
        "max_gap_mm": 0.1,
    }
    params = IngestParams.model_validate(asked)

    def convert(raw: Path, out: Path) -> None:
        console.quiet = True
        try:
            ingest_dataset(raw, out, params, workers)
        finally:
            console.quiet = False

    return convert


def _dcm2niix() -> dict[str, str]:
    found = {"dcm2niix (Debian)": shutil.which("dcm2niix") or ""}
    try:
        import dcm2niix

        found[f"dcm2niix {dcm2niix.__version__}"] = dcm2niix.bin
    except ImportError:
        pass
    found = {name: binary for name, binary in found.items() if binary}
    if not found:
        console.print("no dcm2niix here: apt install dcm2niix, or pip install dcm2niix")
    return found


def _run(binary: str, level: str) -> Convert:
    def convert(raw: Path, out: Path) -> None:
        command = [binary, "-z", level, "-f", "%j", "-o", str(out), str(raw)]
        subprocess.run(command, check=True, capture_output=True)

    return convert


def _series_reader(raw: Path, out: Path) -> None:
    """What one writes without a library: no hash, no check, and PET in whatever units it has."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    for folder in sorted({path.parent for path in raw.rglob("*") if path.is_file()}):
        for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
            reader = sitk.ImageSeriesReader()
            reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid))
            sitk.WriteImage(reader.Execute(), out / f"{uid}.nii.gz", useCompression=True)


def _shares(raw: Path, out: Path) -> None:
    """Processor time of the parts of one ingestion in this process."""
    spent: dict[str, float] = {}

    def part(name: str, function: Callable[[], object]) -> object:
        before = _processor_s()
        answer = function()
        spent[name] = _processor_s() - before
        return answer

    files = [path for path in raw.rglob("*") if path.is_file()]
    console.quiet = True
    headers = index_files(raw, 1).headers
    part("hash", lambda: [sha256_file(path) for path in files])
    part("hash and headers", lambda: index_files(raw, 1))
    stacks = [
        stack_slices([h for h in headers if h.series_instance_uid == uid], 0.1)
        for uid in sorted({h.series_instance_uid for h in headers})
    ]
    reads = {"CT": read_ct, "PT": read_pet}
    part("pixels", lambda: [reads[s.headers[0].modality](raw, s) for s in stacks])
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    part("all", lambda: _ours(1)(raw, out))
    console.quiet = False
    rest = spent["all"] - spent["hash and headers"] - spent["pixels"]
    console.print(
        f"  of our {spent['all']:.2f} s: hashing {spent['hash']:.2f}, headers "
        f"{spent['hash and headers'] - spent['hash']:.2f}, reading pixels and their headers "
        f"{spent['pixels']:.2f}, compressing and writing {rest:.2f}"
    )


if __name__ == "__main__":
    typer.run(main)
