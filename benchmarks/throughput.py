"""How fast training and inference are: ``PYTHONPATH=src:. python benchmarks/throughput.py``.

``training`` takes CMAD's steps in turns with frozen features in memory (as where they fit into
``PETCT_FEATURES_GIB``), in a file that a thread reads ahead, and computed anew for each batch, once
from shards that are mapped, once from images that lie in memory as a whole.

``inference`` gives pairs of PET and CT per second at batch 1 and 16: CMAD and our PatchCore beside
anomalib's with the same teacher, layers and size of the memory bank, one for each modality. Weights
and banks are random, which no time depends on. Everything has the sizes of params.yaml.

All in turns, the best of each, in processor time of one thread: other work on the machine makes
that longer by less than it makes the wall's clock. What a reading thread takes counts in full,
though it runs beside the steps. Each command fails where its bar is missed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from time import process_time
from typing import Annotated

import numpy as np
import torch
import typer
from rich.table import Table
from torch import nn

from benchmarks.patchcore import anomalib_patchcore
from petct_uad.core.console import console
from petct_uad.core.params.base import VALIDATED
from petct_uad.models.benchmark import RunParams
from petct_uad.models.build import build_model
from petct_uad.models.common.batch import Batch
from petct_uad.models.common.interface import AnomalyModel, GradientModel
from petct_uad.models.patchcore.params import PatchcoreParams
from petct_uad.models.patchcore.patchcore import Patchcore
from petct_uad.schema import Params, load_params
from petct_uad.slices.store import Shard, SliceStore, write_index, write_shard
from petct_uad.slices.tables import ImageRow, shard_path
from petct_uad.training.loop.data import FeatureCache, Normals, PreparedNormals, Rows, batch_order
from petct_uad.training.loop.optimisers import make_optimiser
from tests.samples import image_row

LOADER_BAR = 0.95
_CPU = torch.device("cpu")
Step = Callable[[], object]

app = typer.Typer(no_args_is_help=True, help=__doc__)


@app.command()
def training(
    slices: Annotated[int, typer.Option(help="Training normals.")] = 128,
    rounds: Annotated[int, typer.Option(help="Of which the best counts.")] = 12,
    steps: Annotated[int, typer.Option(help="In a row, of each way in turns.")] = 2,
) -> None:
    """Steps of CMAD through the loader, beside a loop whose data lie in memory."""
    torch.set_num_threads(1)
    params = load_params()
    model = _built(params, "cmad")
    assert isinstance(model, GradientModel)
    with tempfile.TemporaryDirectory() as name:
        mapped = _noise(Path(name), slices, params.preprocess.image_size_px)
        every = list(range(slices))
        whole = replace(mapped, ct=mapped.ct[every], pet=mapped.pet[every])
        ways = {
            "features in memory": (mapped, FeatureCache()),
            "features in a file": (mapped, FeatureCache(0, Path(name))),
            "features anew, mapped shards": (mapped, FeatureCache(0)),
            "features anew, images in memory": (whole, FeatureCache(0)),
        }
        size = params.model.schedule.batch_size
        taken = {
            way: _learning(model, params, PreparedNormals(model, Normals(store, size, _CPU), kept))
            for way, (store, kept) in ways.items()
        }
        best = _best_ms({way: _repeated(step, steps) for way, step in taken.items()}, rounds)
    _show({way: [f"{found / steps:.1f}"] for way, found in best.items()}, "CMAD", "ms a step")
    memory, file, anew, loaded = best.values()
    ratios = memory / file, loaded / anew
    console.print(
        f"throughput: {ratios[0]:.3f} of memory's from a file, {ratios[1]:.3f} from shards"
    )
    raise typer.Exit(min(ratios) < LOADER_BAR)


@app.command()
def inference(
    rounds: Annotated[int, typer.Option(help="Of which the best counts.")] = 10,
    bank: Annotated[int, typer.Option(help="Patches; 0: as params.yaml has it.")] = 0,
) -> None:
    """Pairs per second of CMAD, PatchCore and anomalib's PatchCore."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    params = load_params()
    section = params.model_section("models.patchcore")
    assert isinstance(section, PatchcoreParams)
    bank = bank or int(section.max_patches * section.coreset_fraction)
    cmad, ours = _built(params, "cmad").eval(), _built(params, "patchcore").eval()
    assert isinstance(ours, Patchcore)
    patches = torch.rand(bank, ours.length)
    ours.load_student_state({**ours.student_state(), "memory_bank": patches})
    theirs = anomalib_patchcore(section).eval()
    theirs.memory_bank = patches
    rows: dict[str, list[str]] = {}
    missed = False
    with torch.inference_mode():
        for size in (1, 16):
            batch = _pairs(size, params.preprocess.image_size_px)
            ways: dict[str, Step] = {
                "CMAD": partial(cmad.detect, batch),
                "PatchCore, PET and CT": partial(_twice, ours, batch),
                "anomalib's PatchCore, PET and CT": partial(_each_image, theirs, batch),
            }
            best = _best_ms(ways, rounds)
            for name, found in best.items():
                rows.setdefault(name, []).append(f"{1e3 * size / found:.1f}")
            missed |= best["CMAD"] > best["anomalib's PatchCore, PET and CT"]
    _show(rows, f"banks of {bank} patches", "pairs per s, batch 1", "batch 16")
    raise typer.Exit(missed)


