"""Learning rates over time, and what the two optimisers do with weight decay."""

import pytest
import torch
from torch import nn

from petct_uad.training.loop.optimisers import make_optimiser, make_rates
from tests.samples import schedule

SCHEDULE = schedule(
    iterations=100,
    batch_size=1,
    beta1=0.5,
    beta2=0.9,
    weight_decay=0.1,
    final_learning_rate=1e-4,
)


def rates(**changes: object) -> list[float]:
    """The rate of each iteration."""
    schedule = SCHEDULE.model_copy(update=changes)
    optimiser = make_optimiser([nn.Parameter(torch.zeros(1))], schedule)
    shape, found = make_rates(optimiser, schedule), []
    for _ in range(schedule.iterations):
        found.append(float(optimiser.param_groups[0]["lr"]))
        optimiser.step()
        shape.step()
    return found


def test_constant_rate_stays() -> None:
    assert set(rates()) == {1e-3}


def test_step_falls_to_the_final_rate_for_the_last_20th() -> None:
    found = rates(decay="step")
    assert found[:95] == [1e-3] * 95
    assert found[95:] == pytest.approx([1e-4] * 5)


def test_cosine_rises_from_zero_then_falls_to_the_final_rate() -> None:
    found = rates(decay="cosine", warmup_iterations=11)
    assert found[:11] == pytest.approx([1e-4 * i for i in range(11)])
    assert found[11] == pytest.approx(1e-3)
    assert found[11:] == sorted(found[11:], reverse=True)
    middle = 11 + 89 // 2
    assert (found[middle] + found[middle + 1]) / 2 == pytest.approx(5.5e-4)
    assert found[-1] == pytest.approx(1e-4, rel=0.01)


def test_one_cycle_peaks_at_the_rate_and_ends_at_the_final_one() -> None:
    found = rates(decay="one_cycle")
    assert found[0] == pytest.approx(1e-3 / 25)
    assert max(found) == pytest.approx(1e-3)
    assert 25 <= found.index(max(found)) <= 30
    assert found[-1] == pytest.approx(1e-4)


def test_one_cycle_leaves_beta1_as_params_say() -> None:
    schedule = SCHEDULE.model_copy(update={"decay": "one_cycle"})
    optimiser = make_optimiser([nn.Parameter(torch.zeros(1))], schedule)
    make_rates(optimiser, schedule)
    assert optimiser.param_groups[0]["betas"] == (0.5, 0.9)


@pytest.mark.parametrize("decay", ["cosine", "step", "one_cycle", "constant"])
@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_a_schedule_of_any_length_runs(decay: str, iterations: int) -> None:
    assert len(rates(decay=decay, iterations=iterations, warmup_iterations=2)) == iterations


def test_weight_decay_is_l2_in_adam_and_decoupled_in_stable_adamw() -> None:
    moved = {}
    for name in ("adam", "stable_adamw"):
        weight = nn.Parameter(torch.full((1,), 2.0))
        schedule = SCHEDULE.model_copy(update={"optimiser": name})
        optimiser = make_optimiser([weight], schedule)
        weight.grad = torch.zeros(1)
        optimiser.step()
        moved[name] = 2.0 - float(weight.detach())
    # Adam takes decay for a gradient, and its first step is as long as the rate.
    assert moved["adam"] == pytest.approx(1e-3, rel=1e-3)
    assert moved["stable_adamw"] == pytest.approx(2.0 * 1e-3 * 0.1, rel=1e-3)
