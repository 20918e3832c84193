"""Does any broken label break ingest? ``PYTHONPATH=src:. python benchmarks/fuzz_labels.py``.

Writes a small phantom study with a SEG, an RTSTRUCT or a labels.csv of its lesion, changes that
label in one to four ways, and ingests the study under an alarm and 1 GiB of memory beyond what the
interpreter has. DICOM labels are changed as a file (``fuzz_headers``) or as a data set: elements
lost, emptied, exchanged and filled with hostile text or numbers, items lost, doubled and turned
round, at any depth. A study with its label drawn, a SEG of zeros, or a refusal of the study by name
is right; so is a study without a label where no element is left of the label's file (less than the
preamble and prefix of PS3.10, 7.1), which then is no label object. A study that is kept as
unlabelled while its label is refused or passed over, any other exception or warning, a hang, memory
beyond the bound or a process that dies is a finding, printed with its number, and makes the exit
code 1. The same seed gives the same files, whatever the number of
workers.
"""

from __future__ import annotations

import os
import shutil
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import highdicom
import numpy as np
import pydicom
import typer
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from skimage.measure import find_contours

from benchmarks.fuzz_headers import (
    Finding,
    Hang,
    Tally,
    alarm,
    damaged,
    report,
    run,
)
from petct_uad.core.console import console
from petct_uad.core.errors import PetctError, RejectedInputError
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.run import ingest_dataset
from petct_uad.ingest.tables import UNLABELLED
from petct_uad.phantom.cohort import make_cohort
from petct_uad.schema import load_params
from tests.func.ingest.conftest import draw_roi, save

LONGEST_S = 60.0
_BATCH = 50
_AS_A_FILE = 0.25  # so many DICOM labels are damaged as bytes
_NOTHING_LEFT = 132  # bytes before the first element of a DICOM file
_LABELS = ("seg.dcm", "rtstruct.dcm", "labels.csv")
_TEXTS = (
    b"", b"0", b"-1", b"2", b"nan", b"-inf", b"1e308", b"1e-308", b"99999999999999999999", b"abc",
    b"1\\2", b"\\\\\\", b"0.5\\nan\\1", b"=1+1", b"\x1b[31m", "\u00e9".encode(), b"\xff\xfe", b"\0",
    b"1.2.3", b"../../x", b"BINARY", b"FRACTIONAL", b"LABELMAP", b"CLOSED_PLANAR", b"POINT", b"YES",
    b"CT", b"SEG", b"A" * 70_000,
)  # fmt: skip
_NUMBERS = (b"\0", b"\1", b"\xff", b"\x7f", b"\x80")
_ASCII = ("nan", "inf", "-1", "1e308", "1e-320", "", ",", '"', "\n", "\r", "\r\n", "\0", ";", "x",
          "\u00e9", "\ufeff", " ", "9" * 400, "0" * 140_000)  # fmt: skip
Change = Callable[[Dataset, Random], None]


def main(files: int = 2000, seed: int = 0, workers: int = 1) -> None:
    """Print what became of the studies, and what was neither read nor refused."""
    with TemporaryDirectory(prefix="petct-fuzz-") as folder:
        made = make_study(Path(folder))
        console.print(f"{files} labels: SEG, RTSTRUCT and labels.csv in turn")
        tally = run(partial(fuzz_labels, made, seed), files, _BATCH, workers)
    report(tally)


def make_study(folder: Path) -> Path:
    """A folder with one study's CT and PET in ``images``, and its labels in ``labels``."""
    params = load_params(Path("params.yaml")).phantom
    small = params.model_copy(update={"patients": 4, "ct_matrix": 64, "extent_mm": 80.0})
    make_cohort(small, folder / "raw", folder / "truth", 1)
    seg = sorted(folder.glob("raw/*/SEG/*.dcm"))[0]
    made = folder / "made"
    for series in ("CT", "PET"):
        shutil.copytree(seg.parents[1] / series, made / "images" / series)
    labels = made / "labels"
    labels.mkdir()
    shutil.copy(seg, labels / "seg.dcm")
    contours = _contours(seg)
    ct = [pydicom.dcmread(path, stop_before_pixels=True) for path in (made / "images/CT").iterdir()]
    save(_rtstruct(ct[0], contours), labels / "rtstruct.dcm")
    (labels / "labels.csv").write_text(_csv(ct, contours), encoding="utf-8")
    return made


def fuzz_labels(made: Path, seed: int, numbers: range) -> Tally:
    """Change, write and ingest one label per number."""
    outcomes: Counter[str] = Counter()
    findings = []
    labels = {name: (made / "labels" / name).read_bytes() for name in _LABELS}
    with TemporaryDirectory(prefix="petct-fuzz-") as folder, _quiet():
        raw = Path(folder) / "raw"
        shutil.copytree(made / "images", raw, copy_function=os.link)
        for number in numbers:
            random = Random(f"{seed}:{number}")
            name = _LABELS[number % len(_LABELS)]
            outcome, wrong = _ingested(raw, name, changed(name, labels[name], random))
            outcomes[f"{name}: {outcome}"] += 1
            if wrong:
                findings.append(Finding(name, number, wrong))
    return Tally(outcomes, tuple(findings))


