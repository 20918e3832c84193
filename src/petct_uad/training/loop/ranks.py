"""Several processes that train one model together: ``torchrun --nproc-per-node N``.

Every process (rank) builds the same model and walks through the same seeded order of batches; it
takes its share of each batch, and gradients are averaged, weighted by share. That equals the
training of one process, up to rounding, for every model whose loss is a mean over the slices of a
batch without anything that mixes them: CMAD and QFAE. Batch statistics (the trainable batch norms
of HDHKD, SCRD4AD and Hetero-AE) are those of a rank's share. Models that draw noise in their loss
draw other noise on each rank than one process would.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from petct_uad.core.console import console


@dataclass(frozen=True)
class Ranks:
    """This process among those of one training; by default it is alone."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Is this the process that writes and prints?"""
        return self.rank == 0

    def share(self, indices: Sequence[int]) -> list[int]:
        """This rank's part of a batch; parts differ in length by at most one."""
        return list(indices[self.rank :: self.count])

    def reseed(self, seed: int) -> None:
        """Let ranks draw different noise from here on; the first continues as if it were alone."""
        if not self.first:
            torch.manual_seed(seed + self.rank)

    def totals(self, values: Sequence[float], device: torch.device) -> list[float]:
        """The sum over ranks of each."""
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(tensor)
        found: list[float] = tensor.tolist()
        return found

    def add_gradients(self, parameters: Sequence[nn.Parameter], weight: float) -> None:
        """Replace each gradient by the sum over ranks of ``weight`` times it."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients]) * weight
        dist.all_reduce(flat)
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def take_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite the tensors by the first rank's, e.g. running means of a batch norm."""
        if self.count == 1:
            return
        for tensor in tensors:
            dist.broadcast(tensor, 0)

    def gather(self, tensor: Tensor, device: torch.device) -> list[Tensor]:
        """Every rank's tensor of one shape, on the CPU, in the order of ranks."""
        if self.count == 1:
            return [tensor.cpu()]
        on_device = tensor.to(device)
        gathered = [torch.empty_like(on_device) for _ in range(self.count)]
        dist.all_gather(gathered, on_device)
        return [one.cpu() for one in gathered]


ALONE = Ranks()


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """This process's place among those that torchrun started; alone without torchrun.

    Processes talk through gloo where tensors are on the CPU, through NCCL where they are on GPUs.
    All but the first fall silent.
    """
    if not dist.is_torchelastic_launched():
        yield ALONE
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    ranks = Ranks(dist.get_rank(), dist.get_world_size())
    console.quiet = not ranks.first
    try:
        yield ranks
    finally:
        dist.destroy_process_group()
