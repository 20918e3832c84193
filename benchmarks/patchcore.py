"""PatchCore beside anomalib's: ``PYTHONPATH=src python benchmarks/patchcore.py``.

Both fit every normal training image of ``$PETCT_DATA/brain_mri`` (default ``../shared/data``; 998
of them) and score all its test images (599 normal, 600 abnormal), with the same teacher and layers,
at the same size of the memory bank, one after the other, each in a process of its own, so that the
peak memory is its own. anomalib's model is used as its Lightning module uses it: training batches
of 32 into the embedding store, ``subsample_embedding``, evaluation batches of 32. Seconds are
processor time, since other programs may run. Data is read before the clock starts.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from time import process_time
from typing import Annotated, Any

import torch
import typer
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from petct_uad.core.console import console
from petct_uad.core.files import read_table
from petct_uad.core.params.reading import ParamsFile
from petct_uad.ingest.run import ingest_with_lineage
from petct_uad.ingest.tables import StudyRow
from petct_uad.models.common.batch import Batch
from petct_uad.models.common.device import peak_memory_mib
from petct_uad.models.patchcore.params import PatchcoreParams
from petct_uad.models.patchcore.patchcore import Patchcore
from petct_uad.preprocess.shards import write_shards
from petct_uad.schema import load_params
from petct_uad.slices.store import SliceStore, write_index
from petct_uad.split.labels import split_slices
from petct_uad.teachers.cnn import CnnTeacher
from petct_uad.volumes.study import VolumeFolders

BAR = 10.0
_BATCH = 32
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Measured:
    """One PatchCore on the whole benchmark."""

    bank: int
    auroc: float
    fit_s: float
    score_s: float
    before_mib: float  # peak memory before fitting: libraries, data, teacher
    peak_mib: float

    @property
    def seconds(self) -> float:
        """Fit plus score."""
        return self.fit_s + self.score_s


@dataclass(frozen=True)
class Task:
    """What a process needs to know."""

    processed: Path
    params: PatchcoreParams
    bank: int
    threads: int
    seed: int


Fit = Callable[[Iterable[Batch]], int]
Score = Callable[[Batch], Tensor]


def main(
    fraction: Annotated[float, typer.Option(help="anomalib's coreset_sampling_ratio.")] = 0.01,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    image_size_px: Annotated[int, typer.Option(help="Side of the square images.")] = 128,
    max_patches: Annotated[int, typer.Option(help="That ours draws before its search.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Of what both draw.")] = 0,
) -> None:
    """Print both, and their ratio beside the bar."""
    folder = Path(os.environ.get("PETCT_DATA", "../shared/data")) / "brain_mri"
    if not folder.is_dir():
        console.print(f"{folder.resolve()}: no brain MRI data here; set PETCT_DATA. Nothing done.")
        raise typer.Exit(1)
    section = ParamsFile.read().section(PatchcoreParams, "models.patchcore")
    params = section.model_copy(update={"max_patches": max_patches})
    with tempfile.TemporaryDirectory() as temporary:
        processed = Path(temporary) / "processed"
        _preprocess(folder.resolve(), Path(temporary), processed, image_size_px)
        patches = _normal_count(processed) * (image_size_px // min(params.strides)) ** 2
        task = Task(processed, params, int(patches * fraction), threads, seed)
        ours, theirs = (_alone(measure, task) for measure in (measure_ours, measure_anomalib))
    _report(ours, theirs)


def _preprocess(raw: Path, home: Path, processed: Path, image_size_px: int) -> None:
    """What ingest, split and preprocess do, duplicates kept."""
    params, link = load_params(), Path("raw")
    volumes = VolumeFolders(home / "volumes", home)
    with chdir(home):  # lineage takes no file outside the working directory
        link.symlink_to(raw)
        ingest_with_lineage(link, Path(), Path(), params.ingest)
    split = params.split.model_copy(update={"duplicates": "keep"})
    slices = split_slices(read_table(home / "studies.csv", StudyRow), volumes, split)
    wanted = params.preprocess.model_copy(update={"image_size_px": image_size_px})
    tables = write_shards(slices, volumes, processed, wanted)
    write_index(processed, tables.images)


def measure_ours(task: Task) -> Measured:
    """This repository's, its fraction set so that the bank has the size asked for."""
    kept = task.params.max_patches
    fraction = task.bank / kept
    params = task.params.model_copy(update={"coreset_fraction": fraction})
    torch.set_num_threads(task.threads)
    model = Patchcore(params, CnnTeacher.load(load_params().teacher), "pet", _side(task))

    def fit(normals: Iterable[Batch]) -> int:
        model.fit(normals, _batches(task.processed, "val"))
        return len(model.memory_bank)

    return _measure(task, fit, lambda batch: model.detect(batch)[1])


