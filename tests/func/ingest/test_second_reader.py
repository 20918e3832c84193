"""Every real study in reach, as a second reader has it: voxels, SUV, masks and where they lie.

The largest differences are written to the test report (``--junit-xml``) and are in
docs/validation.md; the bounds here are what those may never exceed.
"""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from petct_uad.ingest.run import ingest_dataset
from tests.func.ingest import second_reader
from tests.func.ingest.conftest import Run, in_clear, ingest_params
from tests.func.ingest.second_reader import Seen, contours_mm, mask, see, suv_bw

Record = Callable[[str, object], None]

STUDIES = 25
_PLACE_MM = 2e-3  # NIfTI keeps its affine in single precision
_SUV_RELATIVE = 1e-6  # single precision, and a slope of ten digits
_DECAY_RELATIVE = 1e-6  # of times in whole seconds: the two readers count them alike


@dataclass(frozen=True)
class Ours:
    """A volume of ours, (z, y, x), and its eight corners."""

    values: NDArray[np.float64]
    corners_mm: NDArray[np.float64]

    @classmethod
    def read(cls, path: Path) -> Ours:
        image = sitk.ReadImage(path)
        ends = [(0, count - 1) for count in image.GetSize()]
        indices = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, 3).tolist()
        corners = [image.TransformIndexToPhysicalPoint(index) for index in indices]
        return cls(sitk.GetArrayFromImage(image).astype(float), np.array(corners))


@pytest.fixture(scope="module")
def sts(shared_data: Path) -> Path:
    return shared_data / "sts" / "dicom"


@pytest.fixture(scope="module")
def real(sts: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All of them as ingest has them; it prefers the contours that were drawn on the CT."""
    return read_by_us(sts, tmp_path_factory.mktemp("real"))


def read_by_us(raw: Path, out: Path) -> Run:
    return Run(out, in_clear(ingest_dataset(raw, out, ingest_params(), 1)))


def pairs(run: Run, sts: Path, kind: str) -> Iterator[tuple[Ours, Seen]]:
    """Each study's volume of ours beside the series that the second reader sees."""
    for study in run.tables.studies:
        volume = run.out / "volumes" / study.study_id / f"{kind.lower()}.nii.gz"
        yield Ours.read(volume), see(sts / study.patient / kind / "image")


def largest(values: Iterator[float]) -> float:
    """Of one value per study, of which none may be missing."""
    found = list(values)
    assert len(found) == STUDIES
    return max(found)


def label_differences(run: Run, sts: Path, drawn_on: str) -> tuple[int, int]:
    """Voxels of all labels as the second reader has them, and how many of ours differ."""
    voxels, differing = 0, 0
    for study in run.tables.studies:
        ours = Ours.read(run.out / "volumes" / study.study_id / "label.nii.gz")
        contours = contours_mm(sts / study.patient / drawn_on / "mask/RS.dcm")
        theirs = mask(see(sts / study.patient / "CT/image"), contours)
        voxels += int(theirs.sum())
        differing += int((ours.values.astype(bool) != theirs).sum())
    return voxels, differing


def test_the_second_reader_knows_nothing_of_the_first() -> None:
    tree = ast.parse(Path(second_reader.__file__).read_text(encoding="utf-8"))
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import)
             for alias in node.names}  # fmt: skip
    named |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    ours = {name for name in named if name.split(".")[0] in {"petct_uad", "tests", "benchmarks"}}
    assert ours == set()


@pytest.mark.parametrize("kind", ["CT", "PET"])
def test_every_real_volume_lies_where_the_second_reader_has_it(
    kind: str, real: Run, sts: Path, record_testsuite_property: Record
) -> None:
    furthest_mm = largest(
        float(np.abs(ours.corners_mm - seen.corners_mm()).max())
        for ours, seen in pairs(real, sts, kind)
    )
    record_testsuite_property(f"largest distance of a {kind} corner, mm", furthest_mm)
    assert furthest_mm < _PLACE_MM


def test_every_real_ct_has_the_hu_of_the_second_reader(
    real: Run, sts: Path, record_testsuite_property: Record
) -> None:
    difference = largest(
        float(np.abs(ours.values - np.rint(seen.values)).max())
        for ours, seen in pairs(real, sts, "CT")
    )
    record_testsuite_property("largest difference, HU", difference)
    assert difference == 0


def test_every_real_pet_has_the_suv_of_the_second_reader(
    real: Run, sts: Path, record_testsuite_property: Record
) -> None:
    difference = largest(
        float((np.abs(ours.values - suv_bw(seen)) / suv_bw(seen).max()).max())
        for ours, seen in pairs(real, sts, "PET")
    )
    record_testsuite_property("largest difference, of a study's SUVmax", difference)
    assert difference < _SUV_RELATIVE


def test_every_real_label_has_the_voxels_of_the_second_reader(
    real: Run, sts: Path, record_testsuite_property: Record
) -> None:
    voxels, differing = label_differences(real, sts, "CT")
    record_testsuite_property("voxels of lesions", voxels)
    record_testsuite_property("voxels that differ", differing)
    assert voxels > 0
    assert differing == 0


def test_every_real_label_drawn_on_the_pet_has_the_voxels_of_the_second_reader(
    sts: Path, tmp_path: Path, record_testsuite_property: Record
) -> None:
    """The same patients without the contours on the CT: those on the PET lie on the CT's grid."""
    raw = tmp_path / "raw"
    for patient in sorted(sts.iterdir()):
        for part in ("CT/image", "PET/image", "PET/mask"):
            shutil.copytree(patient / part, raw / patient.name / part)
    (tmp_path / "out").mkdir()
    voxels, differing = label_differences(read_by_us(raw, tmp_path / "out"), sts, "PET")
    record_testsuite_property("voxels of lesions drawn on the PET", voxels)
    record_testsuite_property("voxels drawn on the PET that differ", differing)
    assert voxels > 0
    assert differing == 0


def test_raw_becquerel_have_the_suv_of_the_second_reader(
    shared_data: Path, sts: Path, tmp_path: Path, record_testsuite_property: Record
) -> None:
    """The whole-body PET of STS_001 as the scanner stored it: 267 slices, a slope each."""
    whole = shared_data / "sts_raw" / "STS_001_PET_bqml" / "image"
    raw = tmp_path / "raw" / "STS_001"
    shutil.copytree(sts / "STS_001" / "CT", raw / "CT")
    shutil.copytree(whole, raw / "PET")
    (tmp_path / "out").mkdir()
    done = read_by_us(raw, tmp_path / "out")
    (study,) = done.tables.studies
    ours = Ours.read(done.out / "volumes" / study.study_id / "pet.nii.gz")
    seen = see(whole)
    suv = suv_bw(seen)
    assert ours.values.shape == (267, 128, 128)
    difference = float(np.abs(ours.values - suv).max() / suv.max())
    record_testsuite_property("largest difference from becquerel, of SUVmax", difference)
    assert difference < _DECAY_RELATIVE
    assert np.abs(ours.corners_mm - seen.corners_mm()).max() < _PLACE_MM
