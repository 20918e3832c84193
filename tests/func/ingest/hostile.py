"""Cases of bad input: a good study, a case beside it, and what must come out of both.

Every case is ingested next to an untouched study in ``good/``; whatever is wrong in ``case/``, that
study's volumes must keep their bytes, and every file must be accounted for in the tables.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset

from petct_uad.ingest.found import FoundRejection, FoundSeries, FoundStudy, FoundTables
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.run import ingest_dataset
from petct_uad.schema import load_params
from tests.func.ingest.conftest import Edit, Patient, in_clear, no_edit, save

SLICES = 4
NOBODY = 65534
SUV_PER_BQML = 70_000 / 350e6  # weight in g over dose in Bq, of every Patient
HALF_LIFE_S = 6586.2
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Outcome:
    """What one ingest made of a data set that has a ``good`` and a ``case`` folder."""

    raw: Path
    out: Path
    tables: FoundTables

    def studies(self, folder: str = "case") -> list[FoundStudy]:
        ids = {row.study_id for row in self.tables.instances if _below(row.file, folder)}
        return [row for row in self.tables.studies if row.study_id in ids - {""}]

    def study(self, folder: str = "case") -> FoundStudy:
        (row,) = self.studies(folder)
        return row

    def image(self, name: str, folder: str = "case") -> sitk.Image:
        path = self.out / "volumes" / self.study(folder).study_id / f"{name}.nii.gz"
        return sitk.ReadImage(path)

    def array(self, name: str, folder: str = "case") -> np.ndarray:
        voxels: np.ndarray = sitk.GetArrayFromImage(self.image(name, folder))
        return voxels

    def volume_bytes(self, folder: str) -> dict[str, bytes]:
        home = self.out / "volumes" / self.study(folder).study_id
        return {path.name: path.read_bytes() for path in sorted(home.iterdir())}

    def refused(self, file: str = "") -> list[FoundRejection]:
        """Refusals of the case; of one file where its name (or how it ends) is given."""
        return [row for row in self.tables.rejected if row.subject.endswith(file)]

    def series(self, modality: str) -> list[FoundSeries]:
        return [row for row in self.tables.series if row.modality == modality]

    def series_of(self, file: str) -> FoundSeries:
        """The row of series.csv for the series that holds a file of the case."""
        (uid,) = {
            row.series_instance_uid
            for row in self.tables.instances
            if _below(row.file, "case") and row.file.endswith(file)
        }
        return next(row for row in self.tables.series if row.series_instance_uid == uid)

    def told(self) -> set[str]:
        """Every file that the tables account for."""
        found = {row.file for row in self.tables.instances}
        return found | {row.subject for row in self.tables.rejected}


Check = Callable[[Outcome, Outcome], None]  # the case's outcome, and that of the untouched one
Arrange = Callable[[Path], None]  # writes the case into its folder


@dataclass(frozen=True)
class Case:
    """One bad input and what must become of it."""

    arrange: Arrange
    checks: tuple[Check, ...]


def case(arrange: Arrange, *checks: Check) -> Case:
    return Case(arrange, checks)


def ingest(raw: Path, out: Path, **changes: object) -> Outcome:
    out.mkdir()
    return Outcome(raw, out, in_clear(ingest_dataset(raw, out, params(**changes))))


def params(**changes: object) -> IngestParams:
    """What params.yaml says; pydicom's files need no key."""
    section = load_params(ROOT / "params.yaml").ingest
    return section.model_copy(update={"pseudonyms": "public", **changes})


@cache
def untouched() -> Outcome:
    """The good study beside a case without anything wrong."""
    folder = Path(mkdtemp(prefix="petct-robustness-"))
    atexit.register(shutil.rmtree, folder)
    write_good(folder / "raw")
    a_study()(folder / "raw" / "case")
    return ingest(folder / "raw", folder / "out")


def run_case(item: Case, folder: Path, **changes: object) -> Outcome:
    """Ingest the case beside a good study; check what holds for every case, and its own checks."""
    raw, baseline = folder / "raw", untouched()
    write_good(raw)
    (raw / "case").mkdir()
    with hostile_values():
        item.arrange(raw / "case")
    done = ingest(raw, folder / "out", **changes)
    assert done.volume_bytes("good") == baseline.volume_bytes("good")
    assert all((row.code, row.found, row.expected) for row in done.tables.rejected)
    told = [name for name in done.told() if _below(name, "case")]
    entries = [p for p in raw.rglob("*") if (p.is_symlink() or not p.is_dir())]
    assert len(told) >= sum(p.is_relative_to(raw / "case") for p in entries), done.tables.rejected
    for check in item.checks:
        check(done, baseline)
    return done


def write_good(raw: Path) -> None:
    Patient(raw / "good", "G1", slices=SLICES).both()


@contextmanager
def hostile_values() -> Iterator[None]:
    """Let pydicom write what it would refuse."""
    before = pydicom.config.settings.writing_validation_mode
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    try:
        yield
    finally:
        pydicom.config.settings.writing_validation_mode = before


@contextmanager
def somebody(folder: Path) -> Iterator[None]:
    """Run as a user whom permissions bind and who owns the folder; root becomes nobody."""
    untouched()  # loads what is imported late, from where nobody may not read
    root = os.geteuid() == 0
    if root:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


# --- how cases are made ---


def a_study(ct: Edit = no_edit, pet: Edit = no_edit, patient: str = "Q7") -> Arrange:
    """A whole study, each of its slices edited."""

    def arrange(folder: Path) -> None:
        made = Patient(folder, patient, slices=SLICES)
        made.ct(edit=ct)
        made.pet(edit=pet)

    return arrange


