"""Learning rates over time, and what the two optimisers do with weight decay."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

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


SHAPES = [(), (7,), (33, 5), (16, 3, 3, 3), (2, 4, 16, 48)]


def test_stable_adamw_is_anomalibs_to_the_bit() -> None:
    from anomalib.models.image.dinomaly.components import StableAdamW

    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    theirs = [nn.Parameter(weight.detach().clone()) for weight in ours]
    plan = SCHEDULE.model_copy(update={"optimiser": "stable_adamw", "adam_eps": 1e-10})
    optimiser = make_optimiser(ours, plan)
    asked = {"betas": (plan.beta1, plan.beta2), "eps": plan.adam_eps, "amsgrad": True}
    oracle = StableAdamW(theirs, lr=plan.learning_rate, weight_decay=plan.weight_decay, **asked)
    for step in range(12):
        for one in (optimiser, oracle):
            one.param_groups[0]["lr"] = 1e-3 * (1 + step % 3)
        for place, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            # Some weights have no gradient at times, some gradients exceed what is expected.
            absent, size = place == 2 and step % 4 == 1, 10 ** float(torch.randn(()))
            mine.grad = other.grad = None if absent else size * torch.randn_like(mine)
        optimiser.step()
        oracle.step()
        assert all(map(torch.equal, ours, theirs))


def test_a_step_of_stable_adamw_takes_as_many_operations_for_any_number_of_tensors() -> None:
    class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
        names: ClassVar[list[str]] = []

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
        ) -> Any:
            self.names.append(str(function))
            return function(*args, **(kwargs or {}))

    def operations(count: int) -> list[str]:
        weights = [nn.Parameter(torch.ones(3)) for _ in range(count)]
        optimiser = make_optimiser(
            weights, SCHEDULE.model_copy(update={"optimiser": "stable_adamw"})
        )
        for weight in weights:
            weight.grad = torch.ones(3)
        optimiser.step()
        Operations.names.clear()
        with Operations():  # type: ignore[no-untyped-call]
            optimiser.step()
        return list(Operations.names)

    assert operations(2) == operations(50)
    assert len(operations(2)) < 20
    assert not any("_local_scalar_dense" in name for name in operations(2))
