"""Does any broken file break the header path? ``PYTHONPATH=src python benchmarks/fuzz_headers.py``.

Damages files of the phantom and of pydicom's wheel, each in one to four ways (flipped, lost and
inserted bytes, lengths that lie, other VRs and tags, doubled elements, deep sequences), and reads
each with ``read_header`` under an alarm of 5 s and 1 GiB of memory beyond what the interpreter
has. A header or a refusal by name is right; any other exception, a hang, memory beyond the bound
or a process that dies is a finding, is printed with its number, and makes the exit code 1; so is
a warning of pydicom's, which would carry the file's bytes to the terminal.
The same seed gives the same files, whatever the number of workers.
"""

from __future__ import annotations

import re
import resource
import signal
import struct
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import NoReturn

import pydicom
import typer

from petct_uad.core.console import console, progress_bar
from petct_uad.core.errors import RejectedInputError
from petct_uad.ingest.dicom.header import read_header
from petct_uad.phantom.cohort import make_cohort
from petct_uad.schema import load_params

LONGEST_S = 5.0
MEMORY_BYTES = 1 << 30
_BATCH = 250
_LONGEST_SEED = 64 << 10  # bytes; what lies behind the header costs time and finds nothing
_VRS = (
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR "
    b"US UT UV"
).split()
_ELEMENT = re.compile(rb"(?s)[^\0]\0..(?:" + b"|".join(_VRS) + rb")|\xfe\xff[\x00\x0d\xdd]\xe0")
_LENGTHS = (0, 1, 2, 0x7FFF, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFE, 0xFFFFFFFE, 0xFFFFFFFF)
Damage = Callable[[bytearray, Random], None]


class Hang(BaseException):
    """Reading took too long; no ``except Exception`` may swallow it."""


@dataclass(frozen=True)
class Finding:
    """A file that was neither read nor refused."""

    seed_file: str
    number: int
    what: str


@dataclass(frozen=True)
class Tally:
    """How many files were accepted, or refused by code; and those that were neither."""

    outcomes: Counter[str]
    findings: tuple[Finding, ...]


