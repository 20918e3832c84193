"""The training loop around a model of two weights."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from petct_uad.models.common.interface import Batch, GradientModel
from petct_uad.slices.store import SliceStore
from petct_uad.training.loop.checkpoints import CheckpointFile, Progress
from petct_uad.training.loop.data import FeatureCache, Normals, PreparedNormals, batch_order
from petct_uad.training.loop.gradient import GradientTraining, TrainingSetup
from tests.samples import image_row, schedule, train_section

CPU = torch.device("cpu")
SCHEDULE = schedule(iterations=20, batch_size=4, learning_rate=0.1, final_learning_rate=0.1)
TRAIN = train_section()


class Brightness(GradientModel):
    """Learns the mean PET value, with noise while it trains."""

    def __init__(self, noise: float = 0.0, reports: bool = False) -> None:
        super().__init__()
        self.guess = nn.Parameter(torch.zeros(1))
        self.noise, self.reports, self.prepared = noise, reports, 0

    @classmethod
    def build(cls, *_: Any) -> Self:
        raise NotImplementedError

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """Images, and which slice each is."""
        self.prepared += len(batch.slice_ids)
        return batch.pet, torch.tensor([int(name) for name in batch.slice_ids])

    def loss(self, *prepared: Tensor) -> Tensor:
        images, numbers = prepared
        assert images.dtype == torch.float32
        assert numbers.dtype == torch.int64
        # Each image is as bright as its number says: rows of both tensors belong together.
        assert torch.allclose(images.mean((1, 2, 3)), numbers / 100, atol=1e-3)
        noise = self.noise * torch.randn(len(images)) if self.training else torch.zeros(())
        return (images.mean((1, 2, 3)) + noise - self.guess).square().mean()

    def logged(self) -> dict[str, float]:
        return {"guess": float(self.guess.detach())} if self.reports else {}

    def anomaly_map(self, batch: Batch) -> Tensor:
        return batch.pet[:, 0] - self.guess

    def score(self, maps: Tensor) -> Tensor:
        return maps.mean((1, 2))


def normals(*hundredths: int, abnormal: tuple[int, ...] = (), batch_size: int = 4) -> Normals:
    """Flat slices of these brightnesses, in hundredths; their ids say the same."""
    numbers = [*hundredths, *abnormal]
    pixels = np.repeat(np.array(numbers, np.float16) / 100, 16).reshape(-1, 4, 4).astype(np.float16)
    rows = tuple(image_row(slice_id=str(n), label=int(n in abnormal)) for n in numbers)
    return Normals(SliceStore(rows, pixels, pixels), batch_size, CPU)


def run(
    model: Brightness,
    train: dict[str, Any] | None = None,
    schedule: dict[str, Any] | None = None,
    checkpoints: CheckpointFile | None = None,
) -> Progress:
    setup = TrainingSetup(TRAIN.model_copy(update=train or {}), 0, checkpoints)
    changed = SCHEDULE.model_copy(update=schedule or {})
    data = normals(40, 45, 50, 55, 60), normals(50, 52)
    return GradientTraining(model, changed, setup, *data).run()


def test_frozen_outputs_are_computed_once_per_slice() -> None:
    model = Brightness()
    run(model)
    assert model.prepared <= 5 + 2 + 2  # each slice, and one more of each split to measure it


def test_above_the_bound_rows_are_computed_for_each_batch_and_are_the_same() -> None:
    model, slices = Brightness(), normals(10, 20, 30, 40, 50, abnormal=(90,))
    cached, fresh = (PreparedNormals(model, slices, FeatureCache(x)) for x in (1 << 20, 100))
    for ours, theirs in zip(cached.rows([3, 0, 3]), fresh.rows([3, 0, 3]), strict=True):
        assert torch.equal(ours, theirs)
    before = model.prepared
    cached.rows([0])
    assert model.prepared == before
    fresh.rows([0])
    assert model.prepared == before + 1


def test_batches_that_are_read_ahead_come_in_order_and_are_the_same_bytes(tmp_path: Path) -> None:
    model, slices = Brightness(), normals(10, 20, 30, 40, 50, abnormal=(90,))
    order = list(batch_order(len(slices), 4, 9, seed=3))
    one_by_one = [PreparedNormals(model, slices).rows(indices) for indices in order]
    for place in (FeatureCache(), FeatureCache(0), FeatureCache(0, tmp_path)):
        ahead = [rows() for rows in PreparedNormals(model, slices, place).ahead(iter(order))]
        assert len(ahead) == len(order)
        for ours, theirs in zip(ahead, one_by_one, strict=True):
            assert all(map(torch.equal, ours, theirs))


def test_reading_ahead_is_bounded_and_ends_with_a_training_that_ends_early() -> None:
    taken: list[int] = []

    def order() -> Iterator[list[int]]:
        for i in range(1000):
            taken.append(i)
            yield [0]

    before = threading.active_count()
    batches = PreparedNormals(Brightness(), normals(10, 20), FeatureCache(0)).ahead(order())
    next(batches)()
    assert len(taken) < 5
    assert threading.active_count() > before
    del batches
    assert threading.active_count() == before


def test_weights_are_the_same_wherever_frozen_outputs_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [Brightness(noise=0.1) for _ in range(3)]
    for model, (gib, folder) in zip(models, (("2", ""), ("0", ""), ("0", tmp_path)), strict=True):
        monkeypatch.setenv("PETCT_FEATURES_GIB", gib)
        monkeypatch.setenv("PETCT_FEATURES_FOLDER", str(folder))
        torch.manual_seed(0)
        run(model)
    assert models[0].guess != 0
    assert all(torch.equal(models[0].guess, model.guess) for model in models)


def test_epochs_are_passes_over_the_training_normals_to_the_last_batch_begun() -> None:
    by_epochs, by_iterations = Brightness(), Brightness()
    # 3 passes over 5 slices in batches of 4: 3.75 batches.
    counted = run(by_epochs, schedule={"iterations": 0, "epochs": 3, "decay": "cosine"})
    expected = run(by_iterations, schedule={"iterations": 4, "decay": "cosine"})
    assert counted.rows == expected.rows
    assert torch.equal(by_epochs.guess, by_iterations.guess)


@pytest.mark.parametrize(("iterations", "epochs"), [(0, 0), (5, 5)])
def test_a_schedule_counts_in_exactly_one_way(iterations: int, epochs: int) -> None:
    with pytest.raises(ValidationError, match="exactly one counts"):
        schedule(iterations=iterations, epochs=epochs)


def test_state_of_the_best_validation_loss_is_kept() -> None:
    model = Brightness()
    # A rate that overshoots: the loss rises again after its best.
    progress = run(model, {"validate_every": 1}, {"learning_rate": 0.2, "iterations": 7})
    losses = [row.val_loss for row in progress.rows]
    assert losses[-1] > min(losses)
    assert (float(model.guess.detach()) - 0.51) ** 2 + 1e-4 == pytest.approx(min(losses), abs=1e-4)


def test_a_validation_loss_is_without_the_noise_of_training() -> None:
    model = Brightness(noise=1.0)
    (row,) = run(model, schedule={"iterations": 1}).rows
    guess = float(model.guess.detach())
    expected = ((0.50 - guess) ** 2 + (0.52 - guess) ** 2) / 2
    assert row.val_loss == pytest.approx(expected, abs=1e-3)
    assert abs(row.train_loss - expected) > 0.05


def test_a_training_loss_is_the_mean_since_the_row_before() -> None:
    losses = []

    class Recorded(Brightness):
        def loss(self, *prepared: Tensor) -> Tensor:
            loss = super().loss(*prepared)
            if self.training:
                losses.append(float(loss.detach()))
            return loss

    rows = run(Recorded(), {"validate_every": 3}, {"iterations": 8}).rows
    means = [sum(losses[start : start + 3]) / len(losses[start : start + 3]) for start in (0, 3, 6)]
    assert [row.iteration for row in rows] == [3, 6, 8]
    assert [row.train_loss for row in rows] == pytest.approx(means)


def test_training_stops_after_so_many_looks_without_a_gain() -> None:
    full = run(Brightness(), {"validate_every": 1}, {"iterations": 60})
    stopped = run(Brightness(), {"validate_every": 1, "patience": 3}, {"iterations": 60})
    losses = [row.val_loss for row in stopped.rows]
    assert len(losses) < len(full.rows) == 60
    assert losses.index(min(losses)) == len(losses) - 1 - 3
    assert stopped.rows == full.rows[: len(losses)]


def test_figures_of_a_model_are_kept_beside_its_curve() -> None:
    assert run(Brightness()).logged == []
    logged = run(Brightness(reports=True)).logged
    assert [row.iteration for row in logged] == list(range(2, 21, 2))
    assert {row.name for row in logged} == {"guess"}
    assert logged[-1].value > logged[0].value > 0


@pytest.mark.parametrize("clip", [0.0, 1e-6])
def test_clipping_bounds_the_step_and_zero_switches_it_off(clip: float) -> None:
    model = Brightness()
    run(model, schedule={"gradient_clip": clip, "adam_eps": 1.0, "iterations": 1})
    assert (float(model.guess.detach()) < 1e-6) == bool(clip)


@pytest.mark.parametrize("decay", ["cosine", "one_cycle"])
@pytest.mark.parametrize("optimiser", ["adam", "stable_adamw"])
def test_interrupted_training_with_noise_ends_as_a_whole_one(
    tmp_path: Any, optimiser: str, decay: str
) -> None:
    schedule = {"optimiser": optimiser, "decay": decay, "final_learning_rate": 1e-3}
    torch.manual_seed(0)
    whole = Brightness(noise=0.1, reports=True)
    expected = run(whole, schedule=schedule)

    class Killed(Brightness):
        def logged(self) -> dict[str, float]:
            if self.guess.grad is not None and file.path.is_file() and not interrupted:
                interrupted.append(True)
                raise KeyboardInterrupt
            return super().logged()

    file, interrupted = CheckpointFile(tmp_path / "c.safetensors", "key", every=7), list[bool]()
    torch.manual_seed(0)
    with pytest.raises(KeyboardInterrupt):
        run(Killed(noise=0.1, reports=True), schedule=schedule, checkpoints=file)
    torch.manual_seed(99)
    resumed = Brightness(noise=0.1, reports=True)
    progress = run(resumed, schedule=schedule, checkpoints=file)
    assert torch.equal(resumed.guess, whole.guess)
    assert progress == expected


def test_checkpoint_of_another_training_is_refused_with_a_line(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.safetensors"
    run(Brightness(), checkpoints=CheckpointFile(path, "key", every=5))
    assert CheckpointFile(path, "key", every=5).load() is not None
    assert CheckpointFile(path, "other", every=5).load() is None
    path.write_bytes(path.read_bytes()[:100])
    assert CheckpointFile(path, "key", every=5).load() is None
    assert capsys.readouterr().err.count("starts") == 2


def test_every_slice_comes_once_before_any_comes_twice() -> None:
    batches = list(batch_order(count=10, batch_size=5, iterations=4, seed=3))
    first, second = ([i for batch in part for i in batch] for part in (batches[:2], batches[2:]))
    assert sorted(first) == sorted(second) == list(range(10))
    assert batches != list(batch_order(count=10, batch_size=5, iterations=4, seed=4))
