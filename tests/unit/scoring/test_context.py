"""Maps smoothed along the body, by where slices lie and never by their place in the stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from petct_uad.cli.presets import preset_content, preset_names
from petct_uad.core.errors import DatasetError
from petct_uad.core.files import write_table
from petct_uad.models.build import class_of
from petct_uad.schema import parse_params
from petct_uad.scoring.context import smooth_along_z, z_positions_mm
from petct_uad.scoring.inference import scores_its_maps
from petct_uad.slices.tables import SliceRow
from tests.samples import image_row

Array = NDArray[Any]
PRESETS = Path(__file__).resolve().parents[3] / "params"


def maps_like(values: Array) -> NDArray[np.float32]:
    """(n, 4, 4): a constant map per value."""
    return np.broadcast_to(values[:, None, None], (len(values), 4, 4)).astype(np.float32)


def smoothed(values: Array, z_mm: Array, sigma_mm: float) -> Array:
    """Of one study, whose maps are constant."""
    found = smooth_along_z(maps_like(values), ["a"] * len(values), z_mm, sigma_mm)
    assert np.ptp(found, axis=(1, 2)).max() == 0
    constants: Array = found[:, 0, 0].astype(np.float64)
    return constants


def impulse(count: int, at: int) -> Array:
    row: Array = np.eye(count)[at]
    return row


def test_an_impulse_becomes_a_gaussian_in_mm() -> None:
    z = np.arange(0, 200, 2.0)
    found = smoothed(impulse(100, 50), z, 6.0)
    expected = np.exp(-0.5 * ((z - 100) / 6) ** 2)
    assert found == pytest.approx(expected / expected.sum(), abs=1e-4)


def test_spacing_counts_in_mm_not_in_slices() -> None:
    fine = smoothed(impulse(101, 50), np.arange(101) * 1.0, 5.0)
    coarse = smoothed(impulse(21, 10), np.arange(21) * 5.0, 5.0)
    assert fine[55] / fine[50] == pytest.approx(coarse[11] / coarse[10], rel=1e-3)


@pytest.mark.parametrize("z_mm", [np.arange(9) * 3.0, np.array([0, 1, 2, 9, 40, 41, 60, 60.5, 90])])
def test_constant_maps_stay_as_they_are_at_ends_gaps_and_uneven_spacing(z_mm: Array) -> None:
    assert smoothed(np.full(9, 2.5), z_mm, 7.0) == pytest.approx(np.full(9, 2.5))


def test_a_gap_keeps_what_lies_behind_it_away() -> None:
    """Slices 3 and 4 are neighbours in the stack, 60 mm apart in the body."""
    z = np.array([0, 3, 6, 9, 69, 72, 75.0])
    found = smoothed(impulse(7, 3), z, 5.0)
    assert found[:3].min() > 0.05
    assert found[4:].max() == 0


def test_an_excluded_slice_is_simply_not_there() -> None:
    z = np.arange(10) * 3.0
    values = np.linspace(0, 1, 10)
    kept = [i for i in range(10) if i != 4]
    weights = np.exp(-0.5 * ((z[kept] - z[5]) / 6) ** 2)
    expected = (weights * values[kept]).sum() / weights.sum()
    assert smoothed(values[kept], z[kept], 6.0)[4] == pytest.approx(expected, rel=1e-3)


def test_no_study_sees_another_and_their_order_does_not_count() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(12, 4, 4)).astype(np.float32)
    z = np.tile(np.arange(6) * 4.0, 2)
    studies = np.repeat(["a", "b"], 6)
    together = smooth_along_z(maps, list(studies), z, 5.0)
    alone = smooth_along_z(maps[:6], ["a"] * 6, z[:6], 5.0)
    assert np.array_equal(together[:6], alone)
    order = rng.permutation(12)
    shuffled = smooth_along_z(maps[order], list(studies[order]), z[order], 5.0)
    assert shuffled == pytest.approx(together[order], abs=1e-6)


def test_the_place_in_the_stack_has_no_part_in_it() -> None:
    """A study that begins elsewhere, or is stored from the feet up, gives the same maps."""
    values, z = np.linspace(0, 1, 8) ** 2, np.arange(8) * 2.5
    plain = smoothed(values, z, 4.0)
    assert smoothed(values, z - 700, 4.0) == pytest.approx(plain)
    assert smoothed(values[::-1].copy(), z[::-1].copy(), 4.0)[::-1] == pytest.approx(plain)


def test_zero_changes_no_bit() -> None:
    maps = np.random.default_rng(0).normal(size=(3, 4, 4)).astype(np.float32)
    assert np.array_equal(smooth_along_z(maps, ["a"] * 3, np.zeros(3), 0.0), maps)


def slice_row(slice_id: str, z_mm: float) -> SliceRow:
    return SliceRow(slice_id, "p_s", "p", "GE", 0, z_mm, 0.5, 0.0, 0, "test", "")


def test_positions_come_by_name_from_slices_csv(tmp_path: Path) -> None:
    path = tmp_path / "slices.csv"
    write_table(path, SliceRow, [slice_row("a", -7.5), slice_row("b", 2.0), slice_row("c", 9.0)])
    rows = [image_row(slice_id="c"), image_row(slice_id="a")]
    assert z_positions_mm(path, rows).tolist() == [9.0, -7.5]
    with pytest.raises(DatasetError, match=r"lacks 1 of 1 slices of index.csv, the first is d"):
        z_positions_mm(path, [image_row(slice_id="d")])
    with pytest.raises(DatasetError, match=r"not found. Run `dvc repro split`"):
        z_positions_mm(tmp_path / "none.csv", rows)


def test_scores_that_are_no_function_of_the_map_are_known() -> None:
    """They are smoothed alike, since no smoothed map gives them."""
    own = {"qfae", "ganomaly", "super_simple_net"}
    assert not any(scores_its_maps(class_of(name)) for name in own)
    assert all(scores_its_maps(class_of(name)) for name in ("patchcore", "cmad", "hdhkd"))


@pytest.mark.parametrize("name", preset_names(PRESETS))
def test_papers_and_pictures_look_at_each_slice_on_its_own(name: str) -> None:
    alone = name.startswith("paper-") or name == "pictures"
    params = parse_params(preset_content(name, PRESETS), PRESETS / f"{name}.yaml")
    assert (params.score.z_sigma_mm == 0) is alone
