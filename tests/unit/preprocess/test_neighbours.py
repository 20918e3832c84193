"""A slice is seen between the farthest slices of its study that lie within reach."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from petct_uad.core.errors import ParamsError
from petct_uad.core.files import sha256_file
from petct_uad.models.common.batch import Batch, at_side
from petct_uad.models.common.interface import images_in_channels, images_of
from petct_uad.models.mkd.mkd import Mkd
from petct_uad.models.patchcore.patchcore import Patchcore
from petct_uad.models.twin.twin import Twin
from petct_uad.preprocess.neighbours import neighbours_within
from petct_uad.schema import parse_params
from petct_uad.slices.store import SliceStore, read_shard, write_index
from petct_uad.slices.tables import shard_path
from tests.unit.preprocess.test_shards import run

UNEVEN = np.array([0.0, 3.0, 4.0, 9.0, 20.0, 22.5])
ROOT = Path(__file__).resolve().parents[3]


def test_neighbours_are_the_farthest_within_reach_by_millimetres_not_by_number() -> None:
    found = neighbours_within(UNEVEN, 5.0)
    assert found.below.tolist() == [0, 0, 0, 2, 4, 4]
    assert found.above.tolist() == [2, 2, 3, 3, 5, 5]


def test_a_slice_at_an_end_or_in_a_gap_is_its_own_neighbour() -> None:
    found = neighbours_within(UNEVEN, 2.0)
    assert found.below.tolist() == [0, 1, 1, 3, 4, 5]
    assert found.above.tolist() == [0, 2, 2, 3, 4, 5]


def test_no_neighbour_is_farther_than_asked_and_falling_places_swap_the_sides() -> None:
    z_mm = np.sort(np.random.default_rng(0).uniform(0, 200, 60))
    found = neighbours_within(z_mm, 6.0)
    places = np.arange(len(z_mm))
    assert (np.abs(z_mm[found.below] - z_mm) <= 6.001).all()
    assert (z_mm[found.above] - z_mm <= 6.001).all()
    assert (found.below <= places).all()
    assert (found.above >= places).all()
    falling = neighbours_within(-z_mm, 6.0)
    assert falling.below.tolist() == found.above.tolist()
    assert falling.above.tolist() == found.below.tolist()


def test_shards_hold_the_slices_beside_each_and_say_so_in_their_hash(tmp_path: Path) -> None:
    rows, out = run(tmp_path, neighbours_mm=5.0)  # four slices, 5 mm apart
    shard = read_shard(shard_path(out, "S"))
    assert shard.ct_beside is not None
    assert shard.pet_beside is not None
    for plane, beside in ((shard.ct, shard.ct_beside), (shard.pet, shard.pet_beside)):
        assert np.array_equal(beside[:, 0], plane[[0, 0, 1, 2]])
        assert np.array_equal(beside[:, 1], plane[[1, 2, 3, 3]])
    assert rows[1].sha256 == shard.sha256_of(1)
    assert rows[1].sha256 != replace(shard, ct_beside=None, pet_beside=None).sha256_of(1)


def test_by_default_a_shard_holds_nothing_beside_its_slices(tmp_path: Path) -> None:
    _, plain = run(tmp_path / "plain")
    _, narrow = run(tmp_path / "narrow", neighbours_mm=4.0)  # narrower than the spacing
    names = {"ct", "pet", "lesion", "body"}
    assert load_file(shard_path(plain, "S")).keys() == names
    seen = load_file(shard_path(narrow, "S"))
    assert all(np.array_equal(seen["ct_beside"][:, side], seen["ct"]) for side in (0, 1))
    assert sha256_file(shard_path(plain, "S")) != sha256_file(shard_path(narrow, "S"))


@pytest.fixture
def store(tmp_path: Path) -> SliceStore:
    rows, out = run(tmp_path, neighbours_mm=5.0)
    write_index(out, rows)
    return SliceStore.open(out, "test")


def test_a_batch_has_three_channels_each_slice_in_the_middle(store: SliceStore) -> None:
    batch = Batch.of(store, [0, 2])
    pet, ct = images_in_channels(batch, "petct")
    alone = images_of(batch, "petct")
    for images, own, planes in ((pet, alone[0], store.pet), (ct, alone[1], store.ct)):
        assert images.shape == (2, 3, 64, 64)
        assert torch.equal(images[:, 1:2], own)
        assert np.array_equal(images[1, 0].numpy(), planes[[1]][0].astype(np.float32))
        assert np.array_equal(images[1, 2].numpy(), planes[[3]][0].astype(np.float32))
    smaller = Batch.of(at_side(store, 32), [2])
    assert images_in_channels(smaller, "pet")[0].shape == (1, 3, 32, 32)


def test_without_neighbours_a_slice_stays_grey(store: SliceStore) -> None:
    plain = replace(store, ct_beside=None, pet_beside=None)
    (images,) = images_in_channels(Batch.of(plain, [0]), "ct")
    assert images.shape == (1, 1, 64, 64)


def test_models_on_a_frozen_network_see_neighbours_and_those_with_one_channel_do_not() -> None:
    assert Patchcore.sees_channels
    assert not Mkd.sees_channels
    assert not Twin.sees_channels


def test_a_reach_that_passes_the_guard_zone_is_refused() -> None:
    text = (ROOT / "params.yaml").read_text()
    wide = text.replace("neighbours_mm: 0.0", "neighbours_mm: 6.0")
    with pytest.raises(ParamsError, match=r"at most split\.guard_mm = 5"):
        parse_params(wide, Path("params.yaml"))
