from itertools import pairwise

import pytest
import torch
from anomalib.models.components import KCenterGreedy
from torch import Tensor
from torch.nn import functional as F

from petct_uad.core.params.base import Modality
from petct_uad.models.common.batch import Batch
from petct_uad.models.common.interface import FitPoint
from petct_uad.models.common.maps import smooth_maps
from petct_uad.models.patchcore import patchcore
from petct_uad.models.patchcore.params import PatchcoreParams
from petct_uad.models.patchcore.patchcore import Patchcore, k_center_greedy
from petct_uad.teachers.cnn import CnnTeacher
from tests.unit.models.batches import first, noise, only

SIDE = 64
PARAMS = PatchcoreParams(
    strides=(8, 16),
    enlarge=1,
    max_patches=500,
    coreset_fraction=0.1,
    neighbours=9,
    map_sigma_px=4.0,
    batch_size=8,
)


def fitted(
    teacher: CnnTeacher, normals: Batch, modality: Modality = "pet"
) -> tuple[Patchcore, list[FitPoint]]:
    torch.manual_seed(0)
    model = Patchcore(PARAMS, teacher, modality, SIDE)
    return model, model.fit([normals], [normals])


def test_patchcore_finds_a_pasted_blob(
    teacher: CnnTeacher, normals: Batch, unseen: Batch, abnormal: Batch
) -> None:
    model, _ = fitted(teacher, normals)
    clean, changed = model.anomaly_map(unseen), model.anomaly_map(abnormal)
    assert (model.score(changed) > model.score(clean)).all()
    peak = changed.mean(0).argmax()
    assert 24 <= peak // SIDE < 44
    assert 32 <= peak % SIDE < 52


def test_memory_bank_holds_the_fraction_of_the_subsample(
    teacher: CnnTeacher, normals: Batch
) -> None:
    model, _ = fitted(teacher, normals)
    assert model.memory_bank.shape == (50, 40 + 112)


