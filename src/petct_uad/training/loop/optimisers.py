"""Optimisers and the shapes of the learning rate over time that the papers use."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from petct_uad.models.common.params import ScheduleParams
from petct_uad.training.loop.stable_adamw import StableAdamW

_LAST_STEP = 0.95  # HDHKD, section IV-B: a tenth of the rate for the last 5 % of the iterations


def make_optimiser(parameters: Sequence[Tensor], schedule: ScheduleParams) -> Optimizer:
    """The optimiser that ``schedule`` names.

    ``stable_adamw`` (Wortsman et al., arXiv:2304.13013) decouples weight decay from the gradient;
    ``adam`` adds it to the gradient, as L2 regularisation.
    """
    if schedule.optimiser == "adam":
        return Adam(
            parameters,
            lr=schedule.learning_rate,
            betas=(schedule.beta1, schedule.beta2),
            eps=schedule.adam_eps,
            weight_decay=schedule.weight_decay,
            fused=True,  # one kernel for all tensors: half of a small model's step otherwise
        )
    return StableAdamW(
        parameters,
        lr=schedule.learning_rate,
        betas=(schedule.beta1, schedule.beta2),
        eps=schedule.adam_eps,
        weight_decay=schedule.weight_decay,
    )


def make_rates(optimiser: Optimizer, schedule: ScheduleParams) -> LRScheduler:
    """The learning rate over time: ``step()`` once after each iteration.

    ``one_cycle`` (torch's, which warms up by itself) rises from learning_rate / 25 over the first
    30 % of the iterations; Adam's beta1 stays as params say instead of cycling with it. The other
    shapes start with ``warmup_iterations`` from 0.
    """
    if schedule.decay == "one_cycle":
        start_factor = 25.0
        return OneCycleLR(
            optimiser,
            max_lr=schedule.learning_rate,
            total_steps=schedule.iterations,
            cycle_momentum=False,
            div_factor=start_factor,
            final_div_factor=schedule.learning_rate / (start_factor * schedule.final_learning_rate),
        )
    return LambdaLR(optimiser, lambda done: _factor(schedule, done))


def _factor(schedule: ScheduleParams, done: int) -> float:
    """The rate after ``done`` iterations, as a multiple of ``learning_rate``."""
    warmup = schedule.warmup_iterations
    if done < warmup:
        return done / max(warmup - 1, 1)
    final = schedule.final_learning_rate / schedule.learning_rate
    if schedule.decay == "cosine":
        part = min((done - warmup) / max(schedule.iterations - warmup, 1), 1.0)
        return final + (1 - final) * (1 + math.cos(math.pi * part)) / 2
    if schedule.decay == "step" and done >= _LAST_STEP * schedule.iterations:
        return final
    return 1.0