def changed(name: str, content: bytes, random: Random) -> bytes:
    """One to four changes."""
    if name.endswith(".csv"):
        return _changed_table(content, random)
    return damaged(content, random) if random.random() < _AS_A_FILE else _edited(content, random)


def _ingested(raw: Path, name: str, content: bytes) -> tuple[str, str]:
    """What became of the study; and, where that is wrong, what happened."""
    (raw / name).write_bytes(content)
    asked = load_params(Path("params.yaml")).ingest
    labels = "csv" if name.endswith(".csv") else "auto"
    params = asked.model_copy(update={"labels": labels, "pseudonyms": "public"})
    try:
        with TemporaryDirectory(prefix="petct-fuzz-") as out, alarm(LONGEST_S), _heard() as warned:
            outcome, wrong = _outcome(raw, Path(out), params, len(content))
        return ("warning", str(warned[0].message)) if warned else (outcome, wrong)
    except Hang:
        return "hang", f"longer than {LONGEST_S} s"
    except PetctError as error:
        code = error.code if isinstance(error, RejectedInputError) else "nothing usable"
        return f"refused whole: {code}", str(error) if "MemoryError" in str(error) else ""
    except Exception as error:
        return f"exception: {type(error).__name__}", traceback.format_exc(limit=-4)
    finally:
        (raw / name).unlink()


def _outcome(raw: Path, out: Path, params: IngestParams, size: int) -> tuple[str, str]:
    """What is known of the study's lesions; and what is wrong where nothing is."""
    reading = ingest_dataset(raw, out, params, 1)
    (study,) = reading.tables.studies
    rejected = reading.tables.rejected
    told = ", refused: " + " ".join(sorted({row.code for row in rejected})) if rejected else ""
    outcome = f"{study.finding}{told}"
    if study.finding != UNLABELLED or (params.labels != "csv" and size < _NOTHING_LEFT):
        return outcome, ""
    return outcome, "; ".join(f"{row.code}: {row.found}" for row in rejected) or "nothing is said"


@contextmanager
def _heard() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield warned


@contextmanager
def _quiet() -> Iterator[None]:
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def _contours(seg: Path) -> list[NDArray[np.float64]]:
    """The outlines of a SEG's lesion, (n, 3) in mm, one array per contour."""
    volume = highdicom.seg.segread(seg).get_volume(combine_segments=True)
    outlines = []
    for index, plane in enumerate(volume.array):
        for outline in find_contours(plane > 0, 0.5):
            places = np.insert(outline, 0, index, axis=1)
            outlines.append(np.asarray(volume.map_indices_to_reference(places)))
    return outlines


def _rtstruct(ct: Dataset, contours: list[NDArray[np.float64]]) -> Dataset:
    made = Dataset()
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID",
                    "PatientIdentityRemoved", "StudyDate", "StudyTime"):  # fmt: skip
        made[keyword] = ct[keyword]
    made.Modality, made.SOPClassUID = "RTSTRUCT", uid.RTStructureSetStorage
    made.SOPInstanceUID, made.SeriesInstanceUID = (
        uid.generate_uid(entropy_srcs=[ct.StudyInstanceUID, name]) for name in ("rs", "rs-series")
    )
    draw_roi(made, contours, ct.SeriesInstanceUID, "lesion")
    return made


def _csv(ct: list[Dataset], contours: list[NDArray[np.float64]]) -> str:
    lines = ["sop_instance_uid,roi,points_mm"]
    for points in contours:
        on = min(ct, key=lambda item: abs(float(item.ImagePositionPatient[2]) - points[0, 2]))
        numbers = " ".join(f"{value:.4f}" for value in points.ravel())
        lines.append(f"{on.SOPInstanceUID},lesion,{numbers}")
    return "\n".join([*lines, ""])


def _edited(content: bytes, random: Random) -> bytes:
    """A data set with one to four changes, as a file."""
    dataset = pydicom.dcmread(BytesIO(content))
    dataset.walk(lambda *_: None)  # pydicom decodes what is asked for
    for _ in range(random.randint(1, 4)):
        random.choice(_CHANGES)(dataset, random)
    out = BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset.save_as(out)
    except Exception:  # what pydicom will not write nobody can have written with it
        return damaged(content, random)
    return out.getvalue()


def _places(dataset: Dataset, of_sequences: bool) -> list[tuple[Dataset, Any]]:
    """Every element at any depth: the data set that it is in, and its tag."""
    found: list[tuple[Dataset, Any]] = []
    for element in dataset.values():
        if isinstance(element, RawDataElement):  # of _put: what it holds cannot be asked
            continue
        if (element.VR == "SQ") == of_sequences:
            found.append((dataset, element.tag))
        if element.VR == "SQ":
            for item in element.value:
                found += _places(item, of_sequences)
    return found


