"""Whole bodies of hundreds of slices go from DICOM to the shards of their thoraxes."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from petct_uad.core.files import read_table
from petct_uad.ingest.run import ingest_dataset
from petct_uad.ingest.tables import StudyRow
from petct_uad.preprocess.run import preprocess_dataset
from petct_uad.registration.register import RegisterPaths, register_studies
from petct_uad.schema import load_params
from petct_uad.slices.store import read_shard
from petct_uad.slices.tables import ImageRow, RegionRow, SliceRow, shard_path
from petct_uad.split.run import split_dataset
from tests.func.ingest.conftest import Patient, ingest_params
from tests.samples import register_section
from tests.unit.split.test_labels import split_params

ROOT = Path(__file__).resolve().parents[3]
# 900 mm in 450 slices; of the PET every third, coarser in-plane, and beginning elsewhere.
CT_SLICES, CT_MM, CT_PIXEL_MM, CT_MATRIX = 450, 2.0, 15.0, 32
PET_SLICES, PET_MM, PET_PIXEL_MM, PET_MATRIX, PET_START_MM = 148, 6.0, 20.0, 24, 3.0
BASE_MM, APEX_MM, MARGIN_MM = 400.0, 640.0, 10.0
LESION_MM = (60.0, 0.0, 520.0)  # in a lung
LESION_RADIUS_MM = 25.0
BQML_OF_SUV = 350e6 / 70e3  # of tests' patients
PATIENTS = ("P1", "P2", "P3")
INTERIM, PROCESSED = Path("interim"), Path("processed")


class LongPatient(Patient):
    """Soft tissue with two lungs, as an ellipse of 360 x 260 mm from end to end."""

    def write(self) -> None:
        """CT, PET, and the lesion as a SEG on the PET's own grid."""
        self.slices = CT_SLICES
        self.ct(edit=self._ct_slice)
        self.slices = PET_SLICES
        self.pet(edit=self._pet_slice)
        z_mm = [PET_START_MM + PET_MM * index for index in range(PET_SLICES)]
        mask = np.stack([in_lesion(z, PET_MATRIX, PET_PIXEL_MM) for z in z_mm])
        self.seg(mask, on="PET")

    def _ct_slice(self, dataset: Dataset, index: int) -> None:
        z_mm = CT_MM * index
        lung = in_lungs(z_mm, CT_MATRIX, CT_PIXEL_MM)
        body = in_body(CT_MATRIX, CT_PIXEL_MM)
        noise = np.random.default_rng(index + sum(self.patient.encode())).normal(0, 10, body.shape)
        hu = np.where(lung, -850.0, np.where(body, 40.0, -1000.0)) + noise
        _place(dataset, CT_MATRIX, CT_PIXEL_MM, z_mm, CT_MM)
        dataset.PixelData = np.rint(hu + 1024).astype("<i2").tobytes()

    def _pet_slice(self, dataset: Dataset, index: int) -> None:
        z_mm = PET_START_MM + PET_MM * index
        suv = np.where(in_body(PET_MATRIX, PET_PIXEL_MM), 1.0, 0.0)
        suv[in_lungs(z_mm, PET_MATRIX, PET_PIXEL_MM)] = 0.5
        suv[in_lesion(z_mm, PET_MATRIX, PET_PIXEL_MM)] = 8.0
        _place(dataset, PET_MATRIX, PET_PIXEL_MM, z_mm, PET_MM)
        dataset.RescaleSlope, dataset.RescaleIntercept = 10, 0
        counts = np.rint(suv * BQML_OF_SUV / 10).astype("<i2")
        counts[0, 0] = sum(self.patient.encode()) % 10  # no two people have the same image
        dataset.PixelData = counts.tobytes()


def _place(dataset: Dataset, matrix: int, pixel_mm: float, z_mm: float, step_mm: float) -> None:
    corner = -pixel_mm * (matrix - 1) / 2
    dataset.Rows = dataset.Columns = matrix
    dataset.PixelSpacing = [pixel_mm, pixel_mm]
    dataset.ImagePositionPatient = [corner, corner, z_mm]
    dataset.SliceThickness = step_mm


