"""What a training asks of its device, counted on one that has no memory: torch's meta device.

A number that is read from a device makes the computer wait until all before it is done, and a
tensor that is sent makes it wait for the copy. A CPU shows neither, and a GPU is not at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from petct_uad.core.errors import TrainingError
from petct_uad.models.build import class_of
from petct_uad.models.common.batch import Batch
from petct_uad.models.common.interface import GradientModel
from petct_uad.models.common.params import GradientParams
from petct_uad.schema import load_params
from petct_uad.teachers.cnn import DEVICE_IMAGES
from petct_uad.training.loop.data import PreparedNormals
from petct_uad.training.loop.gradient import GradientTraining, TrainingSetup
from tests.samples import schedule, train_section
from tests.unit.training.test_gradient import CPU, Brightness, normals

META = torch.device("meta")


class Device(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what is read from the meta device, which then gives halves, and what is sent to it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.read = self.sent = self.operations = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        on_device = [x for x in given if x.is_meta]
        self.operations += bool(on_device)
        name, target = str(function), torch.device(kwargs.get("device") or META)
        if on_device and name == "aten._local_scalar_dense.default":
            self.read += 1
            return 0.5
        if on_device and name == "aten._to_copy.default" and target.type == "cpu":
            self.read += 1
            return torch.full(on_device[0].shape, 0.5)
        # A tensor of one number is part of the call to a kernel, any other is copied first.
        here = [x for x in given if not x.is_meta and x.dim()]
        found = function(*args, **kwargs)
        made = [x for x in tree_leaves(found) if isinstance(x, Tensor)]
        self.sent += bool(here) and any(x.is_meta for x in [*on_device, *made])
        return found


class Shade(Brightness):
    """Learns a mean without looking at the numbers."""

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        return (batch.pet,)

    def loss(self, *prepared: Tensor) -> Tensor:
        return (prepared[0].mean((1, 2, 3)) - self.guess).square().mean()


@pytest.fixture
def no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device knows none."""
    for module in ("gradient", "data"):
        name = f"petct_uad.training.loop.{module}.autocast"
        monkeypatch.setattr(name, lambda *_: nullcontext())


def counted(iterations: int, **setup: Any) -> Device:
    """A training that looks at its two validation batches at the end only."""
    device = Device()
    train = train_section(validate_every=1000)
    plan = schedule(
        iterations=iterations, batch_size=2, gradient_clip=1.0, optimiser="stable_adamw"
    )
    data = (normals(40, 45, 50, 55), normals(50, 52, 54))
    for one in data:
        one.device = META
    with device:
        model = Shade().to(META)
        GradientTraining(model, plan, TrainingSetup(train, 0, **setup), *data).run()
    return device


@pytest.mark.usefixtures("no_autocast")
def test_a_training_reads_loss_and_norm_every_twenty_steps() -> None:
    few, many = counted(40), counted(80)
    assert many.read - few.read == 2 * (80 - 40) / 20
    assert counted(80, read_every=1).read - counted(40, read_every=1).read == 2 * 40
    # Which rows of what is kept a batch takes: one short tensor each.
    assert many.sent - few.sent == 80 - 40


@pytest.mark.usefixtures("no_autocast")
def test_validation_losses_are_read_once_however_many_batches_there_are() -> None:
    assert counted(1).read == 2 + 1


def test_weights_and_rows_do_not_depend_on_how_often_losses_are_read() -> None:
    found = []
    for read_every in (1, 3, 50):
        torch.manual_seed(0)
        model = Brightness(noise=0.1)
        setup = TrainingSetup(train_section(validate_every=7), 0, read_every=read_every)
        training = GradientTraining(
            model, schedule(iterations=20, batch_size=4, learning_rate=0.1), setup,
            normals(40, 45, 50, 55, 60), normals(50, 52),
        )  # fmt: skip
        found.append((training.run(), model.guess.detach()))
    assert all(rows == found[0][0] and torch.equal(x, found[0][1]) for rows, x in found)


@pytest.mark.usefixtures("no_autocast")
@pytest.mark.parametrize(("device", "largest"), [(META, DEVICE_IMAGES), (CPU, 1)], ids=str)
def test_a_frozen_network_sees_batches_that_fill_a_device_though_a_step_takes_one_slice(
    device: torch.device, largest: int
) -> None:
    seen = []

    class Counted(Shade):
        def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
            seen.append(len(batch.slice_ids))
            return super().prepare(batch)

    slices = normals(*range(70), batch_size=1)
    slices.device = device
    PreparedNormals(Counted(), slices)
    assert sum(seen) == 1 + 70  # one to measure what they take
    assert max(seen) == largest


def test_a_loss_that_is_not_finite_is_named_by_its_iteration_and_ends_the_training() -> None:
    class Overflows(Brightness):
        steps = 0

        def loss(self, *prepared: Tensor) -> Tensor:
            self.steps += self.training
            return super().loss(*prepared) * (float("nan") if self.steps == 7 else 1.0)

    model = Overflows()
    setup = TrainingSetup(train_section(validate_every=100), 0, read_every=5)
    plan = schedule(iterations=50, batch_size=4)
    training = GradientTraining(model, plan, setup, normals(40, 45, 50), normals(50))
    with pytest.raises(TrainingError, match="iteration 7: found loss nan with gradient norm nan"):
        training.run()
    assert model.steps == 10


@pytest.mark.parametrize("name", ["cmad", "scrd4ad", "qfae"])
def test_no_model_of_the_benchmark_waits_within_a_step(name: str) -> None:
    params = load_params(Path("params.yaml"))
    entry = params.benchmark[name]
    section = params.model_section(entry.params)
    assert isinstance(section, GradientParams)
    model = class_of(entry.model).build_untrained(
        section, params.teacher, entry.modalities[0], 64, params
    )
    assert isinstance(model, GradientModel)
    images = torch.zeros(2, 1, 64, 64, device=META)
    device = Device()
    with device:
        model.to(META).train()
        prepared = model.prepare(Batch(images, images, ("a", "b")))
        model.loss(*prepared)  # once for what is kept on the device
        device.read = device.sent = 0
        model.loss(*prepared).backward()  # type: ignore[no-untyped-call]
    assert device.read == 0
    # SCRD4AD draws its noise on the CPU, so that it is the same on every machine.
    assert device.sent == (name == "scrd4ad")
