import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from scipy.stats import norm

from petct_uad.core.params.base import VALIDATED, Modality
from petct_uad.models.benchmark import BenchmarkEntry
from petct_uad.models.common.batch import Batch
from petct_uad.models.twin.params import TwinParams
from petct_uad.models.twin.twin import Twin
from petct_uad.teachers.cnn import CnnTeacher
from tests.samples import schedule
from tests.unit.models.batches import SQUARE, descend, first, hottest_in_the_square, noise

pytestmark = pytest.mark.slow
SIDE = 64


def section(**changes: Any) -> TwinParams:
    values: dict[str, Any] = {
        "pet_shown": "nothing",
        "blur_px": 16.0,
        "explain_ct": True,
        "block_px": 64,
        "width": 8,
        "least_spread": 0.02,
        "deviations": "more",
        "fusion": "max",
        "score": "max",
        "score_top_fraction": 0.01,
        "map_sigma_px": 4.0,
        "schedule": schedule(),
    }
    return TwinParams.model_validate(values | changes)


def build(teacher: CnnTeacher, side: int = SIDE, **changes: Any) -> Twin:
    torch.manual_seed(0)
    return Twin(section(**changes), teacher, "petct", side)


@pytest.fixture(scope="module")
def trained(teacher: CnnTeacher, normals: Batch) -> Twin:
    model = build(teacher)
    descend(model, normals, steps=60, rate=1e-2)
    model.calibrate([normals])
    return model


def with_blob(batch: Batch, value: float, modality: Modality) -> Batch:
    """The same slices with a square of this value in one modality."""
    images = {"pet": batch.pet.clone(), "ct": batch.ct.clone()}
    images[modality][..., *SQUARE] = value
    return Batch(**images, slice_ids=batch.slice_ids)


@pytest.mark.parametrize("explain_ct", [False, True])
def test_loss_falls(teacher: CnnTeacher, normals: Batch, explain_ct: bool) -> None:
    losses = descend(build(teacher, explain_ct=explain_ct), normals, steps=40, rate=1e-2)
    assert losses[-1] < losses[0] - 2 * (1 + explain_ct)


@pytest.mark.parametrize("modality", ["pet", "ct"])
def test_what_no_normal_slice_has_is_hottest(
    trained: Twin, unseen: Batch, modality: Modality
) -> None:
    changed = trained.anomaly_map(with_blob(unseen, 1.0, modality))
    assert hottest_in_the_square(changed, reach_px=4)


def test_uptake_that_this_anatomy_does_not_have_raises_the_score(
    trained: Twin, unseen: Batch
) -> None:
    clean = trained.anomaly_map(unseen)
    changed = trained.anomaly_map(with_blob(unseen, 1.0, "pet"))
    assert (trained.score(changed) > trained.score(clean)).all()


def test_what_is_expected_of_the_pet_is_blind_to_it(trained: Twin, unseen: Batch) -> None:
    pet, ct = trained.prepare(unseen)
    expected = trained.expected_pet(pet, ct)
    assert torch.equal(trained.expected_pet(torch.zeros_like(pet), ct).mean, expected.mean)
    assert not torch.equal(trained.expected_pet(pet, torch.zeros_like(ct)).mean, expected.mean)


def test_a_blurred_pet_is_seen_and_a_sharp_one_is_not(teacher: CnnTeacher, unseen: Batch) -> None:
    model = build(teacher, pet_shown="blurred", blur_px=64.0).eval()
    pet, ct = model.prepare(unseen)
    dot = torch.zeros_like(pet)
    dot[..., 16, 16] = 1.0
    half, other = model.expected_pet(pet / 2, ct).mean, model.expected_pet(pet, ct).mean
    assert (half - other).abs().amax() > 10 * (
        model.expected_pet(dot * 1e-3, ct).mean - model.expected_pet(dot * 0, ct).mean
    ).abs().amax()