def main(files: int = 100_000, seed: int = 0, workers: int = 1) -> None:
    """Print how many files were accepted, refused by code, and neither."""
    with TemporaryDirectory(prefix="petct-fuzz-") as folder:
        made, odd = phantom_seeds(Path(folder)), pydicom_seeds()
        console.print(f"{files} files, half from {len(made)} of the phantom, half from {len(odd)}")
        seeds = [*made * (len(odd) // len(made)), *odd]
        tally = run(partial(fuzz_batch, tuple(seeds), seed), files, _BATCH, workers)
    report(tally)


def report(tally: Tally) -> NoReturn:
    """Print it, and end with exit code 1 where there is a finding."""
    for name, count in sorted(tally.outcomes.items(), key=lambda item: -item[1]):
        console.print(f"{count:8d}  {name}", markup=False)
    for finding in tally.findings[:20]:
        console.print(f"{finding.seed_file} number {finding.number}: {finding.what}", markup=False)
    console.print(f"{len(tally.findings)} findings")
    sys.exit(bool(tally.findings))


def run(fuzz_numbers: Callable[[range], Tally], files: int, batch: int, workers: int) -> Tally:
    """Damage and read files 0 to ``files``, in worker processes whose memory is bounded."""
    batches = [range(start, min(start + batch, files)) for start in range(0, files, batch)]
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=bound_memory)
    total = Tally(Counter(), ())
    with pool, progress_bar() as progress:
        done = as_completed([pool.submit(fuzz_numbers, numbers) for numbers in batches])
        for future in progress.track(done, total=len(batches), description="fuzzing"):
            part = future.result()
            total = Tally(total.outcomes + part.outcomes, (*total.findings, *part.findings))
    return total


def fuzz(seeds: Sequence[tuple[str, bytes]], files: int, seed: int) -> Tally:
    """The same in this process, whose memory is left as it is."""
    return fuzz_batch(tuple(seeds), seed, range(files))


def fuzz_batch(seeds: Sequence[tuple[str, bytes]], seed: int, numbers: range) -> Tally:
    """Damage, write and read one batch."""
    outcomes: Counter[str] = Counter()
    findings = []
    with TemporaryDirectory(prefix="petct-fuzz-") as folder:
        for number in numbers:
            random = Random(f"{seed}:{number}")
            name, content = random.choice(seeds)
            (Path(folder) / "file.dcm").write_bytes(damaged(content, random))
            outcome, wrong = _read(Path(folder))
            outcomes[outcome] += 1
            if wrong:
                findings.append(Finding(name, number, wrong))
    return Tally(outcomes, tuple(findings))


def damaged(content: bytes, random: Random) -> bytes:
    """One to four damages."""
    changed = bytearray(content)
    for _ in range(random.randint(1, 4)):
        random.choice(_DAMAGES)(changed, random)
    return bytes(changed)


def phantom_seeds(folder: Path) -> list[tuple[str, bytes]]:
    """One CT, one PET and one SEG file of the smallest phantom."""
    params = load_params(Path("params.yaml")).phantom
    small = params.model_copy(update={"patients": 4, "ct_matrix": 64, "extent_mm": 80.0})
    files = make_cohort(small, folder / "raw", folder / "truth", 1)
    kinds = {path.parent.name: path for path in files if path.suffix == ".dcm"}
    return [(name, path.read_bytes()) for name, path in sorted(kinds.items())]


def pydicom_seeds() -> list[tuple[str, bytes]]:
    """Every small file of pydicom's wheel, odd ones included."""
    folder = Path(pydicom.data.__file__).parent
    paths = sorted([*folder.rglob("*.dcm"), *folder.rglob("DICOMDIR*")])
    small = (path for path in paths if path.stat().st_size <= _LONGEST_SEED)
    return [(path.name, path.read_bytes()) for path in small]


def _read(folder: Path) -> tuple[str, str]:
    """What became of the file; and, where that is wrong, what happened."""
    try:
        with alarm(LONGEST_S), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            read_header(folder, "file.dcm")
            if warned:
                return "warning", str(warned[0].message)
    except RejectedInputError as error:
        name = f"refused: {error.code}"
        return name, str(error) if error.found.startswith("MemoryError") else ""
    except Hang:
        return "hang", f"longer than {LONGEST_S} s"
    except Exception as error:
        return f"exception: {type(error).__name__}", traceback.format_exc(limit=-3)
    return "accepted", ""


@contextmanager
def alarm(longest_s: float) -> Iterator[None]:
    """Raise ``Hang`` after so many seconds."""

    def ring(_signal: int, _frame: object) -> None:
        raise Hang

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, longest_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def bound_memory() -> None:
    """Give this process 1 GiB beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _place(content: bytearray, random: Random) -> int:
    """Mostly in the header, sometimes anywhere."""
    end = len(content) if random.random() < 0.1 else min(len(content), 4096)
    return random.randrange(end) if end else 0


def _elements(content: bytearray) -> list[int]:
    return [match.start() for match in _ELEMENT.finditer(content, 132)] or [0]


def _flip(content: bytearray, random: Random) -> None:
    for _ in range(random.choice((1, 1, 2, 8, 64))):
        if content:
            content[_place(content, random)] ^= 1 << random.randrange(8)


def _cut(content: bytearray, random: Random) -> None:
    del content[_place(content, random) :]


def _lose(content: bytearray, random: Random) -> None:
    start = _place(content, random)
    del content[start : start + random.choice((1, 2, 4, 8, 100))]


def _insert(content: bytearray, random: Random) -> None:
    start = _place(content, random)
    content[start:start] = random.randbytes(random.choice((1, 2, 4, 8, 100)))


def _lie(content: bytearray, random: Random) -> None:
    """Another length, in two or in four bytes."""
    start = random.choice(_elements(content)) + random.choice((4, 6, 8))
    length = random.choice(_LENGTHS)
    size = 2 if length <= 0xFFFF and random.random() < 0.5 else 4
    content[start : start + size] = struct.pack("<I", length)[:size]


def _other_vr(content: bytearray, random: Random) -> None:
    start = random.choice(_elements(content)) + 4
    content[start : start + 2] = random.choice(_VRS)


def _other_tag(content: bytearray, random: Random) -> None:
    one, other = random.choice(_elements(content)), random.choice(_elements(content))
    content[one : one + 4] = content[other : other + 4]


def _double(content: bytearray, random: Random) -> None:
    """An element a second time, somewhere else."""
    starts = _elements(content)
    at = random.randrange(len(starts))
    end = starts[at + 1] if at + 1 < len(starts) else len(content)
    where = random.choice(starts)
    content[where:where] = content[starts[at] : end]


def _nest(content: bytearray, random: Random) -> None:
    """Sequences in sequences, of undefined length and without an end."""
    item = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    where = random.choice(_elements(content))
    content[where:where] = item * random.choice((1, 10, 100, 2000))


def _noise(content: bytearray, random: Random) -> None:
    """A value of an element becomes random bytes."""
    start = random.choice(_elements(content)) + 8
    content[start : start + 16] = random.randbytes(len(content[start : start + 16]))


_DAMAGES: tuple[Damage, ...] = (
    _flip, _cut, _lose, _insert, _lie, _lie, _other_vr, _other_tag, _double, _nest, _noise,
)  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
