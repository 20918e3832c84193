"""What a larger split costs in memory: ``PYTHONPATH=src:. python benchmarks/memory.py``.

Shards of noise with a lesion in every fourth slice, half of the studies for training and half for
the test, at a quarter of the size and at the whole. On each, every step runs in a process of its
own: drawing every training batch once in a random order; scoring the test split with a PatchCore,
PET, CT and fused; measuring those scores. Printed is what the process took at its peak beyond what
it had when its libraries were loaded.

Fails where the larger split takes 100 MiB more than its slices' rows in the tables explain.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.table import Table

from petct_uad.core.console import console
from petct_uad.core.files import write_table
from petct_uad.core.params.base import VALIDATED
from petct_uad.core.params.reading import ParamsFile
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.run import EvaluationPaths, evaluate_entry
from petct_uad.evaluation.tables import MeasuredOn
from petct_uad.ingest.tables import StudyRow
from petct_uad.models.benchmark import BenchmarkEntry
from petct_uad.models.common.batch import Batch
from petct_uad.models.common.device import peak_memory_mib
from petct_uad.models.patchcore.params import PatchcoreParams
from petct_uad.scoring.data import ScoringPaths
from petct_uad.scoring.params import ScoreParams
from petct_uad.scoring.run import score_entry
from petct_uad.slices.store import Shard, SliceStore, write_index, write_shard
from petct_uad.slices.tables import ImageRow, SliceRow, shard_path
from petct_uad.teachers.params import TeacherParams
from petct_uad.training.params import TrainParams
from petct_uad.training.run import TrainingPaths, train_entry
from tests.samples import study_row

BAR_MIB = 100.0
_BATCH = 16
_ROW_MIB = 8 / 1024  # of the tables, per slice and step, as strings and dataclasses
_CPU = torch.device("cpu")
_ENTRY = BenchmarkEntry(
    model="patchcore",
    modalities=("pet", "ct", "petct"),
    params="models.patchcore",
    teacher="teacher",
    after=VALIDATED,
)


@dataclass(frozen=True)
class Cohort:
    """Studies of as many slices each, in the folder that a process works in."""

    folder: Path
    studies: int
    slices: int
    side_px: int
    patchcore: PatchcoreParams
    train: TrainParams

    @property
    def processed(self) -> Path:
        """With the shards and their index."""
        return self.folder / "processed"

    @property
    def scoring(self) -> ScoringPaths:
        """Where PatchCore lies and its scores go."""
        folder = self.folder
        scores, costs = folder / "scores/patchcore", folder / "cost"
        return ScoringPaths(self.processed, folder / "slices.csv", folder / "models", scores, costs)


def main(
    studies: Annotated[int, typer.Option(help="At the whole size; a multiple of 8.")] = 80,
    slices: Annotated[int, typer.Option(help="Per study.")] = 100,
    side_px: Annotated[int, typer.Option(help="Of the square slices.")] = 128,
) -> None:
    """Print the peak of each step at both sizes."""
    table = Table("step", *(f"{n * slices} slices, MiB" for n in (studies // 4, studies)), "bound")
    bound_mib = BAR_MIB + _ROW_MIB * slices * studies
    grown, params = False, ParamsFile.read()
    patchcore = params.section(PatchcoreParams, "models.patchcore")
    train = params.section(TrainParams, "train")
    with tempfile.TemporaryDirectory() as name, chdir(name):
        cohorts = [
            Cohort(Path(f"of_{n}"), n, slices, side_px, patchcore, train)
            for n in (studies // 4, studies)
        ]
        for cohort in cohorts:
            _alone(_make, cohort)
        for step in (draw_batches, score, evaluate):
            small, large = (_alone(step, cohort) for cohort in cohorts)
            grown |= large - small > bound_mib
            table.add_row(step.__name__, f"{small:.0f}", f"{large:.0f}", f"+{bound_mib:.0f}")
    console.print(table)
    raise typer.Exit(int(grown))


def draw_batches(cohort: Cohort) -> None:
    """Every training slice once, in a random order."""
    store = SliceStore.open(cohort.processed, "train")
    order = np.random.default_rng(0).permutation(len(store)).tolist()
    for start in range(0, len(store), _BATCH):
        Batch.of(store, order[start : start + _BATCH])


def score(cohort: Cohort) -> None:
    """Of every test slice a map and a score, from each modality and from both."""
    score_entry(_ENTRY, ScoreParams(fusion="max", z_sigma_mm=2.5), cohort.scoring, _CPU)


def evaluate(cohort: Cohort) -> None:
    """Every figure of those."""
    folder, scoring = cohort.folder, cohort.scoring
    paths = EvaluationPaths(
        cohort.processed,
        scoring.slices,
        folder / "studies.csv",
        scoring.scores,
        folder / "metrics",
        folder / "panels",
    )
    params = EvaluateParams(false_positive_rate=0.1, bootstrap_samples=50, confidence=0.95, seed=0)
    evaluate_entry(paths, params, MeasuredOn("noise", "patient"))


def _make(cohort: Cohort) -> None:
    """The shards, their tables, and a PatchCore of a few of their patches."""
    generator, rows = np.random.default_rng(0), []
    for number in range(cohort.studies):
        study = f"{number:05d}_1"
        split = "train" if number % 2 else "val" if number % 8 == 0 else "test"
        shard = _shard(generator, cohort, abnormal=split == "test")
        write_shard(shard_path(cohort.processed, study), shard)
        rows += [_image_row(study, split, i, shard) for i in range(cohort.slices)]
    write_index(cohort.processed, rows)
    write_table(cohort.scoring.slices, SliceRow, list(map(_slice_row, rows)))
    studies = [study_row(study_id=x) for x in sorted({row.study_id for row in rows})]
    write_table(cohort.folder / "studies.csv", StudyRow, studies)
    train_entry(
        entry=_ENTRY,
        params=cohort.patchcore.model_copy(update={"max_patches": 300, "coreset_fraction": 0.1}),
        teacher=TeacherParams(name="efficientnet_lite0", weights="random"),
        train=cohort.train.model_copy(update={"device": "cpu", "seeds": (0,)}),
        paths=TrainingPaths(
            cohort.processed,
            cohort.scoring.models,
            cohort.folder / "curves",
            cohort.folder / "kept",
        ),
    )


def _shard(generator: np.random.Generator, cohort: Cohort, *, abnormal: bool) -> Shard:
    """Noise, and in every fourth slice of an abnormal stack a bright square."""
    shape = (cohort.slices, cohort.side_px, cohort.side_px)
    noise = generator.random((2, *shape), dtype=np.float32) / 2
    lesion, side = np.zeros(shape, dtype=np.uint8), cohort.side_px // 16
    if abnormal:
        lesion[::4, 4 * side : 5 * side, 4 * side : 5 * side] = 1
    images = (noise + 0.4 * lesion).astype(np.float16)
    return Shard(images[0], images[1], lesion, np.ones_like(lesion))


def _image_row(study: str, split: str, at: int, shard: Shard) -> ImageRow:
    return ImageRow(
        slice_id=f"{study}_{at:04d}",
        study_id=study,
        patient=study,
        scanner="noise",
        split=split,
        label=int(shard.lesion[at].any()),
        position=at / len(shard),
        shard_row=at,
        lesion_area_mm2=float(shard.lesion[at].sum()),
        lesion_kept_fraction=1.0,
        suv_max=1.0,
        suv_mean=1.0,
        suv_total_ratio=1.0,
        body_area_mm2=60_000.0,
        ct_mean_hu=0.0,
        ct_std=0.1,
        pet_std=0.1,
        sha256=shard.sha256_of(at),
    )


def _slice_row(image: ImageRow) -> SliceRow:
    return SliceRow(
        slice_id=image.slice_id,
        study_id=image.study_id,
        patient=image.patient,
        scanner=image.scanner,
        slice_index=image.shard_row,
        z_mm=5.0 * image.shard_row,
        position=image.position,
        lesion_area_mm2=image.lesion_area_mm2,
        label=image.label,
        split=image.split,
        reason="made",
    )


def _alone(step: Callable[[Cohort], None], cohort: Cohort) -> float:
    """MiB that the step took in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_mib, step, cohort).result()


def _peak_mib(step: Callable[[Cohort], None], cohort: Cohort) -> float:
    torch.set_num_threads(1)
    before = peak_memory_mib(_CPU)
    step(cohort)
    return peak_memory_mib(_CPU) - before


if __name__ == "__main__":
    typer.run(main)