def test_what_is_expected_of_a_place_of_ct_is_blind_to_its_block(
    trained: Twin, unseen: Batch
) -> None:
    _, ct = trained.prepare(unseen)
    assert trained.density is not None
    hidden = trained.hidden(ct, 0, 0)
    changed = ct + 0.5 * hidden
    inside = hidden.expand_as(ct) == 1
    expected = trained.expected_ct(trained.density, ct).mean
    assert torch.equal(trained.expected_ct(trained.density, changed).mean[inside], expected[inside])


@pytest.mark.parametrize("block_px", [4, 40, 64, 128])
def test_four_lattices_hide_every_place_once(teacher: CnnTeacher, block_px: int) -> None:
    model = build(teacher, block_px=block_px)
    _, ct = model.prepare(noise(1, SIDE))
    block = max(block_px * SIDE // 256 // 2, 1)
    shifts = [(down, right) for down in (0, block) for right in (0, block)]
    times = torch.stack([model.hidden(ct, *shift) for shift in shifts]).sum(0)
    assert torch.equal(times, torch.ones_like(times))


def test_the_loss_is_the_likelihood_of_a_gaussian(teacher: CnnTeacher, normals: Batch) -> None:
    model = build(teacher, explain_ct=False).eval()
    pet, ct = model.prepare(normals)
    expected = model.expected_pet(pet, ct)
    given = (x.detach().numpy() for x in (pet, expected.mean, expected.spread))
    likelihood = float(norm.logpdf(*given).mean())
    loss = float(model.loss(pet, ct).detach())
    assert loss == pytest.approx(-likelihood - 0.5 * math.log(2 * math.pi), rel=1e-5)


def test_no_prediction_is_surer_than_the_least_spread(teacher: CnnTeacher, normals: Batch) -> None:
    model = build(teacher, least_spread=0.3, explain_ct=False)
    descend(model, normals, steps=20, rate=1e-2)
    assert model.expected_pet(*model.prepare(normals)).spread.min() >= 0.3


def test_less_uptake_than_expected_counts_only_if_asked_for(
    teacher: CnnTeacher, normals: Batch, unseen: Batch
) -> None:
    cold = with_blob(unseen, 0.0, "pet")
    model = build(teacher, explain_ct=False)
    descend(model, normals, steps=60, rate=1e-2)
    assert not hottest_in_the_square(model.anomaly_map(cold), reach_px=4)
    of_both = build(teacher, explain_ct=False, deviations="both").eval()
    of_both.load_student_state(model.student_state())
    assert hottest_in_the_square(of_both.anomaly_map(cold), reach_px=4)


def test_calibrated_deviations_of_normals_have_no_mean_and_unit_spread(
    teacher: CnnTeacher, normals: Batch
) -> None:
    model = build(teacher, explain_ct=False).eval()
    model.calibrate([first(normals, 8), Batch(normals.pet[8:], normals.ct[8:], ("",) * 8)])
    maps = model.anomaly_map(normals)
    assert float(maps.mean()) == pytest.approx(0.0, abs=1e-3)
    assert float(maps.std(correction=0)) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("side", [32, 50, 96])
def test_maps_have_the_side_of_the_slices(teacher: CnnTeacher, side: int) -> None:
    model = build(teacher, side=side).eval()
    assert model.anomaly_map(noise(2, side)).shape == (2, side, side)


def test_a_trained_model_is_not_random(trained: Twin, unseen: Batch) -> None:
    assert torch.equal(trained.anomaly_map(unseen), trained.anomaly_map(unseen))
    prepared = trained.prepare(unseen)
    assert torch.equal(trained.loss(*prepared), trained.loss(*prepared))


def test_a_row_of_one_modality_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"twin has no pet or ct row, expected .*\[petct\]"):
        BenchmarkEntry(
            model="twin",
            modalities=("pet", "ct", "petct"),
            params="models.twin",
            teacher="teacher",
            after=VALIDATED,
        )
