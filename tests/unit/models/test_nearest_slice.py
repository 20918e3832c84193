"""The nearest normal slice: what is known is at distance zero, and its map is empty."""

from __future__ import annotations

import pytest
import torch

from petct_uad.core.errors import TrainingError
from petct_uad.core.params.base import Modality
from petct_uad.models.common.batch import Batch
from petct_uad.models.nearest_slice.nearest_slice import NearestSlice
from petct_uad.models.nearest_slice.params import NearestSliceParams
from petct_uad.teachers.cnn import CnnTeacher
from tests.unit.models.batches import answers_alike, first, hottest_in_the_square, sees_both

SIDE = 64
PARAMS = NearestSliceParams(side_px=16, map_sigma_px=4.0, batch_size=4)


def fitted(teacher: CnnTeacher, normals: Batch, modality: Modality = "pet") -> NearestSlice:
    model = NearestSlice(PARAMS, teacher, modality, SIDE)
    model.fit([normals], [normals])
    return model.eval()


def stored(batch: Batch) -> Batch:
    """The same slices as shards hold them, in float16."""
    return Batch(batch.pet.half().float(), batch.ct.half().float(), batch.slice_ids)


@pytest.fixture(scope="module")
def model(teacher: CnnTeacher, normals: Batch) -> NearestSlice:
    return fitted(teacher, stored(normals))


def test_a_slice_that_was_seen_is_its_own_nearest(model: NearestSlice, normals: Batch) -> None:
    maps, scores = model.detect(stored(normals))
    assert scores.numpy() == pytest.approx(0, abs=1e-3)
    assert not maps.any()


def test_slices_with_what_no_normal_one_has_score_higher(
    model: NearestSlice, unseen: Batch, abnormal: Batch
) -> None:
    assert (model.detect(abnormal)[1] > model.detect(unseen)[1]).all()


def test_what_no_normal_slice_has_is_hottest(model: NearestSlice, abnormal: Batch) -> None:
    assert hottest_in_the_square(model.anomaly_map(abnormal), reach_px=2)


def test_the_map_is_the_difference_to_the_nearest_slice_in_units_of_spread(
    teacher: CnnTeacher,
) -> None:
    levels = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 1, SIDE, SIDE)
    flat = Batch(levels, levels, ("dark", "bright"))
    model = fitted(teacher, flat)
    spread = float(levels.double().std())
    query = Batch(levels[:1] + 0.25, levels[:1], ("q",))
    maps, scores = model.detect(query)
    assert maps.numpy() == pytest.approx(0.25 / spread, rel=1e-4)
    assert float(scores) == pytest.approx(0.25 / spread, rel=1e-4)


def test_a_model_of_both_sees_both(teacher: CnnTeacher, normals: Batch, unseen: Batch) -> None:
    both = fitted(teacher, normals, "petct")
    assert sees_both(both, unseen)


def test_fit_tells_how_far_apart_the_normals_are(
    teacher: CnnTeacher, normals: Batch, abnormal: Batch
) -> None:
    model = NearestSlice(PARAMS, teacher, "pet", SIDE)
    (point,) = model.fit([normals], [abnormal])
    assert point.size == 16
    assert 0 < point.train < point.held_out


def test_what_was_saved_is_the_whole_model(
    model: NearestSlice, teacher: CnnTeacher, unseen: Batch
) -> None:
    again = NearestSlice(PARAMS, teacher, "pet", SIDE)
    again.load_student_state(model.student_state())
    assert answers_alike(model, again.eval(), unseen)


def test_a_single_slice_has_no_nearest_other_and_is_refused(
    teacher: CnnTeacher, normals: Batch
) -> None:
    model = NearestSlice(PARAMS, teacher, "pet", SIDE)
    with pytest.raises(TrainingError, match="1 normal slices to fit, expected at least 2"):
        model.fit([first(normals)], [normals])
