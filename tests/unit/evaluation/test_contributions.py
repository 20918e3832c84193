"""What each modality gave to a finding, told by hand on small stacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from petct_uad.core.files import read_table, write_table
from petct_uad.evaluation.contributions import finding_rows
from petct_uad.evaluation.seeds import SeedDecisions
from petct_uad.evaluation.stacks import Stack
from petct_uad.evaluation.tables import FindingRow
from petct_uad.scoring.tables import SeedScores
from tests.unit.evaluation.test_findings import (
    BELOW,
    LEFT,
    PARAMS,
    RIGHT,
    VOXEL_ML,
    Box,
    of_run,
    painted,
    row,
    stack_of,
)


def found(
    *boxes: tuple[Box, float],
    pet: np.ndarray | None = None,
    stack: Stack | None = None,
    modality: str = "petct",
) -> tuple[FindingRow, ...]:
    """What is found above 0.5 in a study of five slices, whose one lesion is LEFT."""
    maps = painted(*boxes)
    stack = stack or stack_of(LEFT)
    masks = np.zeros(maps.shape, dtype=bool)
    masks[LEFT] = True
    rows = [row(i, masks[i].any(), "S", "P") for i in range(len(maps))]
    peaks = np.full(10, 0.5, dtype=np.float32)
    seed = SeedScores(7, np.zeros(10), np.arange(5.0), maps, peaks, pet)
    decided = SeedDecisions.of(seed, rows, PARAMS.false_positive_rate, masks, (stack,))
    return finding_rows(decided, modality)


def test_each_finding_has_its_place_height_volume_and_lesions() -> None:
    high, low = found((LEFT, 1.0), (BELOW, 2.0))
    assert (high.finding, high.peak, high.lesions) == (1, 2.0, 0)
    assert (low.finding, low.peak, low.lesions) == (2, 1.0, 1)
    assert (high.seed, high.study_id, high.patient) == (7, "S", "P")
    assert (high.first_slice_id, high.last_slice_id) == ("S_0002", "S_0003")
    assert high.slice_id == "S_0002"
    assert high.volume_ml == 18 * VOXEL_ML
    assert [high.reaches(f"S_000{i}") for i in range(5)] == [False, False, True, True, False]


def test_a_finding_over_two_lesions_says_so() -> None:
    over_both = (slice(1, 3), slice(1, 3), slice(1, 10))
    (only,) = found((over_both, 1.0), stack=stack_of(LEFT, RIGHT))
    assert only.lesions == 2


def test_the_share_of_a_modality_is_what_it_gives_to_the_findings_voxels() -> None:
    pet = painted((LEFT, 0.75), (BELOW, 0.5))
    below, left = found((LEFT, 1.0), (BELOW, 2.0), pet=pet)
    assert (left.pet_share, left.ct_share) == (0.75, 0.25)
    assert (below.pet_share, below.ct_share) == (0.25, 0.75)
    assert left.in_words == "PET 75 %, CT 25 %"


def test_voxels_that_are_won_by_one_modality_or_the_other_weigh_as_they_are_high() -> None:
    """As under a maximum: two slices of 2 by 2, of heights 1 and 3, the higher one is the PET's."""
    upper = (slice(2, 3), *LEFT[1:])
    (only,) = found((LEFT, 1.0), (upper, 3.0), pet=painted((upper, 3.0)))
    assert (only.pet_share, only.ct_share) == (0.75, 0.25)


def test_a_modality_that_speaks_against_the_finding_has_a_share_below_zero() -> None:
    (only,) = found((LEFT, 1.0), pet=painted((LEFT, 1.25)))
    assert (only.pet_share, only.ct_share) == (1.25, -0.25)


@pytest.mark.parametrize(
    ("modality", "shares"), [("pet", (1, 0)), ("ct", (0, 1)), ("petct", (None, None))]
)
def test_a_row_of_one_modality_has_all_of_it_and_one_that_joins_no_maps_does_not_say(
    modality: str, shares: tuple[float | None, float | None]
) -> None:
    (only,) = found((LEFT, 1.0), modality=modality)
    assert (only.pet_share, only.ct_share) == shares


def test_nothing_above_the_threshold_is_no_finding() -> None:
    assert found((LEFT, 0.5)) == ()


def test_findings_of_a_picture_have_no_volume(tmp_path: Path) -> None:
    stack = stack_of(LEFT)
    picture = replace(stack, voxel_ml=float("nan"))
    rows = found((LEFT, 1.0), stack=picture)
    assert rows[0].volume_ml is None
    write_table(tmp_path / "findings.csv", FindingRow, rows)
    assert read_table(tmp_path / "findings.csv", FindingRow) == list(rows)


def test_findings_agree_with_the_figures_that_count_them() -> None:
    stacks = (stack_of(LEFT, owner=0), stack_of(owner=1, first=5))
    results = of_run(stacks)
    figures = results.metrics.figures
    false = [x for x in results.findings if not x.lesions]
    assert len(false) / results.metrics.n_test_studies == figures["false_findings"].value
    assert sum(x.lesions for x in results.findings) == results.metrics.n_test_lesions
    assert {(x.pet_share, x.ct_share) for x in results.findings} == {(1, 0)}  # the run sees PET