def test_a_patch_is_the_mean_of_three_by_three_features_around_it(
    teacher: CnnTeacher, normals: Batch
) -> None:
    """A bank of all patches of one slice is the slice's pooled features, in any order."""
    one = first(normals)
    whole = {"strides": (8,), "coreset_fraction": 1.0, "max_patches": 10_000}
    model = Patchcore(PARAMS.model_copy(update=whole), teacher, "pet", SIDE)
    model.fit([one], [one])
    features = torch.nn.functional.pad(teacher.features(one.pet)[8], [1] * 4)  # of zeros
    pooled = features.unfold(2, 3, 1).unfold(3, 3, 1).mean((-1, -2))
    expected = pooled[0].flatten(1).T
    away = (model.memory_bank[:, None] - expected).abs().amax(2)
    assert len(model.memory_bank) == len(expected) == (SIDE // 8) ** 2
    assert away.amin(0).max() < 1e-4
    assert away.amin(1).max() < 1e-4


def test_a_teacher_that_sees_slices_twice_as_large_gives_four_times_the_patches(
    teacher: CnnTeacher,
) -> None:
    """The bank of the enlarged slice is the same, and a map is as large as its slice."""
    one = only(first(noise(1, SIDE)), "pet")
    enlarged = F.interpolate(one.pet, scale_factor=2, mode="bilinear")
    large = Batch(enlarged, torch.zeros_like(enlarged), one.slice_ids)
    whole = {"strides": (8, 16), "coreset_fraction": 1.0, "max_patches": 10_000}
    params = PARAMS.model_copy(update=whole)
    twice = Patchcore(params.model_copy(update={"enlarge": 2}), teacher, "pet", SIDE)
    as_it_is = Patchcore(params, teacher, "pet", 2 * SIDE)
    for model, batch in ((twice, one), (as_it_is, large)):
        torch.manual_seed(0)
        model.fit([batch], [batch])
    assert len(twice.memory_bank) == (2 * SIDE // 8) ** 2
    torch.testing.assert_close(twice.memory_bank, as_it_is.memory_bank)
    torch.testing.assert_close(twice.described(one), as_it_is.described(large))
    assert twice.detect(one)[0].shape == (1, SIDE, SIDE)


def test_the_bank_is_drawn_from_first_and_last_slices_alike(
    teacher: CnnTeacher, normals: Batch
) -> None:
    """Four slices, one a batch, of 64 patches each: 128 of all are kept."""
    slices = [only(first(noise(1, SIDE, seed)), "pet") for seed in range(4)]

    def bank(batches: list[Batch], count: int) -> Tensor:
        whole = {"strides": (8,), "coreset_fraction": 1.0, "max_patches": count}
        torch.manual_seed(0)
        model = Patchcore(PARAMS.model_copy(update=whole), teacher, "pet", SIDE)
        model.fit(batches, batches)
        return model.memory_bank

    drawn = bank(slices, 128)
    own = [bank([one], 128) for one in slices]
    near = torch.stack([(drawn[:, None] - x).abs().amax(2).amin(1) for x in own])
    shares = near.argmin(0).bincount(minlength=4)
    assert near.amin(0).max() < 1e-3
    assert len(drawn) == int(shares.sum()) == 128
    assert 20 <= int(shares.min()) <= int(shares.max()) <= 44


def test_coverage_only_improves_as_the_bank_grows(teacher: CnnTeacher, normals: Batch) -> None:
    _, points = fitted(teacher, normals)
    assert [p.size for p in points] == sorted({p.size for p in points})
    assert all(b.train <= a.train for a, b in pairwise(points))
    assert points[-1].size == 50


def test_same_seed_gives_the_same_bank(teacher: CnnTeacher, normals: Batch) -> None:
    banks = [fitted(teacher, normals)[0].memory_bank for _ in range(2)]
    assert torch.equal(*banks)


def test_patchcore_state_round_trip(teacher: CnnTeacher, normals: Batch, unseen: Batch) -> None:
    model, _ = fitted(teacher, normals)
    other = Patchcore(PARAMS, teacher, "pet", SIDE)
    other.load_student_state(model.student_state())
    assert torch.equal(model.anomaly_map(unseen), other.anomaly_map(unseen))


def test_greedy_search_chooses_what_anomalibs_does() -> None:
    points = torch.randn(600, 7, generator=torch.Generator().manual_seed(1)) + 5
    torch.manual_seed(0)
    found = k_center_greedy(points, 40)
    torch.manual_seed(0)
    # Given three dimensions, anomalib's does not project.
    expected = KCenterGreedy(points[:, :, None], 40.5 / 600).select_coreset_idxs()
    assert found.tolist() == expected


def test_greedy_search_takes_no_point_twice() -> None:
    points = torch.ones(20, 3).cumsum(0) // 5  # five distinct places
    torch.manual_seed(0)
    assert sorted(k_center_greedy(points, 20).tolist()) == list(range(20))


@pytest.mark.parametrize("neighbours", [1, 5])
def test_map_is_the_weighted_distance_of_eq_7(
    teacher: CnnTeacher, normals: Batch, unseen: Batch, neighbours: int
) -> None:
    params = PARAMS.model_copy(update={"neighbours": neighbours, "map_sigma_px": 0.0})
    torch.manual_seed(0)
    model = Patchcore(params, teacher, "pet", SIDE)
    model.fit([normals], [normals])
    bank = model.memory_bank
    patches, side = model._embed(unseen)
    away = torch.cdist(patches, bank)
    nearest, index = away.min(1)
    around = torch.cdist(bank, bank).topk(neighbours, largest=False).indices[index]
    weights = away.gather(1, around).softmax(1)[:, 0]
    expected = nearest * (1 - weights) if neighbours > 1 else nearest
    expected = smooth_maps(expected.view(-1, side, side), SIDE, sigma_px=0)
    torch.testing.assert_close(model.anomaly_map(unseen), expected, rtol=1e-3, atol=1e-3)


def test_a_map_does_not_depend_on_how_many_patches_are_compared_at_once(
    teacher: CnnTeacher, normals: Batch, unseen: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = fitted(teacher, normals)
    whole = model.anomaly_map(unseen)
    monkeypatch.setattr(patchcore, "_CHUNK_DISTANCES", 7 * len(model.memory_bank))
    torch.testing.assert_close(model.anomaly_map(unseen), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [32, 80, 112])
def test_any_side_gives_finite_maps_of_that_side(teacher: CnnTeacher, side: int) -> None:
    model = Patchcore(PARAMS, teacher, "pet", side)
    model.fit([noise(4, side)], [noise(2, side)])
    maps = model.anomaly_map(noise(3, side, seed=1))
    assert maps.shape == (3, side, side)
    assert maps.isfinite().all()