def _place(dataset: Dataset, random: Random, of_sequences: bool = False) -> tuple[Dataset, Any]:
    found = _places(dataset, of_sequences)
    return random.choice(found) if found else (Dataset(), None)


def _lose(dataset: Dataset, random: Random) -> None:
    owner, tag = _place(dataset, random, random.random() < 0.3)
    if tag is not None:
        del owner[tag]


def _fill(dataset: Dataset, random: Random) -> None:
    """Hostile text, or the extremes of a number."""
    owner, tag = _place(dataset, random)
    if tag is not None:
        kind = owner[tag].VR
        numeric = kind in {"US", "SS", "UL", "SL", "FL", "FD", "OB", "OW", "AT"}
        length = random.choice((0, 1, 2, 4, 8, 8, 64))
        value = random.choice(_NUMBERS) * length if numeric else random.choice(_TEXTS)
        _put(owner, tag, kind, value + b" " * (len(value) % 2))


def _near_number(dataset: Dataset, random: Random) -> None:
    """A number that is one off, a thousand times as large, or negative."""
    owner, tag = _place(dataset, random)
    value = owner[tag].value if tag is not None else None
    if isinstance(value, int | float):
        other = random.choice((value + 1, value - 1, value * 1000, -value, 0))
        text = str(other).encode()[:16]
        if owner[tag].VR in {"DS", "IS"}:
            _put(owner, tag, owner[tag].VR, text + b" " * (len(text) % 2))
        elif owner[tag].VR == "US":
            owner[tag].value = int(other) % 65536


def _exchange(dataset: Dataset, random: Random) -> None:
    """The value of another element of the same kind."""
    owner, tag = _place(dataset, random)
    if tag is not None:
        alike = [place for place in _places(dataset, False) if place[0][place[1]].VR
                 == owner[tag].VR]  # fmt: skip
        other, its = random.choice(alike)
        owner[tag].value = other[its].value


def _item_again(dataset: Dataset, random: Random) -> None:
    owner, tag = _place(dataset, random, of_sequences=True)
    if tag is not None and len(owner[tag].value):
        items = owner[tag].value
        items.insert(random.randrange(len(items)), random.choice(list(items)))


def _item_lost(dataset: Dataset, random: Random) -> None:
    owner, tag = _place(dataset, random, of_sequences=True)
    if tag is not None and len(owner[tag].value):
        del owner[tag].value[random.randrange(len(owner[tag].value))]


def _items_turned(dataset: Dataset, random: Random) -> None:
    owner, tag = _place(dataset, random, of_sequences=True)
    if tag is not None:
        owner[tag].value = list(reversed(owner[tag].value))


def _put(owner: Dataset, tag: Any, kind: str, value: bytes) -> None:
    """As bytes, which no rule of pydicom's looks at."""
    owner[tag] = RawDataElement(tag, kind, len(value), value, 0, False, True)


_CHANGES: tuple[Change, ...] = (
    _lose, _fill, _fill, _fill, _near_number, _exchange, _item_again, _item_lost, _items_turned,
)  # fmt: skip


def _changed_table(content: bytes, random: Random) -> bytes:
    text = content.decode()
    for _ in range(random.randint(1, 2)):
        text = random.choice(_TABLE_CHANGES)(text, random)
    encoding = random.choice(("utf-8",) * 6 + ("utf-8-sig", "utf-16", "latin-1"))
    written = bytearray(text.encode(encoding, "replace"))
    if written and random.random() < 0.2:
        written[random.randrange(len(written))] ^= 1 << random.randrange(8)
    return bytes(written)


def _insert(text: str, random: Random) -> str:
    at = random.randrange(len(text) + 1)
    return text[:at] + random.choice(_ASCII) + text[at:]


def _cut(text: str, random: Random) -> str:
    start = random.randrange(len(text) + 1)
    return text[:start] + text[start + random.choice((1, 2, 10, 1000)) :]


def _lines_mixed(text: str, random: Random) -> str:
    lines = text.splitlines(keepends=True)
    kept = [random.choice(lines) for _ in lines]
    return "".join(lines[:1] + kept) if lines else text


def _word(text: str, random: Random) -> str:
    """A number becomes another."""
    words = text.split(" ")
    words[random.randrange(len(words))] = random.choice((*_ASCII, "-5", "123456", "0.0"))
    return " ".join(words)


def _field(text: str, random: Random) -> str:
    fields = text.split(",")
    at, other = (random.randrange(len(fields)) for _ in range(2))
    fields[at], fields[other] = fields[other], fields[at]
    return ",".join(fields)


_TABLE_CHANGES: tuple[Callable[[str, Random], str], ...] = (
    _insert, _cut, _lines_mixed, _word, _word, _word, _field,
)  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
