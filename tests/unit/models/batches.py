"""What the tests of every model do with a batch."""

from __future__ import annotations

import torch

from petct_uad.core.params.base import Modality
from petct_uad.models.common.batch import Batch
from petct_uad.models.common.interface import AnomalyModel, GradientModel

SQUARE = slice(28, 40), slice(36, 48)  # rows and columns of what ``abnormal`` has planted


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


def hottest_in_the_square(maps: torch.Tensor, reach_px: int = 0) -> bool:
    """Is each map (B, S, S) hottest in the square of the abnormal slices, or so near to it?"""
    hottest = maps.flatten(1).argmax(1)
    places = zip((hottest // maps.shape[2], hottest % maps.shape[2]), SQUARE, strict=True)
    return all(
        bool(((x >= side.start - reach_px) & (x < side.stop + reach_px)).all())
        for x, side in places
    )


def learnt(model: torch.nn.Module) -> int:
    """Number of parameters that training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def answers_alike(model: AnomalyModel, other: AnomalyModel, batch: Batch) -> bool:
    """Do two models give the same maps and scores, bit by bit?"""
    pairs = zip(model.detect(batch), other.detect(batch), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


def sees_both(model: AnomalyModel, batch: Batch) -> bool:
    """Do scores change where either modality is left alone?"""
    whole = model.detect(batch)[1]
    alone = (model.detect(only(batch, modality))[1] for modality in ("pet", "ct"))
    return not any(torch.allclose(scores, whole) for scores in alone)
