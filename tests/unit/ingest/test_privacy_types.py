"""What a file says of a person is of another type than what is written: mypy tells them apart."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from petct_uad.core.files import write_table
from petct_uad.ingest import found, tables

ROOT = Path(__file__).resolve().parents[3]
SOURCE = ROOT / "src/petct_uad"
PAIRS = [
    (found.FoundInstance, tables.InstanceRow),
    (found.FoundSeries, tables.SeriesRow),
    (found.FoundStudy, tables.StudyRow),
    (found.FoundRejection, tables.RejectedRow),
]
# Of a fixed vocabulary, a hash, or the scanner's: which machine it is, not where it stands.
NAMES_NOBODY = {
    "sha256", "pixels_sha256", "role", "modality", "code", "label_kind", "suv_kind", "split",
    "label_drawn_on", "finding", "reference_rule", "nuclide", "dose_unit",
    "manufacturer", "model_name", "scanner",
}  # fmt: skip
MADE_HERE = {
    "ingest/tables.py", "ingest/pseudonyms.py", "ingest/dicom/publish.py",
    "ingest/images/reader.py",
}  # fmt: skip

# Every line that mypy must refuse ends in the code of its error.
SNIPPET = """\
from pathlib import Path

from petct_uad.core.files import write_table
from petct_uad.ingest.found import FoundInstance, FoundStudy, FoundTables
from petct_uad.ingest.pseudonyms import PUBLIC
from petct_uad.ingest.tables import InstanceRow, PublishedTables, StudyRow


def in_clear(path: Path, read: FoundTables, row: FoundInstance, published: InstanceRow) -> None:
    write_table(path, FoundStudy, read.studies)  # refused: type-var
    write_table(path, StudyRow, read.studies)  # refused: type-var
    write_table(path, InstanceRow, [published, row])  # refused: type-var
    PublishedTables(read.instances, (), (), ()).write(path)  # refused: arg-type
    read.write(path)  # refused: attr-defined


def as_a_pseudonym(row: FoundInstance) -> InstanceRow:
    uid = PUBLIC.uid(row.series_instance_uid)
    return InstanceRow(
        PUBLIC.file(row.file),
        row.sha256,
        row.sop_instance_uid,  # refused: arg-type
        uid,
        row.study_id,
        "ct",
        0,
    )


def patient_as_a_study(row: FoundStudy) -> str:
    return PUBLIC.study_id(row.patient, row.patient)


def under_pseudonyms(path: Path, row: FoundInstance) -> None:
    uid = PUBLIC.uid(row.sop_instance_uid)
    file = PUBLIC.file(row.file)
    instance = InstanceRow(file, row.sha256, uid, uid, row.study_id, row.role, row.slice_index)
    write_table(path, InstanceRow, [instance])
    PublishedTables((instance,), (), (), ()).write(path)
"""


def test_mypy_refuses_every_way_to_write_what_identifies_and_none_to_write_pseudonyms(
    tmp_path: Path,
) -> None:
    snippet = tmp_path / "snippet.py"
    snippet.write_text(SNIPPET)
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), str(snippet)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = re.findall(r"snippet\.py:(\d+): error: .*\[([a-z-]+)\]", done.stdout)
    expected = [
        (str(number), line.split("refused: ")[1])
        for number, line in enumerate(SNIPPET.splitlines(), start=1)
        if "refused: " in line
    ]
    assert said == expected, done.stdout + done.stderr


@pytest.mark.parametrize(("in_clear", "published"), PAIRS)
def test_python_refuses_a_table_of_rows_in_clear(
    in_clear: type[Any], published: type, tmp_path: Path
) -> None:
    with pytest.raises(TypeError):
        write_table(tmp_path / "table.csv", in_clear, [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("in_clear", "published"), PAIRS)
def test_rows_in_clear_have_the_columns_that_are_published(
    in_clear: type[NamedTuple], published: type
) -> None:
    assert in_clear._fields == tuple(field.name for field in fields(published))


@pytest.mark.parametrize("published", [*(pair[1] for pair in PAIRS), tables.PictureRow])
def test_a_column_of_plain_text_names_nobody(published: type) -> None:
    plain = {field.name for field in fields(published) if field.type == "str"}
    assert plain <= NAMES_NOBODY


def test_only_pseudonyms_and_the_scrubbing_make_what_is_published() -> None:
    types = {"PatientPseudonym", "StudyId", "UidPseudonym", "PublicPath", "PublicText"}
    makers = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in types
    }
    assert makers == MADE_HERE
