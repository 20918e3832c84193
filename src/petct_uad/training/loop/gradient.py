"""The training loop of every model that learns by gradient descent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from petct_uad.core.console import console, progress_bar
from petct_uad.core.errors import ParamsError, TrainingError
from petct_uad.models.common.device import autocast, choose_precision
from petct_uad.models.common.interface import GradientModel
from petct_uad.models.common.params import ScheduleParams
from petct_uad.training.loop.checkpoints import Checkpoint, CheckpointFile, Progress
from petct_uad.training.loop.data import Normals, PreparedNormals, Rows, batch_order
from petct_uad.training.loop.optimisers import make_optimiser, make_rates
from petct_uad.training.loop.ranks import ALONE, Ranks
from petct_uad.training.loop.tables import LoggedRow, TrainingRow
from petct_uad.training.params import TrainParams

_READ_EVERY = 20  # iterations, where a reading waits for a device


@dataclass(frozen=True)
class TrainingSetup:
    """How one training runs, whatever the model.

    Attributes:
        train: precision, iterations between validations, patience.
        seed: of the order of batches; the model's own randomness comes from torch's generator.
        checkpoints: where to; None keeps none.
        ranks: the processes that train together.
        tell: called after every iteration with how many are done, and of how many.
        read_every: iterations between two readings of loss and norm, each of which waits for the
            device; by default 1 on a CPU, which has nobody to wait for, and 20 elsewhere. Before a
            look at the validation normals and before a checkpoint all is read.
    """

    train: TrainParams
    seed: int
    checkpoints: CheckpointFile | None = None
    ranks: Ranks = ALONE
    tell: Callable[[int, int], None] = lambda _done, _total: None
    read_every: int | None = None


@dataclass(frozen=True)
class _Step:
    """What one step found, still on the device: a loss, a norm of the gradient, both scalar."""

    loss: Tensor
    norm: Tensor
    weight: float  # of the loss in that of the whole batch


class GradientTraining:
    """One model on its way through a schedule.

    Args:
        model: on the device where it is to train.
        schedule: optimiser, learning rate over time, batch size, clipping.
        setup: seed, precision, patience, checkpoints, processes.
        normals: to learn from.
        held_out: validation normals, which choose the state that is kept.

    Raises:
        ParamsError: a batch is too small for so many processes, or the device lacks the precision.
    """

    def __init__(
        self,
        model: GradientModel,
        schedule: ScheduleParams,
        setup: TrainingSetup,
        normals: Normals,
        held_out: Normals,
    ) -> None:
        if schedule.batch_size < setup.ranks.count:
            raise ParamsError(
                f"schedule.batch_size = {schedule.batch_size}: each of the {setup.ranks.count} "
                "processes of train.launcher needs a slice of every batch. Raise it or start fewer."
            )
        self.model, self.seed = model, setup.seed
        self.schedule = schedule.counted(len(normals))
        self.train, self.checkpoints, self.ranks = setup.train, setup.checkpoints, setup.ranks
        self.tell = setup.tell
        self.device = normals.device
        self.read_every = setup.read_every or (1 if self.device.type == "cpu" else _READ_EVERY)
        self.unread: list[_Step] = []
        self.last_loss = math.nan
        self.precision = choose_precision(
            self.train.precision, self.device, model.bfloat16_pays_on_cpu
        )
        self.normals = PreparedNormals(model, normals)
        self.held_out = PreparedNormals(model, held_out)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimiser = make_optimiser(self.parameters, self.schedule)
        self.rates = make_rates(self.optimiser, self.schedule)
        self.progress = Progress()
        self.best_state: dict[str, Tensor] = {}

    def run(self) -> Progress:
        """Train to the end; the model is left in the state of the best validation loss.

        Resumes from the last checkpoint where there is one of the same training.

        Raises:
            TrainingError: the loss or its gradient is no longer finite.
        """
        self.ranks.reseed(self.seed)
        self._resume()
        size, total = self.schedule.batch_size, self.schedule.iterations
        order = batch_order(len(self.normals), size, total, self.seed)
        shares = map(self.ranks.share, islice(order, self.progress.iteration, None))
        with progress_bar() as bar:
            task = bar.add_task("training", total=total, completed=self.progress.iteration)
            for rows in self.normals.ahead(shares):
                if self._out_of_patience():
                    break
                self._iterate(rows)
                bar.update(task, advance=1, description=f"training, loss {self.last_loss:.3f}")
                self.tell(self.progress.iteration, total)
        self.model.load_student_state(self.best_state)
        return self.progress

    def _iterate(self, rows: Rows) -> None:
        """One iteration, and what is due after it: a validation, a checkpoint."""
        progress, total = self.progress, self.schedule.iterations
        progress.iteration += 1
        rate = float(self.optimiser.param_groups[0]["lr"])
        self.unread.append(self._step(rows))
        if len(self.unread) >= self.read_every:
            self._read()
        if progress.iteration % self.train.validate_every == 0 or progress.iteration == total:
            self._read()
            self._look(rate)
        if self.checkpoints and self._checkpoint_due(self.checkpoints.every):
            self._read()
            self._save(self.checkpoints)

    def _step(self, rows: Rows) -> _Step:
        """Gradient, clipping, new weights; nothing here waits for the device."""
        self.model.train()
        self.optimiser.zero_grad()
        loss, share = self._loss(rows)
        weight = share / self.schedule.batch_size
        loss.backward()  # type: ignore[no-untyped-call]
        self.ranks.add_gradients(self.parameters, weight)
        largest = self.schedule.gradient_clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, largest)
        self.optimiser.step()
        self.rates.step()
        return _Step(loss.detach(), norm, weight)

    def _read(self) -> None:
        """Take the losses of the steps since the last reading, of which none may be infinite."""
        steps, self.unread = self.unread, []
        if not steps:
            return
        losses = torch.stack([step.loss for step in steps]).tolist()
        norms = torch.stack([step.norm for step in steps]).tolist()
        parts = [step.weight * loss for step, loss in zip(steps, losses, strict=True)]
        values = self.ranks.totals(parts, self.device)
        first = self.progress.iteration - len(steps) + 1
        for iteration, (value, norm) in enumerate(zip(values, norms, strict=True), first):
            if not (math.isfinite(value) and math.isfinite(norm)):
                raise TrainingError(
                    f"iteration {iteration}: found loss {value} with gradient norm {norm}, "
                    "expected finite numbers. Lower schedule.learning_rate or raise "
                    "schedule.adam_eps (CMAD's 1e-10 lets near-zero gradients take steps of full "
                    "size)."
                )
        self.progress.losses += values
        self.last_loss = values[-1]

    def _loss(self, rows: Rows) -> tuple[Tensor, int]:
        """Of how many slices, too."""
        with autocast(self.precision, self.device):
            prepared = rows()
            return self.model.loss(*prepared).float(), len(prepared[0])

    def _look(self, rate: float) -> None:
        """Write a row, and keep the state if its validation loss is the best so far."""
        progress = self.progress
        figures = sorted(self.model.logged().items())
        progress.logged += [LoggedRow(self.seed, progress.iteration, *pair) for pair in figures]
        mean, loss = math.fsum(progress.losses) / len(progress.losses), self._validate()
        progress.rows.append(TrainingRow(self.seed, progress.iteration, mean, loss, rate))
        progress.losses.clear()
        progress.looks_without_gain += 1
        if loss < progress.best_loss or not self.best_state:
            progress.best_loss, progress.looks_without_gain = loss, 0
            self.best_state = {name: x.clone() for name, x in self.model.student_state().items()}

    @torch.no_grad()
    def _validate(self) -> float:
        """Mean loss of the validation normals."""
        self.model.eval()
        learnt = {name for name, _ in self.model.named_parameters()}
        state = self.model.student_state().items()
        self.ranks.take_from_first([x for name, x in state if name not in learnt])
        count, size = len(self.held_out), self.schedule.batch_size
        chunks = [range(i, min(i + size, count)) for i in range(0, count, size)]
        shares = [share for chunk in chunks if (share := self.ranks.share(chunk))]
        found = [self._loss(rows) for rows in self.held_out.ahead(shares)]
        # Read at once: a number of each batch would be a wait for the device at each.
        losses = torch.stack([loss for loss, _ in found]).tolist() if found else []
        mine = math.fsum(loss * size for loss, (_, size) in zip(losses, found, strict=True))
        return self.ranks.totals([mine], self.device)[0] / count

    def _out_of_patience(self) -> bool:
        return 0 < self.train.patience <= self.progress.looks_without_gain

    def _checkpoint_due(self, every: int) -> bool:
        iteration = self.progress.iteration
        ended = iteration == self.schedule.iterations or self._out_of_patience()
        return ended or iteration % every == 0

    def _save(self, file: CheckpointFile) -> None:
        generators = [self.ranks.gather(x, self.device) for x in _random_state(self.device)]
        if not self.ranks.first:
            return
        file.save(
            Checkpoint(
                progress=self.progress,
                model=self.model.student_state(),
                best=self.best_state,
                optimiser=self.optimiser.state_dict(),
                rates=self.rates.state_dict(),
                random=[list(states) for states in zip(*generators, strict=True)],
            )
        )

    def _resume(self) -> None:
        if self.checkpoints is None or (found := self.checkpoints.load()) is None:
            return
        self.progress = found.progress
        self.best_state = {name: x.to(self.device) for name, x in found.best.items()}
        self.model.load_student_state(found.model)
        self.optimiser.load_state_dict(found.optimiser)
        self.rates.load_state_dict(found.rates)
        _set_random_state(found.random[self.ranks.rank], self.device)
        console.print(f"resumes after iteration {found.progress.iteration}")


def _random_state(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _set_random_state(states: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
