"""One Gaussian of pooled features: its distances are those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf

from petct_uad.core.errors import TrainingError
from petct_uad.core.params.base import Modality
from petct_uad.models.common.batch import Batch
from petct_uad.models.mahalanobis.mahalanobis import Mahalanobis
from petct_uad.models.mahalanobis.params import MahalanobisParams
from petct_uad.teachers.cnn import CnnTeacher
from tests.unit.models.batches import answers_alike, first, sees_both

SIDE = 64
PARAMS = MahalanobisParams(strides=(8, 16), map_sigma_px=4.0, batch_size=4)


def fitted(teacher: CnnTeacher, normals: Batch, modality: Modality = "pet") -> Mahalanobis:
    model = Mahalanobis(PARAMS, teacher, modality, SIDE)
    model.fit([normals], [normals])
    return model.eval()


@pytest.fixture(scope="module")
def model(teacher: CnnTeacher, normals: Batch) -> Mahalanobis:
    return fitted(teacher, normals)


def pooled(teacher: CnnTeacher, batch: Batch) -> np.ndarray:
    features = teacher.features(batch.pet, 16)
    means = [features[stride].mean((2, 3)) for stride in (8, 16)]
    return torch.cat(means, 1).double().numpy()


def test_scores_are_scikit_learns_distances(
    model: Mahalanobis, teacher: CnnTeacher, normals: Batch, unseen: Batch
) -> None:
    gaussian = LedoitWolf().fit(pooled(teacher, normals))
    expected = np.sqrt(gaussian.mahalanobis(pooled(teacher, unseen)))
    assert model.detect(unseen)[1].numpy() == pytest.approx(expected, rel=1e-3)


def test_slices_with_what_no_normal_one_has_score_higher(
    model: Mahalanobis, unseen: Batch, abnormal: Batch
) -> None:
    assert (model.detect(abnormal)[1] > model.detect(unseen)[1]).all()


def test_the_map_says_where(model: Mahalanobis, unseen: Batch, abnormal: Batch) -> None:
    rise = (model.anomaly_map(abnormal) - model.anomaly_map(unseen)).mean(0)
    hottest = divmod(int(rise.argmax()), SIDE)
    assert 24 <= hottest[0] < 44
    assert 32 <= hottest[1] < 52


def test_a_patch_is_measured_under_the_gaussian_of_whole_slices(
    model: Mahalanobis, unseen: Batch
) -> None:
    """Of a slice that is the same everywhere, every place is as far away as the slice."""
    flat = Batch(
        torch.full_like(unseen.pet[:1], 0.4), unseen.ct[:1], unseen.slice_ids[:1]
    )  # away from the border, where the network's padding shows
    features = model._embed(flat)[:, :, 3:5, 3:5]
    whole = float(model._distances(features.mean((2, 3))))
    places = model._distances(features.permute(0, 2, 3, 1))
    assert places.numpy() == pytest.approx(whole, rel=0.05)


def test_a_model_of_both_sees_both(teacher: CnnTeacher, normals: Batch, unseen: Batch) -> None:
    both = fitted(teacher, normals, "petct")
    assert both.mean.shape == (2 * (40 + 112),)
    assert sees_both(both, unseen)


def test_fit_tells_how_far_both_splits_are(
    teacher: CnnTeacher, normals: Batch, abnormal: Batch
) -> None:
    model = Mahalanobis(PARAMS, teacher, "pet", SIDE)
    (point,) = model.fit([first(normals, 8), first(normals, 8)], [abnormal])
    assert point.size == 16
    assert 0 < point.train < point.held_out


def test_what_was_saved_is_the_whole_model(
    model: Mahalanobis, teacher: CnnTeacher, unseen: Batch
) -> None:
    again = Mahalanobis(PARAMS, teacher, "pet", SIDE)
    again.load_student_state(model.student_state())
    assert answers_alike(model, again.eval(), unseen)


def test_a_single_slice_has_no_covariance_and_is_refused(
    teacher: CnnTeacher, normals: Batch
) -> None:
    model = Mahalanobis(PARAMS, teacher, "pet", SIDE)
    with pytest.raises(TrainingError, match="1 normal slices to fit, expected at least 2"):
        model.fit([first(normals)], [normals])
