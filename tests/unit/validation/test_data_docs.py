"""Great Expectations' own pages can be had, and are a side output."""

from __future__ import annotations

from pathlib import Path

import pytest

from petct_uad.cli.data_docs import write_data_docs
from petct_uad.core.errors import DatasetError
from petct_uad.core.files import write_table
from petct_uad.ingest.tables import InstanceRow, SeriesRow, StudyRow
from petct_uad.registration.tables import RegistrationRow
from petct_uad.slices.tables import ImageRow, SliceRow
from petct_uad.validation.tables import FailingRow, Folders, Measured, read_tables
from tests.unit.validation.sound import promises, sound_tables

pytestmark = pytest.mark.slow


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """A sound cohort as the stages before leave it."""
    folders, tables = Folders(tmp_path / "data", "tiny"), sound_tables()
    files = folders.tables
    write_table(files["instances"], InstanceRow, tables.instances)
    write_table(files["series"], SeriesRow, tables.series)
    write_table(files["studies"], StudyRow, tables.studies)
    write_table(files["registration"], RegistrationRow, tables.registration)
    write_table(files["slices"], SliceRow, tables.slices)
    write_table(files["images"], ImageRow, tables.images)
    return folders


def test_a_page_per_table_names_its_expectations(folders: Folders, tmp_path: Path) -> None:
    sound_tables().measured.write(folders.validated)
    write_table(folders.failing_rows, FailingRow, [])
    write_data_docs(folders, promises(), tmp_path / "docs")
    pages = {path.stem for path in (tmp_path / "docs").iterdir()}
    assert {"index", "instances", "images", "shards"} <= pages
    assert "suv_total_ratio" in (tmp_path / "docs/images.html").read_text()


def test_pages_before_the_stage_has_run_are_refused(folders: Folders, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="dvc repro validate"):
        write_data_docs(folders, promises(), tmp_path / "docs")


def test_tables_survive_being_written_and_read(folders: Folders) -> None:
    tables = sound_tables()
    tables.measured.write(folders.validated)
    assert Measured.read(folders.validated) == tables.measured
    assert read_tables(folders).studies == tables.studies
