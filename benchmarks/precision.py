"""Is bfloat16 worth it here? ``PYTHONPATH=src python benchmarks/precision.py``.

Times forward plus backward of CMAD at the sizes of params.yaml in float32 and under bfloat16
autocast, step by step in turns, so that other work on the machine meets both alike. The rule
behind ``train.precision: auto`` follows from what this prints.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Annotated

import torch
import typer
from torch import Tensor

from petct_uad.core.console import console
from petct_uad.models.cmad.cmad import Cmad
from petct_uad.models.common.batch import Batch
from petct_uad.models.common.device import autocast, choose_device, choose_precision
from petct_uad.schema import load_params

PRECISIONS = (torch.float32, torch.bfloat16)


def main(
    steps: Annotated[int, typer.Option(help="timed steps of each precision")] = 10,
    threads: int = 2,
    device: str = "auto",
    params_file: Path = Path("params.yaml"),
) -> None:
    """Print milliseconds per step of both precisions, their ratio and what it means."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    place, params = choose_device(device), load_params(params_file)
    side = params.preprocess.image_size_px
    model = Cmad.build(params.model, params.teacher, "petct", side).to(place).train()
    for batch_size in (params.model.schedule.batch_size, 1):
        _report(model, _tokens(model, batch_size, side, place), place, steps)
    chosen = choose_precision("auto", place, Cmad.bfloat16_pays_on_cpu)
    console.print(f"for CMAD, train.precision = auto means {chosen} on this {place.type} device")


def _report(model: Cmad, prepared: tuple[Tensor, ...], place: torch.device, steps: int) -> None:
    losses = [_step(model, prepared, place, precision)[1] for precision in PRECISIONS]
    times: list[list[float]] = [[], []]
    for _ in range(steps):
        for kept, precision in zip(times, PRECISIONS, strict=True):
            kept.append(_step(model, prepared, place, precision)[0])
    single, half = (1e3 * min(kept) for kept in times)
    console.print(
        f"CMAD on {place.type}, batch {len(prepared[0])}: float32 {single:.1f} ms, "
        f"bfloat16 {half:.1f} ms: bfloat16 takes {half / single:.2f} times as long; "
        f"losses {losses[0]:.4f} and {losses[1]:.4f}"
    )


def _step(
    model: Cmad, prepared: tuple[Tensor, ...], place: torch.device, precision: torch.dtype
) -> tuple[float, float]:
    """Seconds of one forward and backward pass, and its loss."""
    model.zero_grad()
    _wait(place)
    started = perf_counter()
    with autocast(precision, place):
        loss = model.loss(*prepared).float()
    loss.backward()  # type: ignore[no-untyped-call]
    _wait(place)
    return perf_counter() - started, float(loss.detach())


def _tokens(model: Cmad, count: int, side: int, place: torch.device) -> tuple[Tensor, ...]:
    images = torch.rand(2, count, 1, side, side, device=place)
    names = tuple(map(str, range(count)))
    return model.prepare(Batch(pet=images[0], ct=images[1], slice_ids=names))


def _wait(place: torch.device) -> None:
    if place.type == "cuda":
        torch.cuda.synchronize(place)


if __name__ == "__main__":
    typer.run(main)
