"""A tiny store and tiny trainings; as a script, one CMAD training that a test can kill."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from petct_uad.core.console import fail_cleanly
from petct_uad.core.files import read_table, write_table
from petct_uad.core.params.base import VALIDATED, Modality
from petct_uad.models.benchmark import BenchmarkEntry
from petct_uad.models.cmad.params import CmadParams
from petct_uad.models.patchcore.params import PatchcoreParams
from petct_uad.slices.store import Shard, read_shard, write_index, write_shard
from petct_uad.slices.tables import ImageRow, ReadingRow, shard_path
from petct_uad.teachers.params import TeacherParams
from petct_uad.training.loop.ranks import join_ranks
from petct_uad.training.run import TrainedRun, TrainingPaths, train_entry
from tests import samples

SIDE = 64
TEACHER = TeacherParams(name="efficientnet_lite0", weights="bundled")
SCHEDULE = samples.schedule(
    iterations=6,
    batch_size=4,
    decay="cosine",
    final_learning_rate=1e-4,
    warmup_iterations=2,
    weight_decay=1e-4,
    gradient_clip=0.1,
)
TRAIN = samples.train_section()
CMAD = samples.cmad_section(cmpt=2, gfr=False, levels=2, width=16, schedule=SCHEDULE)
PATCHCORE = PatchcoreParams(
    strides=(8, 16),
    enlarge=1,
    max_patches=200,
    coreset_fraction=0.1,
    neighbours=3,
    map_sigma_px=4.0,
    batch_size=4,
)
PARAMS = {"cmad": "model", "patchcore": "models.patchcore"}


def write_store(folder: Path, cell_px: int = 1) -> Path:
    """Six training, three validation and two test slices, one study each.

    They are noise, in squares of ``cell_px``.
    """
    rows: list[ImageRow] = []
    for number, (split, count) in enumerate([("train", 6), ("val", 3), ("test", 2)]):
        study = f"p{number}_00000000"
        cells = np.random.default_rng(number).random((2, count, *[SIDE // cell_px] * 2))
        pixels = cells.repeat(cell_px, 2).repeat(cell_px, 3).astype(np.float16)
        empty = np.zeros((count, SIDE, SIDE), np.uint8)
        shard = Shard(ct=pixels[0], pet=pixels[1], lesion=empty, body=empty + 1)
        write_shard(shard_path(folder, study), shard)
        rows += [
            samples.image_row(
                slice_id=f"{study}_{index:04d}",
                study_id=study,
                patient=study[:2],
                split=split,
                shard_row=index,
                sha256=shard.sha256_of(index),
            )
            for index in range(count)
        ]
    write_index(folder, rows)
    readings = [samples.reading_row(slice_id=row.slice_id) for row in rows]
    write_table(folder / "readings.csv", ReadingRow, readings)
    return folder


def label_slices(processed: Path, split: str, labels: Sequence[int]) -> None:
    """Give the slices of a split these labels, with lesions to match: areas, masks, hashes."""
    index = read_table(processed / "index.csv", ImageRow)
    chosen = [row for row in index if row.split == split]
    path = shard_path(processed, chosen[0].study_id)
    shard = read_shard(path)
    masks = np.zeros_like(shard.lesion)
    masks[np.flatnonzero(labels), :8, :8] = 1
    shard = replace(shard, lesion=masks)
    write_shard(path, shard)
    changed = {
        row.slice_id: replace(
            row, label=label, lesion_area_mm2=64.0 * label, sha256=shard.sha256_of(row.shard_row)
        )
        for row, label in zip(chosen, labels, strict=True)
    }
    write_index(processed, [changed.get(x.slice_id, x) for x in index])


def train(
    processed: Path,
    out: Path,
    model: str = "cmad",
    *,
    modalities: tuple[Modality, ...] | None = None,
    schedule: dict[str, Any] | None = None,
    gfr: bool = False,
    **settings: Any,
) -> dict[str, TrainedRun]:
    """Train below ``out``, by default one row; ``settings`` are keys of the train section."""
    section: CmadParams | PatchcoreParams = PATCHCORE
    if model == "cmad":
        changed = SCHEDULE.model_copy(update=schedule or {})
        section = CMAD.model_copy(update={"schedule": changed, "gfr": gfr})
    entry = BenchmarkEntry(
        model=model,
        modalities=modalities or ("petct" if model == "cmad" else "pet",),
        params=PARAMS[model],
        teacher="teacher",
        after=VALIDATED,
    )
    with join_ranks() as ranks:
        return train_entry(
            entry=entry,
            params=section,
            teacher=TEACHER,
            train=TRAIN.model_copy(update=settings),
            paths=TrainingPaths(processed, out / "models", out / "curves", out / "checkpoints"),
            ranks=ranks,
        )


if __name__ == "__main__":
    with fail_cleanly():
        settings = json.loads(sys.argv[3])
        settings["seeds"] = tuple(settings["seeds"])
        settings["modalities"] = tuple(settings["modalities"])
        train(Path(sys.argv[1]), Path(sys.argv[2]), **settings)
