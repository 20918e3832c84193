"""Which CT and which PET: what the label was drawn on, then what covers more, then more slices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.func.ingest.conftest import Edit, Patient, Run

SQUARE = np.array([(x, y, 20.0) for x, y in ((-16, -16), (16, -16), (16, 16), (-16, 16))])


def chest(case: Patient) -> None:
    """A thin CT: 30 slices of 0.8 mm over the middle of what the others cover."""

    def edit(dataset: Dataset, index: int) -> None:
        dataset.ImagePositionPatient[2] = 12.0 + 0.8 * index
        dataset.SliceThickness = 0.8

    case.slices = 30
    case.ct("A-chest", edit)
    case.slices = 12


def sets(**values: object) -> Edit:
    def edit(dataset: Dataset, _index: int) -> None:
        for name, value in values.items():
            setattr(dataset, name, value)

    return edit


def chosen(done: Run, role: str) -> str:
    (row,) = [row for row in done.tables.series if row.role == role]
    return row.series_instance_uid


def reason(done: Run, uid: str) -> str:
    (row,) = [row for row in done.tables.series if row.series_instance_uid == uid]
    return row.reason


def test_a_ct_that_covers_the_pet_goes_before_a_thin_one_of_its_middle(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient().both()
    chest(case)
    done = run()
    assert chosen(done, "ct") == case.uid("CT")
    assert "fewer mm over the PET: 23 against 44" in reason(done, case.uid("A-chest"))
    assert "best of 2: mm over the PET" in reason(done, case.uid("CT"))


def test_thin_slices_go_before_thick_ones_of_the_same_body(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    """The thick stack ends 2 mm further; that is no more of the body."""
    case = patient().both()
    case.slices = 7

    def thick(dataset: Dataset, index: int) -> None:
        dataset.ImagePositionPatient[2] = 7.6 * index
        dataset.SliceThickness = 7.6

    case.ct("A-thick", thick)
    done = run()
    assert chosen(done, "ct") == case.uid("CT")
    assert "fewer slices over the PET: 7 against 12" in reason(done, case.uid("A-thick"))


@pytest.mark.parametrize("on", ["CT", "A-chest", "Z-again"])
def test_the_ct_that_the_label_references_goes_before_what_covers_more(
    patient: Callable[..., Patient], run: Callable[..., Run], on: str
) -> None:
    case = patient().both()
    chest(case)
    case.ct("Z-again")
    case.rtstruct([SQUARE], on=on)
    done = run()
    assert chosen(done, "ct") == case.uid(on)
    assert "the label's reference to it" in reason(done, case.uid(on))


@pytest.mark.parametrize("on", ["PET-early", "PET-late"])
def test_of_two_pets_the_one_that_the_label_references_is_taken(
    patient: Callable[..., Patient], run: Callable[..., Run], on: str
) -> None:
    case = patient()
    case.ct()
    case.pet("PET-early")
    case.pet("PET-late", sets(SeriesTime="110000", AcquisitionTime="110000"))
    case.rtstruct([SQUARE], on=on)
    done = run()
    assert chosen(done, "pet") == case.uid(on)
    assert "would have done as well" not in done.tables.studies[0].notes


def test_a_label_on_a_ct_takes_the_pet_of_its_frame_of_reference(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    """Two sessions in one study; the label was drawn on the CT of the second."""
    case = patient()
    second = sets(FrameOfReferenceUID="1.2.3.4")
    for name in ("1", "2"):
        case.ct(f"CT{name}", second if name == "2" else sets())
        case.pet(f"PET{name}", second if name == "2" else sets())
    for frame, number in ((case.frame, "1"), ("1.2.3.4", "2")):
        case.frame = frame
        case.rtstruct([SQUARE], on=f"CT{number}")
        done = run()
        assert (chosen(done, "ct"), chosen(done, "pet")) == (
            case.uid(f"CT{number}"), case.uid(f"PET{number}")
        )  # fmt: skip
        (case.root / case.patient / f"RS-CT{number}-GTV.dcm").unlink()


def test_a_pet_of_more_mm_goes_before_one_of_more_slices(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient().both()

    def thin(dataset: Dataset, index: int) -> None:
        dataset.ImagePositionPatient[2] = 12.0 + index

    case.slices = 20
    case.pet("A-thin", thin)
    done = run()
    assert chosen(done, "pet") == case.uid("PET")
    assert "fewer mm: 19 against 44" in reason(done, case.uid("A-thin"))


def test_a_label_on_an_uncorrected_pet_makes_no_suv_of_it(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient().both()
    case.pet("A-uncorrected", sets(CorrectedImage=["DECY"]))
    case.rtstruct([SQUARE], on="A-uncorrected")
    done = run()
    assert chosen(done, "pet") == case.uid("PET")
    assert not [row for row in done.tables.rejected if row.code == "units"]


def test_a_choice_between_equals_is_noted(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient().both()
    case.pet("again")
    note = run().tables.studies[0].notes
    assert "another PET would have done as well: the first UID was taken" in note
