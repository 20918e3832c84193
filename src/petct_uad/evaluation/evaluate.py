"""One trained run on the validation normals and, once, on the test split."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from petct_uad.evaluation.inference import (
    Cost,
    Scored,
    gflops_of_one_pair,
    peak_memory_mib,
    score_slices,
)
from petct_uad.evaluation.panels import choose_panels, panel_of, write_panel
from petct_uad.evaluation.results import (
    RESULT_FILES,
    PixelFigures,
    RunResults,
    measure,
    write_results,
)
from petct_uad.evaluation.tables import RunIdentity
from petct_uad.files import atomic_folder, write_json
from petct_uad.lineage.record import Derivation, Entity
from petct_uad.models.build import CONFIG_FILE, WEIGHTS_FILE, ModelConfig, load_model
from petct_uad.params import EvaluateParams
from petct_uad.slices.store import SliceStore, shard_path
from petct_uad.training.train import deterministic


@dataclass(frozen=True)
class EvaluationPaths:
    """Where a run is read from and written to."""

    processed: Path  # data/processed/<dataset>
    model: Path  # models/<run>
    metrics: Path  # metrics/runs/<run>
    cost: Path  # metrics/cost/<run>.json: differs between machines, so apart from the rest
    panels: Path  # reports/panels/<run>


def evaluate_run(
    run: str,
    paths: EvaluationPaths,
    params: EvaluateParams,
    *,
    dataset: str,
    protocol: Literal["patient", "cmad"],
    device: torch.device,
) -> tuple[Derivation, ...]:
    """Score, measure and draw one run; the only function that opens the test split.

    Returns:
        What each written file was made from.

    Raises:
        TrainingError: the run's weights or config are missing or do not fit.
        DatasetError: the splits hold nothing, or a shard is missing.
        EvaluationError: no validation normals, one class of test slices, or scores not finite.
    """
    model, config = load_model(paths.model, device)
    val, test = SliceStore.open(paths.processed, "val"), SliceStore.open(paths.processed, "test")
    normals = [i for i, row in enumerate(val.rows) if row.label == 0]
    everything = list(range(len(test)))
    with deterministic(params.seed):
        val_scored = score_slices(model, val, normals, device, f"{run}: validation normals")
        scored = score_slices(model, test, everything, device, f"{run}: test")
        gflops = gflops_of_one_pair(model, test, device)
    results = measure(
        _identity(run, config, dataset, protocol),
        val_scores=val_scored.scores,
        test_rows=test.rows,
        test_scores=scored.scores,
        params=params,
        pixels=PixelFigures.of(scored.maps, test.lesions(everything)),
    )
    write_results(paths.metrics, results)
    write_json(paths.cost, asdict(_cost(run, config, scored, gflops, device)))
    drawn = _write_panels(paths.panels, test, scored, results)
    return _derivations(paths, val, test, drawn)


def _identity(
    run: str, config: ModelConfig, dataset: str, protocol: Literal["patient", "cmad"]
) -> RunIdentity:
    return RunIdentity(
        run=run,
        model=config.run.model,
        modality=config.run.modality,
        trivial=False,
        dataset=dataset,
        protocol=protocol,
        parameters=config.learnt_values,
    )


def _cost(
    run: str, config: ModelConfig, scored: Scored, gflops: float, device: torch.device
) -> Cost:
    return Cost(
        run=run,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        threads=torch.get_num_threads(),
        scan=config.scan_backend,
        parameters=config.learnt_values,
        gflops_per_pair=gflops,
        pairs=len(scored.scores),
        seconds_per_pair=scored.seconds_per_pair,
        peak_memory_mib=peak_memory_mib(device),
    )


def _write_panels(
    folder: Path, test: SliceStore, scored: Scored, results: RunResults
) -> dict[str, int]:
    """Write best.png, median.png and worst.png; returns which test slice each shows."""
    scores = np.array([row.score for row in results.scores])
    chosen = choose_panels(np.array([row.label for row in results.scores]), scores)
    threshold = results.metrics.threshold
    with atomic_folder(folder) as out:
        for name, index in chosen.items():
            panel = panel_of(test, index, scores[index], threshold, scored.maps[index])
            write_panel(out / f"{name}.png", panel)
    return chosen


def _derivations(
    paths: EvaluationPaths, val: SliceStore, test: SliceStore, drawn: dict[str, int]
) -> tuple[Derivation, ...]:
    """Figures from the model and every shard, a panel from the model and its own study's shard."""
    model = tuple(
        Entity.of_file(path)
        for path in (
            paths.model / WEIGHTS_FILE,
            paths.model / CONFIG_FILE,
            paths.processed / "index.csv",
        )
    )
    studies = sorted({row.study_id for row in (*val.rows, *test.rows)})
    shards = {study: Entity.of_file(shard_path(paths.processed, study)) for study in studies}
    inputs = (*model, *shards.values())
    figures = [Derivation(Entity.of_file(paths.metrics / name), inputs) for name in RESULT_FILES]
    panels = [
        Derivation(
            Entity.of_file(paths.panels / f"{name}.png"), (*model, shards[test.rows[i].study_id])
        )
        for name, i in drawn.items()
    ]
    return (*figures, *panels)