def ct(*edits: Edit) -> Arrange:
    return a_study(ct=both(*edits))


def pet(*edits: Edit) -> Arrange:
    return a_study(pet=both(*edits))


def both(*edits: Edit) -> Edit:
    def edit(dataset: Dataset, index: int) -> None:
        for one in edits:
            one(dataset, index)

    return edit


def sets(**values: object) -> Edit:
    """Set the same values on every slice; None takes the element away."""

    def edit(dataset: Dataset, _index: int) -> None:
        for name, value in values.items():
            if value is None:
                del dataset[name]
            else:
                setattr(dataset, name, value)

    return edit


def only(index: int, edit: Edit) -> Edit:
    """Edit one slice of a stack."""
    return lambda dataset, i: edit(dataset, i) if i == index else None


def drug(**values: object) -> Edit:
    """Set values of the radiopharmaceutical."""
    edit = sets(**values)
    return lambda dataset, i: edit(dataset.RadiopharmaceuticalInformationSequence[0], i)


def and_then(arrange: Arrange, change: Arrange) -> Arrange:
    def done(folder: Path) -> None:
        arrange(folder)
        change(folder)

    return done


def besides(name: str, content: bytes) -> Arrange:
    """A whole study with one more file beside it."""
    return and_then(a_study(), lambda folder: _put(folder / name, content))


def rewritten(pattern: str, change: Callable[[bytes], bytes], arrange: Arrange) -> Arrange:
    """Change the bytes of the files that match, after the study was written."""

    def rewrite(folder: Path) -> None:
        files = sorted(folder.rglob(pattern))
        assert files
        for path in files:
            before = path.read_bytes()
            path.write_bytes(change(before))
            assert path.read_bytes() != before

    return and_then(arrange, rewrite)


def replaced(pattern: str, old: bytes, new: bytes, arrange: Arrange) -> Arrange:
    """Replace a value by one of the same length that pydicom would not write."""
    assert len(old) == len(new)
    return rewritten(pattern, lambda content: content.replace(old, new), arrange)


def slice_file(folder: Path, role: str, index: int) -> Path:
    """Where ``Patient`` has written a slice."""
    (path,) = folder.glob(f"*/{role}/{99 - index}.dcm")
    return path


def save_as(dataset: Dataset, path: Path, **values: object) -> None:
    for name, value in values.items():
        setattr(dataset, name, value)
    save(dataset, path)


# --- what must become of them ---


def refused(code: str, *words: str, file: str = ".dcm") -> Check:
    """A file of the case is refused with this code, or one of ``a|b``; its row says the words."""

    def check(done: Outcome, _baseline: Outcome) -> None:
        rows = [row for row in done.refused(file) if re.fullmatch(code, row.code)]
        told = [f"{row.subject}: {row.found}; {row.expected}" for row in rows]
        assert any(all(word in text for word in words) for text in told), done.tables.rejected
        assert not any(_below(row.subject, "good") for row in rows)

    return check


def refused_study(code: str, *words: str) -> Check:
    """The case's study is refused with this code and gives nothing."""

    def check(done: Outcome, _baseline: Outcome) -> None:
        told = [
            f"{r.found}; {r.expected}" for r in done.tables.rejected if re.fullmatch(code, r.code)
        ]
        assert any(all(word in text for word in words) for text in told), done.tables.rejected
        assert not done.studies()

    return check


def nothing(done: Outcome, _baseline: Outcome) -> None:
    """No study comes of the case."""
    assert not done.studies()
    assert len(list((done.out / "volumes").iterdir())) == 1


def as_before(done: Outcome, baseline: Outcome) -> None:
    """The case's volumes are those of the untouched study, in every voxel and in their grid."""
    for name in ("ct", "pet"):
        gives(name)(done, baseline)


def either(right: Check, refusal: Check) -> Check:
    """Handled right if a study came of the case, refused by name if not; never a wrong number."""
    return lambda done, baseline: (right if done.studies() else refusal)(done, baseline)


def right_or_refused(code: str, *words: str, file: str = ".dcm") -> Check:
    """Decoders differ in what they can save: all of it, or none of it and a refusal by name."""
    return either(as_before, refused(code, *words, file=file))


def gives(name: str, change: Callable[[np.ndarray], np.ndarray] = lambda before: before) -> Check:
    """A volume of the case is ``change`` of the untouched one, on the same grid."""

    def check(done: Outcome, baseline: Outcome) -> None:
        image, before = done.image(name), baseline.image(name)
        expected = change(sitk.GetArrayFromImage(before))
        np.testing.assert_allclose(sitk.GetArrayFromImage(image), expected, rtol=1e-6, atol=1e-6)
        assert image.GetSpacing() == before.GetSpacing()
        assert image.GetDirection() == before.GetDirection()

    return check


def scaled(factor: float) -> Check:
    """The PET is the untouched one times a number."""
    return gives("pet", lambda before: before * factor)


def noted(*words: str) -> Check:
    """studies.csv says so."""

    def check(done: Outcome, _baseline: Outcome) -> None:
        assert all(word in done.study().notes for word in words), done.study().notes

    return check


def clean(done: Outcome, _baseline: Outcome) -> None:
    """Nothing is refused."""
    assert not done.tables.rejected


def passed_over(file: str, *words: str) -> Check:
    """The series of a file is not used, and series.csv says why."""

    def check(done: Outcome, _baseline: Outcome) -> None:
        row = done.series_of(file)
        assert row.role == "unused"
        assert all(word in row.reason for word in words), row.reason

    return check


def _below(name: str, folder: str) -> bool:
    return name.startswith(f"{folder}/")


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