def _axes(matrix: int, pixel_mm: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and y (matrix, matrix) of pixel centres, in mm."""
    centres = pixel_mm * (np.arange(matrix) - (matrix - 1) / 2)
    x, y = np.meshgrid(centres, centres)
    return x, y


def in_body(matrix: int, pixel_mm: float) -> NDArray[np.bool_]:
    x, y = _axes(matrix, pixel_mm)
    return np.asarray((x / 180) ** 2 + (y / 130) ** 2 < 1)


def in_lungs(z_mm: float, matrix: int, pixel_mm: float) -> NDArray[np.bool_]:
    x, y = _axes(matrix, pixel_mm)
    inside = ((np.abs(x) - 75) / 60) ** 2 + (y / 85) ** 2 < 1
    return inside & (BASE_MM <= z_mm <= APEX_MM)


def in_lesion(z_mm: float, matrix: int, pixel_mm: float) -> NDArray[np.bool_]:
    x, y = _axes(matrix, pixel_mm)
    away = (x - LESION_MM[0]) ** 2 + (y - LESION_MM[1]) ** 2 + (z_mm - LESION_MM[2]) ** 2
    return np.asarray(away < LESION_RADIUS_MM**2)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stages from ingest to preprocess, over three patients with a lesion each."""
    folder = tmp_path_factory.mktemp("long")
    with chdir(folder):
        for name in PATIENTS:
            LongPatient(Path("raw"), name).write()
        (INTERIM / "ingest").mkdir(parents=True)
        ingest_dataset(Path("raw"), INTERIM / "ingest", ingest_params(), workers=1)
        paths = (INTERIM / "ingest", INTERIM / "register", Path("figures"), Path("metrics.json"))
        register_studies(RegisterPaths(*paths), register_section(refine="none", spacing_mm=8.0))
        split_dataset(INTERIM, split_params(train_fraction=0.34, val_fraction=0.33), "thorax")
        params = load_params(ROOT / "params.yaml").preprocess
        changes = {"image_size_px": 32, "region": "thorax"}
        preprocess_dataset(INTERIM, PROCESSED, params.model_copy(update=changes), workers=1)
    return folder


def test_every_slice_of_ct_and_pet_is_read(home: Path) -> None:
    studies = read_table(home / INTERIM / "ingest/studies.csv", StudyRow)
    assert len(studies) == len(PATIENTS)
    assert {(row.ct_slices, row.pet_slices) for row in studies} == {(CT_SLICES, PET_SLICES)}
    assert {(row.label_kind, row.label_drawn_on) for row in studies} == {("seg", "pet")}


def test_lungs_are_found_and_slices_beyond_them_excluded(home: Path) -> None:
    regions = read_table(home / INTERIM / "split/regions.csv", RegionRow)
    assert [row.base_mm for row in regions] == pytest.approx([BASE_MM] * 3, abs=CT_PIXEL_MM)
    assert [row.apex_mm for row in regions] == pytest.approx([APEX_MM] * 3, abs=CT_PIXEL_MM)
    rows = read_table(home / INTERIM / "split/slices.csv", SliceRow)
    assert len(rows) > 400 * len(PATIENTS)
    beyond = {row.z_mm for row in rows if "outside the thorax" in row.reason}
    within = {row.z_mm for row in rows} - beyond
    assert min(beyond) < BASE_MM < APEX_MM < max(beyond)
    assert min(within) >= BASE_MM - 2 * MARGIN_MM
    assert max(within) <= APEX_MM + 2 * MARGIN_MM


def test_a_lesion_of_the_coarser_pet_lies_on_the_cts_slices_where_it_is(home: Path) -> None:
    images = read_table(home / PROCESSED / "index.csv", ImageRow)
    places = {
        row.slice_id: row.z_mm for row in read_table(home / INTERIM / "split/slices.csv", SliceRow)
    }
    (study,) = {row.study_id for row in images if row.split == "test"}
    rows = [row for row in images if row.study_id == study]
    shard = read_shard(shard_path(home / PROCESSED, study))
    assert len(shard) == len(rows)
    found = [places[row.slice_id] for row in rows if shard.lesion[row.shard_row].any()]
    middle = LESION_MM[2]
    assert (min(found) + max(found)) / 2 == pytest.approx(middle, abs=PET_MM)
    assert max(found) - min(found) == pytest.approx(2 * LESION_RADIUS_MM, abs=2 * PET_MM)
    hottest = max(rows, key=lambda row: row.suv_max)
    assert places[hottest.slice_id] == pytest.approx(middle, abs=LESION_RADIUS_MM)
    assert hottest.suv_max == pytest.approx(8.0, rel=0.2)
