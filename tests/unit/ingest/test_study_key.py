"""What a study is made from is in the text by which the store finds it, and no other study's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from petct_uad.ingest.dicom.choice import StudyTask
from petct_uad.ingest.dicom.contours import Contour
from petct_uad.ingest.dicom.frames import TimeFrame
from petct_uad.ingest.dicom.header import Header
from petct_uad.ingest.dicom.series import DicomStudy, Series
from petct_uad.ingest.tables import StudyId
from petct_uad.schema import load_params

SLICE = Header(
    file="CT/1.dcm", sha256="a" * 64, modality="CT", sop_instance_uid="1.1",
    series_instance_uid="1", study_instance_uid="2", frame_of_reference_uid="3", patient="P",
    birth_date="", sex="", manufacturer="", model_name="", description="", image_type=(),
    corrected_image=(), number_of_slices=None, rows=10, columns=20, pixel_spacing_mm=(2.0, 1.0),
    position_mm=(0.0, 0.0, 0.0), orientation=None, referenced_series=(),
)  # fmt: skip
OTHER = replace(SLICE, file="CT/2.dcm", sha256="b" * 64, sop_instance_uid="1.2")
TASK = StudyTask(
    raw=Path("data/raw/mine"),
    volumes=Path("out"),
    study_id=StudyId("p-0000000000_00000000"),
    study=DicomStudy("2", (Series((SLICE, OTHER)),)),
    params=load_params(Path("params.yaml")).ingest,
)


def of(*series: Series) -> StudyTask:
    return replace(TASK, study=DicomStudy("2", series))


CHANGES: dict[str, Callable[[], StudyTask]] = {
    "other bytes": lambda: of(Series((replace(SLICE, sha256="c" * 64), OTHER))),
    "another name": lambda: of(Series((replace(SLICE, file="1.dcm"), OTHER))),
    "a slice less": lambda: of(Series((SLICE,))),
    "another order": lambda: of(Series((OTHER, SLICE))),
    "two stacks": lambda: of(Series((SLICE,)), Series((OTHER,))),
    "another number of the stack": lambda: of(Series((SLICE, replace(OTHER, stack=2)))),
    "another frame of the file": lambda: of(Series((SLICE, replace(OTHER, frame=1)))),
    "a frame in time": lambda: of(Series((SLICE, OTHER), TimeFrame("dynamic", 1, 2))),
    "a series that a label was found to reference": lambda: of(
        Series((SLICE, replace(OTHER, referenced_series=("1",))))
    ),
    "a line of labels.csv": lambda: replace(TASK, contours=(Contour(2, SLICE, "tumour", "0 0 0"),)),
    "a frame of reference that another patient has": lambda: replace(TASK, frame_shared=True),
    "another pseudonym": lambda: replace(TASK, study_id=StudyId("p-1111111111_00000000")),
    "other params": lambda: replace(TASK, params=TASK.params.model_copy(update={"max_gap_mm": 9})),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_study_that_could_be_read_otherwise_is_not_taken(change: Callable[[], StudyTask]) -> None:
    assert change().said != TASK.said


def test_where_a_study_lies_and_is_written_is_no_part_of_it() -> None:
    elsewhere = replace(TASK, raw=Path("/mnt/mine"), volumes=Path("/tmp/out"))
    assert elsewhere.said == TASK.said
