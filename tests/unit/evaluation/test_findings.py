"""Lesions, findings and volumes, counted by hand on small stacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from petct_uad.core.errors import DatasetError
from petct_uad.core.files import write_table
from petct_uad.evaluation.findings import (
    CURVE_RATES,
    RATES,
    Findings,
    Tally,
    falling_thresholds,
)
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.results import RunResults, measure
from petct_uad.evaluation.stacks import Grid, Stack, stacks_of
from petct_uad.evaluation.tables import RunIdentity
from petct_uad.scoring.tables import SeedScores
from petct_uad.slices.store import Shard, write_shard
from petct_uad.slices.tables import ImageRow, SliceRow, shard_path
from tests.samples import image_row, slice_row
from tests.small_results import known
from tests.unit.preprocess.test_shards import run

SIDE = 12
VOXEL_ML = 0.5
PARAMS = EvaluateParams(false_positive_rate=0.1, bootstrap_samples=50, confidence=0.9, seed=0)
IDENTITY = RunIdentity(run="run", model="run", modality="pet", dataset="tiny", protocol="patient")
Box = tuple[slice, slice, slice]  # slices of the stack, rows, columns
# Far enough apart that nothing touches.
LEFT, RIGHT, BELOW = (
    (slice(1, 3), slice(1, 3), slice(1, 3)),  # 8 voxels
    (slice(1, 2), slice(1, 3), slice(8, 10)),  # 4 voxels
    (slice(2, 4), slice(8, 11), slice(1, 4)),  # 18 voxels
)


def empty(slices: int = 5) -> np.ndarray:
    return np.zeros((slices, SIDE, SIDE), dtype=np.float32)


def painted(*boxes: tuple[Box, float], slices: int = 5) -> np.ndarray:
    """A map that is 0 but for these boxes."""
    drawn = empty(slices)
    for box, value in boxes:
        drawn[box] = value
    return drawn


def stack_of(
    *lesions: Box, owner: int = 0, first: int = 0, levels: Sequence[int] = range(5)
) -> Stack:
    """A study of these lesions, the first of whose slices is the ``first`` of the test split."""
    masks = np.zeros((first + len(levels), SIDE, SIDE), dtype=bool)
    for box in lesions:
        masks[first:][box] = True
    rows = [row(i, masks[i].any(), f"study{'' if i < first else owner}") for i in range(len(masks))]
    grid = Grid(np.array([*range(first), *levels], dtype=np.int64), np.full(len(masks), VOXEL_ML))
    if not lesions:  # one that is marked, so that the study is counted
        masks[0, 0, 0] = first > 0
    found = stacks_of(rows, np.full(len(masks), owner), masks, grid)
    return found[-1]


def row(index: int, abnormal: object, study: str, patient: str = "") -> ImageRow:
    return image_row(
        slice_id=f"{study}_{index:04d}",
        study_id=study,
        patient=patient or study,
        split="test",
        label=int(bool(abnormal)),
    )


def once(findings: Findings) -> np.ndarray:
    return np.ones((1, len(findings.studies)))


def read(stack: Stack, anomaly_map: np.ndarray, threshold: float = 0.5) -> Findings:
    return Findings.of([stack], anomaly_map, threshold, 1)


# Lesions in three dimensions


def test_a_lesion_goes_through_slices_and_one_that_shares_only_a_corner_is_another() -> None:
    assert stack_of(LEFT).count == 1
    assert stack_of(LEFT, RIGHT, BELOW).count == 3
    edge = (slice(3, 4), slice(3, 4), slice(1, 3))  # shares an edge with LEFT
    corner = (slice(3, 4), slice(3, 4), slice(3, 4))
    assert stack_of(LEFT, edge).count == 1
    assert stack_of(LEFT, corner).count == 2


def test_a_gap_of_any_length_parts_a_lesion_and_neighbours_do_not() -> None:
    through = (slice(0, 5), slice(1, 3), slice(1, 3))
    assert stack_of(through).count == 1
    assert stack_of(through, levels=[0, 1, 3, 4, 5]).count == 2
    assert stack_of(through, levels=[0, 1, 40, 41, 90]).count == 3


def test_slices_are_stacked_along_the_body_whatever_the_order_of_their_names() -> None:
    # By name the lesion's slices are apart; along the body they are neighbours.
    levels = np.array([2, 0, 3, 1, 4])
    masks = np.zeros((5, SIDE, SIDE), dtype=bool)
    masks[[0, 2], 1:3, 1:3] = True
    rows = [row(i, masks[i].any(), "S") for i in range(5)]
    (stack,) = stacks_of(rows, np.zeros(5, np.intp), masks, Grid(levels, np.full(5, VOXEL_ML)))
    assert stack.count == 1
    assert stack.slices.tolist() == [1, 3, 0, 2, 4]


def test_an_abnormal_slice_without_a_lesion_pixel_is_a_gap_where_nothing_is_false() -> None:
    masks = np.zeros((5, SIDE, SIDE), dtype=bool)
    masks[[0, 1], 1:3, 1:3] = True
    rows = [row(i, i in (0, 1, 3), "S") for i in range(5)]
    grid = Grid(np.arange(5), np.full(5, VOXEL_ML))
    (stack,) = stacks_of(rows, np.zeros(5, np.intp), masks, grid)
    assert stack.slices.tolist() == [0, 1, 2, 4]
    hot = painted(((slice(3, 4), slice(8, 10), slice(8, 10)), 1.0))
    assert read(stack, hot).false_per_study(np.ones((1, 1))).item() == 0


def test_without_any_lesion_mask_there_are_no_stacks() -> None:
    rows = [row(i, i == 0, "S") for i in range(3)]
    masks = np.zeros((3, SIDE, SIDE), dtype=bool)
    grid = Grid(np.arange(3), np.full(3, VOXEL_ML))
    assert stacks_of(rows, np.zeros(3, np.intp), masks, grid) == ()


# Findings at one threshold


def test_lesions_found_false_findings_and_their_volumes_are_counted() -> None:
    false_one = (slice(0, 2), slice(5, 7), slice(5, 7))  # 8 voxels
    false_two = (slice(4, 5), slice(10, 12), slice(10, 12))  # 4 voxels
    touching = (slice(3, 5), slice(1, 3), slice(1, 3))  # beside LEFT, which it does not overlap
    anomaly_map = painted(
        ((slice(2, 3), slice(2, 3), slice(2, 3)), 1.0),  # one voxel of LEFT's 8
        (false_one, 1.0),
        (false_two, 0.6),
        (touching, 0.4),
        (RIGHT, 0.5),  # at the threshold is not above it
    )
    found = read(stack_of(LEFT, RIGHT, BELOW), anomaly_map)
    w = once(found)
    assert found.found(w).item() == pytest.approx(1 / 3)
    assert found.false_per_study(w).item() == 2
    assert found.false_ml(w).item() == pytest.approx((8 + 4) * VOXEL_ML)
    assert found.missed_ml(w).item() == pytest.approx((4 + 18) * VOXEL_ML)
    # One voxel in common, of 1 + 8 + 4 that are marked and 8 + 4 + 18 that are lesion.
    assert found.dice(w).item() == pytest.approx(2 * 1 / (13 + 30))


def test_a_finding_that_reaches_into_a_lesion_is_not_false_however_large() -> None:
    spilling = (slice(0, 5), slice(0, 7), slice(0, 7))
    found = read(stack_of(LEFT), painted((spilling, 1.0)))
    assert found.false_per_study(once(found)).item() == 0
    assert found.false_ml(once(found)).item() == 0


def test_a_study_without_a_lesion_counts_for_false_findings_and_their_volume_only() -> None:
    with_lesion, without = stack_of(LEFT), stack_of(first=5, owner=1)
    maps = np.concatenate([painted((LEFT, 1.0)), painted((RIGHT, 1.0), (BELOW, 1.0))])
    found = Findings.of([with_lesion, without], maps, 0.5, 2)
    w = once(found)
    assert found.found(w).item() == 1
    assert found.false_per_study(w).item() == 1  # none and two
    assert found.false_ml(w).item() == pytest.approx((4 + 18) * VOXEL_ML / 2)
    assert found.missed_ml(w).item() == 0
    assert found.dice(w).item() == 1
    # Of resamples that hold the healthy patient only, what needs a lesion says nothing.
    healthy = np.array([[0.0, 2.0]])
    assert found.false_per_study(healthy).item() == 2
    for figure in (found.found, found.missed_ml, found.dice):
        assert np.isnan(figure(healthy)).all()
    assert np.isnan(found.sensitivity(healthy, RATES)).all()


def test_the_best_dice_is_at_least_that_of_the_validation_threshold() -> None:
    anomaly_map = painted((LEFT, 2.0), (RIGHT, 1.0))
    low = read(stack_of(LEFT), anomaly_map, 0.5)
    assert low.dice(once(low)).item() == pytest.approx(2 * 8 / (12 + 8))
    assert low.oracle_dice == 1
    high = read(stack_of(LEFT), anomaly_map, 1.5)
    assert high.dice(once(high)).item() == high.oracle_dice == 1


# FROC


def test_the_sweep_falls_from_above_every_pixel_to_what_a_tenth_of_them_exceeds() -> None:
    maps = np.random.default_rng(0).permutation(300_000).astype(np.float32).reshape(3, 100, 1000)
    thresholds = falling_thresholds(maps)
    assert thresholds == sorted(set(thresholds), reverse=True)
    exceeding = [int((maps > threshold).sum()) for threshold in thresholds]
    assert exceeding[0] == 3  # 1 in 100,000
    assert exceeding[-1] == 30_000
    assert np.diff(np.log10(exceeding[6:])) == pytest.approx(1 / 6, abs=0.02)


def test_the_sweep_is_that_of_sorted_pixels_of_any_sign_and_with_ties() -> None:
    generator = np.random.default_rng(1)
    maps = generator.normal(size=(200, 30, 50)).astype(np.float32)  # several chunks
    maps[::2] = maps[::2].round(1)
    ranked = np.sort(maps, axis=None)[::-1]
    expected = [ranked[int(maps.size * share)] for share in np.geomspace(1e-5, 1e-1, 25)]
    assert falling_thresholds(maps) == list(dict.fromkeys(map(float, expected)))


def test_the_sweep_ends_where_there_are_more_false_findings_than_any_figure_asks_for() -> None:
    dots = empty()
    dots[::2, ::2, ::2] = 1.0  # 108 of them, eight times as many as a study may have
    tally = Tally.at([stack_of(LEFT)], dots, [2.0, 0.5, 0.4, 0.3], 1)
    assert tally.false.ravel().tolist() == [0, 107]


def froc(*heights: float, lesions: int, studies: int = 1) -> Findings:
    """Single voxels of these heights, of which the first ``lesions`` are lesions."""
    places = [(4 * (i // 9), 4 * (i // 3 % 3), 4 * (i % 3)) for i in range(len(heights))]
    depth = max(place[0] for place in places) + 1
    boxes = [tuple(slice(x, x + 1) for x in place) for place in places]
    anomaly_map = painted(*zip(boxes, heights, strict=True), slices=depth)  # type: ignore[arg-type]
    first = stack_of(*boxes[:lesions], levels=range(depth))  # type: ignore[arg-type]
    others = [stack_of(first=depth * i, owner=i, levels=range(depth)) for i in range(1, studies)]
    maps = np.concatenate([anomaly_map, *[empty(depth)] * (studies - 1)])
    stacks = [first, *others]
    below_each = [height - 0.01 for height in sorted(set(heights), reverse=True)]
    sweep = Tally.at(stacks, maps, below_each, studies)
    return replace(Findings.of(stacks, maps, 0.5, studies), sweep=sweep)


def test_froc_of_a_known_ranking() -> None:
    # From the highest: lesion, false, lesion, false, false, lesion.
    found = froc(0.9, 0.7, 0.4, 0.8, 0.6, 0.5, lesions=3)
    at = found.sensitivity(once(found), (0.0, 1.0, 2.0, 3.0)).ravel()
    assert at == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1])


def test_false_findings_are_counted_over_all_studies_so_that_healthy_ones_dilute_them() -> None:
    found = froc(0.9, 0.7, 0.4, 0.8, 0.6, 0.5, lesions=3, studies=4)
    at = found.sensitivity(once(found), (1 / 4, 1 / 2, 3 / 4)).ravel()
    assert at == pytest.approx([2 / 3, 2 / 3, 1])


def test_between_two_thresholds_sensitivity_is_interpolated_and_beyond_the_last_it_stays() -> None:
    found = froc(0.9, 0.5, 0.5, lesions=2)  # at 0.5 a lesion and a false finding come together
    at = found.sensitivity(once(found), (0.0, 0.5, 1.0, 8.0)).ravel()
    assert at == pytest.approx([1 / 2, 3 / 4, 1, 1])


def test_findings_that_flow_together_are_no_merit() -> None:
    # Two false findings at 1, joined at 0.5 to one that also reaches the lesion.
    bridge = (slice(0, 1), slice(0, 1), slice(0, 11))
    anomaly_map = painted(
        (bridge, 0.5),
        ((slice(0, 1), slice(0, 1), slice(2, 3)), 1.0),
        ((slice(0, 1), slice(0, 1), slice(5, 6)), 1.0),
        slices=1,
    )
    stack = stack_of((slice(0, 1), slice(0, 1), slice(8, 9)), levels=[0])
    found = read(stack, anomaly_map, 0.4)
    assert found.false_per_study(once(found)).item() == 0  # at this threshold it is one finding
    at = found.sensitivity(once(found), (0.0, 1.0, 2.0)).ravel()
    assert at == pytest.approx([0, 0, 1])


def test_a_perfect_map_finds_all_lesions_without_a_false_finding_and_a_flat_one_none() -> None:
    perfect = read(stack_of(LEFT, RIGHT), painted((LEFT, 1.0), (RIGHT, 2.0)))
    assert (perfect.sensitivity(once(perfect), RATES) == 1).all()
    flat = read(stack_of(LEFT, RIGHT), empty())
    assert (flat.sensitivity(once(flat), RATES) == 0).all()


def test_resamples_are_those_of_repeated_patients() -> None:
    generator = np.random.default_rng(0)
    maps = generator.random((15, SIDE, SIDE)).astype(np.float32) ** 8
    maps[1:3, 1:3, 1:3] += 0.2
    stacks = [
        stack_of(LEFT, owner=0),
        stack_of(RIGHT, BELOW, owner=1, first=5),
        stack_of(owner=2, first=10),
    ]
    both = Findings.of(stacks, maps, 0.9, 3)
    (found,) = both.sensitivity(np.array([[2.0, 0.0, 1.0]]), RATES)
    again = Findings.of([stacks[0], stacks[0], stacks[2]], maps, 0.9, 3)
    # The thresholds are those of the same maps, so both sweeps are alike.
    assert found == pytest.approx(again.sensitivity(once(again), RATES).ravel())


def test_the_curve_holds_the_usual_rates() -> None:
    assert set(np.round(RATES, 6)) <= set(np.round(CURVE_RATES, 6))


# Thresholds and figures of a run


def of_run(stacks: tuple[Stack, ...], lesion: Box = LEFT) -> RunResults:
    """Two patients of five slices, the first with a lesion; called by their highest pixel."""
    maps = np.concatenate([painted((LEFT, 3.0)), painted((RIGHT, 2.0), (BELOW, 1.0))])
    masks = np.zeros(maps.shape, dtype=bool)
    masks[lesion] = True
    rows = [row(i, masks[i].any(), f"S{i // 5}", f"P{i // 5}") for i in range(10)]
    seed = SeedScores(
        seed=0,
        val=np.zeros(10),
        test=maps.max(axis=(1, 2)).astype(float),
        maps=maps,
        val_peaks=np.append(np.linspace(0.1, 1.5, 9), 9.0).astype(np.float32),
    )
    return measure(
        IDENTITY, seeds=[seed], test_rows=rows, params=PARAMS, lesions=masks, stacks=stacks
    )


TWO = (stack_of(LEFT, owner=0), stack_of(owner=1, first=5))


def test_the_threshold_of_maps_lets_the_stated_fraction_of_validation_normals_pass() -> None:
    # One in ten of the normals has a pixel above 1.5, as evaluate.false_positive_rate allows.
    metrics = of_run(TWO).metrics
    assert metrics.map_thresholds == (1.5,)
    assert (metrics.n_test_studies, metrics.n_test_lesions) == (2, 1)
    figures = metrics.figures
    assert figures["lesion_sensitivity"].value == 1
    assert figures["false_findings"].value == 0.5  # RIGHT, not BELOW, in one of two studies
    assert figures["false_positive_ml"].value == 4 * VOXEL_ML / 2
    assert figures["false_negative_ml"].value == 0
    assert figures["dice"].value == figures["oracle_dice"].value == 1
    assert figures["froc"].value == figures["froc_1"].value == 1
    assert known(figures["froc"].low) <= 1


def test_labels_and_masks_of_test_slices_move_no_threshold_that_is_not_called_oracle() -> None:
    true = of_run(TWO).metrics
    other = of_run((stack_of(BELOW, owner=0), TWO[1]), lesion=BELOW).metrics
    assert other.thresholds == true.thresholds
    assert other.map_thresholds == true.map_thresholds
    # What is measured there does move, so the promise above could be broken.
    assert other.figures["lesion_sensitivity"].value == 0
    assert other.figures["auroc"].value != true.figures["auroc"].value


def test_froc_is_written_point_by_point_with_its_interval() -> None:
    results = of_run(TWO)
    assert [point.false_findings for point in results.froc] == pytest.approx(CURVE_RATES)
    assert {(x.low, x.sensitivity, x.high) for x in results.froc} == {(1, 1, 1)}


def test_without_stacks_a_run_has_no_figure_of_lesions() -> None:
    results = of_run(())
    assert results.froc == ()
    assert not {"froc", "dice", "oracle_dice", "false_findings"} & set(results.metrics.figures)
    assert "pixel_auroc" in results.metrics.figures


def test_pictures_have_no_volumes_and_else_the_same_figures() -> None:
    pictures = [replace(x, voxel_ml=float("nan")) for x in TWO]
    figures = of_run(tuple(pictures)).metrics.figures
    assert figures["lesion_sensitivity"].value == 1
    assert not {"false_positive_ml", "false_negative_ml"} & set(figures)


# The grid


def write_study(folder: Path, pixel_mm: float, levels: Sequence[int], step_mm: float) -> Grid:
    """Slices of a body of 100 pixels at these levels of a stack of twenty."""
    body = np.zeros((len(levels), SIDE, SIDE), dtype=np.uint8)
    body[:, 1:11, 1:11] = 1
    planes = body.astype(np.float16)
    write_shard(shard_path(folder, "S"), Shard(planes, planes, body, body))
    slices = [
        SliceRow(f"S_{i:04d}", "S", "S", "GE", i, step_mm * i - 300, i / 19, 0.0, 0, "test", "x")
        for i in range(20)
    ]
    write_table(folder / "slices.csv", SliceRow, slices)
    rows = [
        image_row(slice_id=f"S_{level:04d}", study_id="S", shard_row=i,
                  body_area_mm2=100 * pixel_mm**2)
        for i, level in enumerate(levels)
    ]  # fmt: skip
    return Grid.read(folder, folder / "slices.csv", rows)


@pytest.mark.parametrize("levels", [[0, 1, 2], [3, 7, 19], [5]])
def test_a_voxel_is_a_pixel_times_the_distance_of_neighbouring_slices_in_ml(
    tmp_path: Path, levels: list[int]
) -> None:
    grid = write_study(tmp_path, 2.5, levels, step_mm=-4.0)
    assert grid.voxel_ml == pytest.approx([2.5 * 2.5 * 4.0 / 1000] * len(levels))
    assert grid.levels.tolist() == levels


def test_a_voxel_of_a_preprocessed_study_is_that_of_its_square_to_one_per_cent(
    tmp_path: Path,
) -> None:
    rows, processed = run(tmp_path, image_size_px=128)  # 248 mm wide, slices 5 mm apart
    write_table(tmp_path / "slices.csv", SliceRow, [slice_row(row) for row in rows])
    grid = Grid.read(processed, tmp_path / "slices.csv", rows)
    assert grid.voxel_ml == pytest.approx([(248 / 128) ** 2 * 5 / 1000] * len(rows), rel=0.01)


def test_slices_that_are_in_no_table_of_slices_are_refused(tmp_path: Path) -> None:
    write_study(tmp_path, 2.5, [0, 1], 4.0)
    lost = [image_row(slice_id="S_0077", study_id="S"), image_row(slice_id="S_0001", study_id="S")]
    with pytest.raises(DatasetError, match=r"lacks 1 of 2 slices .* S_0077; .* stale"):
        Grid.read(tmp_path, tmp_path / "slices.csv", lost)
    with pytest.raises(DatasetError, match=r"not found\. Run `dvc repro split`"):
        Grid.read(tmp_path, tmp_path / "none.csv", lost)
