"""The training loop: StableAdamW, warm-up, cosine, best validation loss (CMAD, section 5.1)."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from petct_uad.console import progress_bar
from petct_uad.errors import TrainingError
from petct_uad.models.interface import GradientModel
from petct_uad.params import ScheduleParams
from petct_uad.training.data import Normals, PreparedNormals, batch_order
from petct_uad.training.tables import TrainingRow

with warnings.catch_warnings():
    # anomalib's Dinomaly imports deprecated names of timm, which is no concern of the user.
    warnings.simplefilter("ignore", FutureWarning)
    from anomalib.models.image.dinomaly.components import StableAdamW, WarmCosineScheduler


class GradientTraining:
    """One model on its way through a schedule."""

    def __init__(
        self, model: GradientModel, schedule: ScheduleParams, train: Normals, val: Normals
    ) -> None:
        self.model = model
        self.schedule = schedule
        self.train = PreparedNormals(model, train)
        self.val = PreparedNormals(model, val)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimiser = StableAdamW(
            self.parameters,
            lr=schedule.learning_rate,
            betas=(0.9, 0.999),
            eps=schedule.adam_eps,
            weight_decay=schedule.weight_decay,
            amsgrad=True,
        )
        self.rates = WarmCosineScheduler(
            self.optimiser,
            base_value=schedule.learning_rate,
            final_value=schedule.final_learning_rate,
            total_iters=schedule.iterations,
            warmup_iters=schedule.warmup_iterations,
        )
        self.best_loss = math.inf
        self.best_state: dict[str, Tensor] = {}

    def run(self, seed: int, validate_every: int) -> list[TrainingRow]:
        """Train to the end; the model is left in the state of the best validation loss.

        Raises:
            TrainingError: the loss or its gradient is no longer finite.
        """
        total = self.schedule.iterations
        rows: list[TrainingRow] = []
        losses: list[float] = []
        order = batch_order(len(self.train), self.schedule.batch_size, total, seed)
        with progress_bar() as bar:
            task = bar.add_task("training", total=total)
            for iteration, indices in enumerate(order, start=1):
                rate = float(self.optimiser.param_groups[0]["lr"])
                losses.append(self._step(iteration, indices))
                bar.update(task, advance=1, description=f"training, loss {losses[-1]:.3f}")
                if iteration % validate_every == 0 or iteration == total:
                    mean = math.fsum(losses) / len(losses)
                    rows.append(TrainingRow(iteration, mean, self._validate(), rate))
                    losses.clear()
        self.model.load_student_state(self.best_state)
        return rows

    def _step(self, iteration: int, indices: list[int]) -> float:
        self.model.train()
        self.optimiser.zero_grad()
        loss = self.model.loss(self.train.rows(indices))
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.schedule.gradient_clip)
        value = float(loss.detach())
        if not (math.isfinite(value) and math.isfinite(float(norm))):
            raise TrainingError(
                f"iteration {iteration}: found loss {value} with gradient norm {float(norm)}, "
                "expected finite numbers. Lower schedule.learning_rate or raise schedule.adam_eps "
                "(the paper's 1e-10 lets near-zero gradients take steps of full size)."
            )
        self.optimiser.step()
        self.rates.step()
        return value

    @torch.no_grad()
    def _validate(self) -> float:
        """Mean loss of the validation normals; keeps the state if it is the best so far."""
        self.model.eval()
        size = self.schedule.batch_size
        chunks = [range(i, min(i + size, len(self.val))) for i in range(0, len(self.val), size)]
        losses = [float(self.model.loss(self.val.rows(chunk))) * len(chunk) for chunk in chunks]
        loss = math.fsum(losses) / len(self.val)
        if loss < self.best_loss:
            self.best_loss = loss
            self.best_state = {name: x.clone() for name, x in self.model.student_state().items()}
        return loss
