"""A dynamic or gated PET in one multi-frame file is treated as the same PET in single slices.

Enhanced PET (PS3.3 A.56) has no Series Type: its frames say when, how long and at which trigger.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.func.ingest.conftest import Edit, Patient, Run, item
from tests.func.ingest.test_dynamic import (
    LASTS_S,
    dynamic,
    frames_refusal,
    gated,
    pet,
    suv,
    write_frames,
)
from tests.func.ingest.test_multiframe import enhanced, legacy, write

# What single slices say and an Enhanced PET does not.
SINGLE_ONLY = ("SeriesType", "NumberOfTimeSlices", "NumberOfTimeSlots", "NumberOfSlices",
               "FrameReferenceTime", "TriggerTime")  # fmt: skip
Convert = Callable[[Sequence[Dataset]], Dataset]


def enhanced_dynamic(singles: Sequence[Dataset]) -> Dataset:
    made = bare(singles)
    for group, single in zip(made.PerFrameFunctionalGroupsSequence, singles, strict=True):
        # Scanners write fractions of a millisecond, which no single-frame tag can hold.
        group.FrameContentSequence[0].FrameAcquisitionDuration = (
            float(single.ActualFrameDuration) - 0.25
        )
    return made


def enhanced_gated(singles: Sequence[Dataset]) -> Dataset:
    made = bare(singles)
    for group, single in zip(made.PerFrameFunctionalGroupsSequence, singles, strict=True):
        group.FrameContentSequence[0].FrameAcquisitionDuration = 180000.0
        trigger = item(NominalCardiacTriggerDelayTime=float(single.TriggerTime))
        group.CardiacSynchronizationSequence = [trigger]
    return made


def numbered(singles: Sequence[Dataset]) -> Dataset:
    """Gates that are numbered as well."""
    made = enhanced_gated(singles)
    for group, single in zip(made.PerFrameFunctionalGroupsSequence, singles, strict=True):
        group.FrameContentSequence[0].TemporalPositionIndex = int(single.TriggerTime) // 250 + 1
    return made


def bare(singles: Sequence[Dataset]) -> Dataset:
    made = enhanced(singles)
    for name in SINGLE_ONLY:
        made.pop(name, None)
    made.DecayCorrectionDateTime = "20200101100000"
    return made


@pytest.fixture
def study(patient: Callable[..., Patient], raw: Path) -> Callable[..., Patient]:
    """A CT and one file with all frames of a PET, the last frame first."""

    def make(convert: Convert, times: Edit, count: int) -> Patient:
        case = patient("P1")
        case.ct()
        write_frames(case, times, count=count)
        frames = [case.datasets[f"PET-{frame}"] for frame in reversed(range(count))]
        for frame in range(count):
            shutil.rmtree(raw / "P1" / f"PET-{frame}")
        write(convert([single for frame in frames for single in frame]), raw / "P1/pet.dcm")
        return case

    return make


DYNAMIC = [(enhanced_dynamic, dynamic, 3), (legacy, dynamic, 3)]
GATED = [(enhanced_gated, gated, 4), (numbered, gated, 4), (legacy, gated, 4)]


@pytest.mark.parametrize(
    ("form", "said"),
    [*((form, "a dynamic PET of 3 frames") for form in DYNAMIC),
     *((form, "a gated PET of 4 gates") for form in GATED)],
)  # fmt: skip
def test_frames_in_one_file_are_refused_by_name(
    study: Callable[..., Patient],
    patient: Callable[..., Patient],
    run: Callable[..., Run],
    form: tuple[Convert, Edit, int],
    said: str,
) -> None:
    patient("good").both()
    study(*form)
    done = run()
    told = frames_refusal(done)
    assert said in told
    assert "ingest.dynamic: last" in told
    assert [row.patient for row in done.tables.studies] == ["good"]


@pytest.mark.parametrize("form", [*DYNAMIC, *GATED])
def test_last_is_the_last_wherever_it_lies_in_the_file(
    study: Callable[..., Patient], run: Callable[..., Run], form: tuple[Convert, Edit, int]
) -> None:
    case = study(*form)
    np.testing.assert_allclose(pet(run(dynamic="last")), suv(case, form[2]), rtol=1e-3)


@pytest.mark.parametrize("form", DYNAMIC)
def test_sum_of_frames_in_one_file_is_weighted_by_their_duration(
    study: Callable[..., Patient], run: Callable[..., Run], form: tuple[Convert, Edit, int]
) -> None:
    case = study(*form)
    done = run(dynamic="sum", dynamic_window_s=(600.0, 2400.0))
    expected = (2 * LASTS_S[1] + 3 * LASTS_S[2]) / (LASTS_S[1] + LASTS_S[2])
    np.testing.assert_allclose(pet(done), suv(case, expected), rtol=1e-3)
    assert "of 2 of 3 frames of a dynamic PET" in done.tables.studies[0].notes


@pytest.mark.parametrize("form", GATED)
def test_sum_of_gates_in_one_file_is_their_mean(
    study: Callable[..., Patient], run: Callable[..., Run], form: tuple[Convert, Edit, int]
) -> None:
    case = study(*form)
    np.testing.assert_allclose(pet(run(dynamic="sum")), suv(case, 2.5), rtol=1e-3)