def measure_anomalib(task: Task) -> Measured:
    """anomalib's torch model with the same teacher passed in; nothing reaches for a hub."""
    torch.set_num_threads(task.threads)
    model = anomalib_patchcore(task.params)

    def fit(normals: Iterable[Batch]) -> int:
        model.train()
        for batch in normals:
            model(batch.pet.expand(-1, 3, -1, -1))
        patches = sum(len(kept) for kept in model.embedding_store)
        model.subsample_embedding((task.bank + 0.5) / patches)
        model.eval()
        return len(model.memory_bank)

    return _measure(task, fit, lambda batch: model(batch.pet.expand(-1, 3, -1, -1)).pred_score)


def anomalib_patchcore(params: PatchcoreParams) -> Any:
    """anomalib's model around the teacher of params.yaml, with an empty memory bank."""
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    neighbours = params.neighbours
    model = PatchcoreModel(["layer1"], "resnet18", pre_trained=False, num_neighbors=neighbours)
    # Its extractor traces a module that is passed in, which TensorFlow's padding in EfficientNet
    # does not allow; so the teacher takes the extractor's place.
    model.feature_extractor = _Features(params.strides)
    model.layers = sorted(params.strides)
    return model


class _Features(nn.Module):
    """The teacher's maps by stride, as anomalib's extractor gives them by layer."""

    def __init__(self, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.strides = strides
        self.teacher = CnnTeacher.load(load_params().teacher)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """(B, 3, S, S) in [0, 1] to (B, C, S/stride, S/stride) by stride."""
        features = self.teacher.features(images, deepest=max(self.strides))
        return {stride: features[stride] for stride in sorted(self.strides)}


def _measure(task: Task, fit: Fit, score: Score) -> Measured:
    normals = [*_batches(task.processed, "train"), *_batches(task.processed, "val")]
    test = list(_batches(task.processed, "test"))
    labels = [row.label for row in SliceStore.open(task.processed, "test").rows]
    before = peak_memory_mib(_CPU)
    began = process_time()
    torch.manual_seed(task.seed)
    bank = fit(normals)
    fitted = process_time()
    with torch.inference_mode():
        scores = torch.cat([score(batch) for batch in test])
    ended = process_time()
    return Measured(
        bank,
        float(roc_auc_score(labels, scores.numpy())),
        fitted - began,
        ended - fitted,
        before,
        peak_memory_mib(_CPU),
    )


def _alone(measure: Callable[[Task], Measured], task: Task) -> Measured:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, task).result()


def _batches(processed: Path, split: str) -> Iterator[Batch]:
    store = SliceStore.open(processed, split)  # type: ignore[arg-type]
    for start in range(0, len(store), _BATCH):
        yield Batch.of(store, range(start, min(start + _BATCH, len(store))))


def _normal_count(processed: Path) -> int:
    return sum(len(SliceStore.open(processed, split)) for split in ("train", "val"))


def _side(task: Task) -> int:
    return SliceStore.open(task.processed, "val").image_size_px


def _report(ours: Measured, theirs: Measured) -> None:
    typer.echo("| | bank | AUROC | fit, s | score, s | peak memory, MiB (before fitting) |")
    typer.echo("| --- | --- | --- | --- | --- | --- |")
    for name, found in (("ours", ours), ("anomalib", theirs)):
        typer.echo(
            f"| {name} | {found.bank} | {100 * found.auroc:.2f} | {found.fit_s:.1f} "
            f"| {found.score_s:.1f} | {found.peak_mib:.0f} ({found.before_mib:.0f}) |"
        )
    ratio, gap = theirs.seconds / ours.seconds, 100 * (ours.auroc - theirs.auroc)
    kept = "kept" if ratio >= BAR and gap >= -0.5 else "missed"
    typer.echo(f"{ratio:.1f} times as fast (bar {BAR:.0f}), AUROC {gap:+.2f}: {kept}")


if __name__ == "__main__":
    typer.run(main)
