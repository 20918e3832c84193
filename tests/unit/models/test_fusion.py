"""Two maps become one on the scale that validation normals give each."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from petct_uad.models.common.fusion import MapFusion
from petct_uad.models.common.params import Fusion

HOW: tuple[Fusion, ...] = get_args(Fusion)
SIDE = 16


def drawn(count: int = 40, seed: int = 0) -> Tensor:
    """Normal and exponential maps, (2, count, S, S), in units of their own."""
    rng = np.random.default_rng(seed)
    shape = (count, SIDE, SIDE)
    maps = [5 + 2 * rng.normal(size=shape), 1000 * rng.exponential(size=shape)]
    return torch.from_numpy(np.stack(maps).astype(np.float32))


def fitted(how: Fusion, maps: Tensor) -> MapFusion:
    fusion = MapFusion(how, len(maps))
    fusion.fit(torch.split(maps, 16, dim=1))
    return fusion


def in_units(maps: Tensor) -> Tensor:
    mean, spread = maps.mean((1, 2, 3), keepdim=True), maps.std((1, 2, 3), keepdim=True)
    return (maps - mean) / spread


def with_value(normals: Tensor, member: int, value: float) -> Tensor:
    """One slice, average everywhere but at one pixel of one map."""
    maps = normals.mean((1, 2, 3), keepdim=True).repeat(1, 1, SIDE, SIDE)
    maps[member, 0, 3, 4] = value
    return maps


def test_sum_and_max_are_of_maps_in_units_of_their_spread_on_normals() -> None:
    normals = drawn()
    units = in_units(normals)
    for how, expected in (("sum", units.sum(0)), ("max", units.amax(0))):
        torch.testing.assert_close(fitted(how, normals)(normals), expected, atol=1e-3, rtol=1e-3)  # type: ignore[arg-type]


def test_peak_is_0_at_the_normals_mean_and_1_at_the_highest_pixel_of_the_middle_one() -> None:
    normals = drawn(count=41)
    middle = normals.flatten(2).amax(2).median(1).values
    for member, value in enumerate(middle):
        found = fitted("peak", normals)(with_value(normals, member, float(value)))
        assert float(found.amax()) == pytest.approx(1, abs=1e-4)
        assert float(found.median()) == pytest.approx(0, abs=1e-4)


def test_peak_gives_less_to_the_map_whose_normals_have_the_higher_peaks() -> None:
    """Two maps of one mean and one spread, of which the second has the heavier tail."""
    normals = drawn(count=400)
    normals[1] = normals[1] * 2e-3 + 3
    seen = normals.mean((1, 2, 3), keepdim=True).repeat(1, 1, SIDE, SIDE) + 6
    assert (fitted("peak", normals).parts(seen)[0] > 0).all()


def test_raw_sum_adds_maps_as_they_are() -> None:
    normals = drawn()
    torch.testing.assert_close(fitted("raw_sum", normals)(normals), normals.sum(0))


def test_min_p_is_the_smaller_empirical_tail_probability_of_the_normals() -> None:
    normals, seen = drawn(), drawn(count=3, seed=1)
    found = fitted("min_p", normals)(seen)
    shares = []
    for member, x in zip(normals, seen, strict=True):
        ranked = np.sort(member.numpy().ravel())
        at_least = len(ranked) - np.searchsorted(ranked, x.numpy())
        shares.append((at_least + 1) / (len(ranked) + 1))
    expected = -np.log(np.minimum(*shares))
    within = expected < 7  # a handful of pixels make the tail beyond: it is coarse there
    assert np.abs(found.numpy() - expected)[within].max() < 0.05
    assert np.abs(found.numpy() / expected - 1)[~within].max() < 0.2


def test_min_p_goes_on_beyond_the_largest_normal_as_an_exponential() -> None:
    """Of two values that no normal has, the larger is the rarer."""
    normals = drawn(count=400)
    fusion = fitted("min_p", normals)
    largest = float(normals[1].amax())
    found = [float(fusion(with_value(normals, 1, largest + x)).amax()) for x in (0, 2000, 4000)]
    assert found[0] == pytest.approx(np.log(normals[1].numel() / 2), rel=0.02)
    assert np.diff(found) == pytest.approx([2, 2], rel=0.3)  # 1000 is its mean


@pytest.mark.parametrize("how", ["max", "sum", "peak", "min_p"])
@pytest.mark.parametrize("member", [0, 1])
def test_what_one_modality_alone_sees_is_the_hottest_pixel(how: Fusion, member: int) -> None:
    normals = drawn()
    value = float(normals[member].amax() + 3 * normals[member].std())
    fused = fitted(how, normals)(with_value(normals, member, value))
    assert int(fused.argmax()) == 3 * SIDE + 4


@pytest.mark.parametrize("how", ["max", "peak", "min_p"])
def test_one_modality_cannot_hide_what_the_other_sees(how: Fusion) -> None:
    normals = drawn()
    fusion = fitted(how, normals)
    seen = with_value(normals, 0, 15.0)
    hidden = seen.clone()
    hidden[1] = normals[1].amin()
    assert float(fusion(hidden).amax()) == pytest.approx(float(fusion(seen).amax()))
    summed = fitted("sum", normals)
    assert float(summed(hidden).amax()) < float(summed(seen).amax()) - 0.5


@pytest.mark.parametrize("how", ["max", "sum", "peak", "min_p"])
def test_a_modalitys_units_do_not_count(how: Fusion) -> None:
    normals, seen = drawn(), drawn(count=3, seed=1)
    scale = torch.tensor([1e-4, 3.0])[:, None, None, None]
    one, other = fitted(how, normals)(seen), fitted(how, normals * scale)(seen * scale)
    torch.testing.assert_close(one, other, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("how", HOW)
def test_fusion_keeps_the_order_of_a_single_map(how: Fusion) -> None:
    normals = drawn()[1:]
    seen = torch.linspace(0.1, 20_000, SIDE * SIDE).view(1, 1, SIDE, SIDE)
    fused = fitted(how, normals)(seen).flatten()
    assert stats.spearmanr(seen.flatten(), fused).statistic == pytest.approx(1)
    assert (fused.diff() >= 0).all()


@pytest.mark.parametrize("how", HOW)
def test_the_order_and_size_of_batches_of_normals_do_not_count(how: Fusion) -> None:
    normals, seen = drawn(), drawn(count=3, seed=1)
    one, other = MapFusion(how, 2), MapFusion(how, 2)
    one.fit(torch.split(normals, 7, dim=1))
    other.fit(torch.split(normals.flip(1), 40, dim=1))
    torch.testing.assert_close(one(seen), other(seen), atol=1e-4, rtol=1e-5)
    for name in ("tail_values", "tail_surprise", "tail_excess"):
        assert torch.equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("value", [0.0, -3.5, 1e-20])
def test_constant_normals_give_finite_maps(how: Fusion, value: float) -> None:
    fusion = fitted(how, torch.full((2, 3, SIDE, SIDE), value))
    assert fusion(drawn(count=2)).isfinite().all()


@pytest.mark.parametrize("how", HOW)
def test_state_holds_all_that_was_learnt(how: Fusion) -> None:
    normals = drawn()
    fusion, other = fitted(how, normals), MapFusion(how, 2)
    other.load_state_dict(fusion.state_dict())
    assert torch.equal(fusion(normals), other(normals))


@pytest.mark.parametrize("how", HOW)
def test_what_the_modalities_give_adds_up_to_the_map(how: Fusion) -> None:
    normals, seen = drawn(), drawn(count=3, seed=1)
    fusion = fitted(how, normals)
    parts = fusion.parts(seen)
    assert parts.shape == seen.shape
    torch.testing.assert_close(parts.sum(0), fusion(seen))


@pytest.mark.parametrize("how", ["max", "peak", "min_p"])
@pytest.mark.parametrize("member", [0, 1])
def test_the_larger_of_two_gives_all_of_a_pixel(how: Fusion, member: int) -> None:
    normals = drawn()
    value = float(normals[member].amax() + 3 * normals[member].std())
    parts = fitted(how, normals).parts(with_value(normals, member, value))[:, 0, 3, 4]
    assert parts[member] > 1
    assert parts[1 - member] == 0


def test_a_sum_is_of_what_each_shows_even_against_the_other() -> None:
    normals = drawn()
    seen = with_value(normals, 0, 15.0)
    seen[1] = normals[1].amin()
    pet, ct = fitted("sum", normals).parts(seen)[:, 0, 3, 4]
    assert pet == pytest.approx(5, abs=0.1)  # (15 - 5) / 2
    assert ct == pytest.approx(-1, abs=0.1)
