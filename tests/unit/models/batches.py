"""What the tests of every model do with a batch."""

from __future__ import annotations

import torch

from petct_uad.models.interface import GradientModel
from petct_uad.params.base import Modality
from petct_uad.slices.batch import Batch


def descend(
    model: GradientModel,
    batch: Batch,
    steps: int,
    rate: float = 3e-3,
    betas: tuple[float, float] = (0.9, 0.999),
) -> list[float]:
    """Adam on one batch; the losses, and the model in evaluation mode."""
    learnt = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(learnt, lr=rate, betas=betas)
    prepared = model.train().prepare(batch)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = model.loss(*prepared)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    model.eval()
    return losses


def first(batch: Batch, count: int = 1) -> Batch:
    """The first slices."""
    return Batch(batch.pet[:count], batch.ct[:count], batch.slice_ids[:count])


def only(batch: Batch, modality: Modality) -> Batch:
    """The same slices with nothing in the other modality."""
    nothing = torch.zeros_like(batch.pet)
    seen = {"pet": batch.pet, "ct": batch.ct}[modality]
    return Batch(**{"pet": nothing, "ct": nothing, modality: seen}, slice_ids=batch.slice_ids)


def noise(count: int, side: int, seed: int = 0) -> Batch:
    """Slices of any size."""
    images = torch.rand(2, count, 1, side, side, generator=torch.Generator().manual_seed(seed))
    return Batch(images[0], images[1], tuple(f"s{i}" for i in range(count)))


def learnt(model: torch.nn.Module) -> int:
    """Number of parameters that training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