def _twice(model: AnomalyModel, batch: Batch) -> None:
    """A model of one modality sees one image; which one costs the same."""
    for images in (batch.pet, batch.ct):
        model.detect(replace(batch, pet=images))


def _each_image(model: nn.Module, batch: Batch) -> None:
    for images in (batch.pet, batch.ct):
        model(images.expand(-1, 3, -1, -1))


def _built(params: Params, model: str) -> AnomalyModel:
    entry = params.benchmark[model]
    run = RunParams(
        model=entry.model, modality=entry.modalities[0], params=entry.params, after=VALIDATED
    )
    section = params.model_section(entry.params)
    return build_model(run, section, params.teacher, params.preprocess.image_size_px)


def _learning(model: GradientModel, params: Params, normals: PreparedNormals) -> Step:
    """A step of the model with the next batch, as the training loop takes it."""
    schedule = params.model.schedule
    weights = [x for x in model.parameters() if x.requires_grad]
    optimiser = make_optimiser(weights, schedule)
    order = batch_order(len(normals), schedule.batch_size, schedule.iterations, seed=0)
    batches: Iterator[Rows] = normals.ahead(cycle(order))

    def step() -> None:
        optimiser.zero_grad()
        model.loss(*next(batches)()).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()

    return step


def _repeated(step: Step, count: int) -> Step:
    return lambda: [step() for _ in range(count)]


def _best_ms(steps: Mapping[str, Step], rounds: int) -> dict[str, float]:
    """The least time of each, all in turns, after one that does not count."""
    best = dict.fromkeys(steps, float("inf"))
    for counted in range(-1, rounds):
        for name, step in steps.items():
            started = process_time()
            step()
            if counted >= 0:
                best[name] = min(best[name], 1e3 * (process_time() - started))
    return best


def _pairs(count: int, side_px: int) -> Batch:
    pet, ct = torch.rand(2, count, 1, side_px, side_px)
    return Batch(pet, ct, tuple(map(str, range(count))))


def _noise(folder: Path, count: int, side_px: int) -> SliceStore:
    """A shard of noise, which takes no less time than a body, mapped from its file."""
    images = np.random.default_rng(0).random((2, count, side_px, side_px)).astype(np.float16)
    empty = np.zeros(images.shape[1:], np.uint8)
    shard = Shard(images[0], images[1], empty, empty + 1)
    write_shard(shard_path(folder, "noise"), shard)
    rows = [_row(place, shard.sha256_of(place)) for place in range(count)]
    write_index(folder, rows)
    return SliceStore.open(folder, "train")


def _row(place: int, sha256: str) -> ImageRow:
    return image_row(
        slice_id=f"noise_{place:04d}", study_id="noise", shard_row=place, sha256=sha256
    )


def _show(rows: Mapping[str, list[str]], title: str, *headings: str) -> None:
    table = Table(title, *headings)
    for name, found in rows.items():
        table.add_row(name, *found)
    console.print(table)


if __name__ == "__main__":
    app()
