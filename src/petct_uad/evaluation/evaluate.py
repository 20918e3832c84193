"""One row of the benchmark on the validation normals and, once, on the test split."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from petct_uad.evaluation.inference import Cost, batches, gflops_of_one_pair, score_slices
from petct_uad.evaluation.metrics import PixelFigures, choose_panels
from petct_uad.evaluation.panels import panel_of, write_panel
from petct_uad.evaluation.results import (
    RESULT_FILES,
    RunResults,
    SeedScores,
    measure,
    write_results,
)
from petct_uad.evaluation.tables import RunIdentity
from petct_uad.evaluation.trained import TrainedModel, load_trained, model_files, seeds_of
from petct_uad.files import atomic_folder, write_json
from petct_uad.lineage.record import Derivation, Entity
from petct_uad.memory import peak_memory_mib
from petct_uad.params import EvaluateParams
from petct_uad.slices.store import SliceStore, shard_path
from petct_uad.training.device import deterministic


@dataclass(frozen=True)
class EvaluationPaths:
    """Where a run is read from and written to."""

    processed: Path  # data/processed/<dataset>
    models: tuple[Path, ...]  # models/<row>: the trained row, or the two that are fused, PET first
    metrics: Path  # metrics/runs/<run>
    cost: Path  # metrics/cost/<run>.json: differs between machines, so apart from the rest
    panels: Path  # reports/panels/<run>


@dataclass(frozen=True)
class _Trial:
    """One seed's model on both splits."""

    trained: TrainedModel
    scores: SeedScores
    maps: NDArray[np.float32]  # (n, S, S) of the test slices
    seconds_per_pair: float


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

    Every seed's model is scored. Maps take the memory of two seeds at most: panels are drawn from
    those of the first.

    Returns:
        What each written file was made from.

    Raises:
        TrainingError: the run's weights or config are missing or do not fit.
        DatasetError: the splits hold nothing, or a shard is missing.
        EvaluationError: no validation normals, one class of test slices, or scores not finite.
    """
    val, test = SliceStore.open(paths.processed, "val"), SliceStore.open(paths.processed, "test")
    first, *others = seeds_of(paths.models)
    with deterministic(params.seed):
        shown = _try_seed(run, load_trained(paths.models, first, device), val, test, device)
        rest = [
            _try_seed(run, load_trained(paths.models, seed, device), val, test, device).scores
            for seed in others
        ]
        gflops = gflops_of_one_pair(shown.trained.model, test, device)
    results = measure(
        _identity(run, shown.trained, dataset, protocol, gflops),
        seeds=[shown.scores, *rest],
        test_rows=test.rows,
        params=params,
    )
    write_results(paths.metrics, results)
    write_json(paths.cost, asdict(_cost(run, shown, gflops, device)))
    drawn = _write_panels(paths.panels, test, shown.maps, results)
    return _derivations(paths, (first, *others), val, test, drawn)


def _try_seed(
    run: str, trained: TrainedModel, val: SliceStore, test: SliceStore, device: torch.device
) -> _Trial:
    """Calibrate two joined models, then score the validation normals and the test split."""
    normals = [i for i, row in enumerate(val.rows) if row.label == 0]
    everything = list(range(len(test)))
    if len(trained.configs) > 1:
        trained.model.calibrate(batches(val, normals, device))
    what = f"{run}, seed {trained.seed}"
    chosen = score_slices(trained.model, val, normals, device, f"{what}: validation normals")
    scored = score_slices(trained.model, test, everything, device, f"{what}: test")
    pixels = PixelFigures.of(scored.maps, test.lesions(everything))
    return _Trial(
        trained,
        SeedScores(trained.seed, chosen.scores, scored.scores, pixels),
        scored.maps,
        scored.seconds_per_pair,
    )


def _identity(
    run: str,
    trained: TrainedModel,
    dataset: str,
    protocol: Literal["patient", "cmad"],
    gflops: float,
) -> RunIdentity:
    return RunIdentity(
        run=run,
        model=trained.configs[0].run.model,
        modality=trained.modality,
        trivial=False,
        dataset=dataset,
        protocol=protocol,
        parameters=trained.learnt_values,
        scan=trained.scan_backend,
        gflops_per_pair=gflops,
    )


def _cost(run: str, trial: _Trial, gflops: float, device: torch.device) -> Cost:
    return Cost(
        run=run,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        threads=torch.get_num_threads(),
        scan=trial.trained.scan_backend,
        parameters=trial.trained.learnt_values,
        gflops_per_pair=gflops,
        pairs=len(trial.scores.test),
        seconds_per_pair=trial.seconds_per_pair,
        peak_memory_mib=peak_memory_mib(device),
    )


def _write_panels(
    folder: Path, test: SliceStore, maps: NDArray[np.float32], results: RunResults
) -> dict[str, int]:
    """Write the first seed's {best,median,worst}.png; returns which test slice each shows."""
    first = results.scores_by_seed[0]
    chosen = choose_panels(first.labels, first.scores)
    with atomic_folder(folder) as out:
        for name, index in chosen.items():
            write_panel(out / f"{name}.png", panel_of(test, index, maps[index]))
    return chosen


def _derivations(
    paths: EvaluationPaths,
    seeds: tuple[int, ...],
    val: SliceStore,
    test: SliceStore,
    drawn: dict[str, int],
) -> tuple[Derivation, ...]:
    """Figures from all models and every shard.

    A panel comes from the first seed's model and its own study's shard. Joined models are
    calibrated on the validation normals, so that their panels come from those shards too.
    """
    index = Entity.of_file(paths.processed / "index.csv")
    models, shown = (
        (index, *map(Entity.of_file, model_files(paths.models, chosen)))
        for chosen in (seeds, seeds[:1])
    )
    studies = sorted({row.study_id for row in (*val.rows, *test.rows)})
    shards = {study: Entity.of_file(shard_path(paths.processed, study)) for study in studies}
    inputs = (*models, *shards.values())
    if len(paths.models) > 1:
        shown += tuple(shards[study] for study in sorted({row.study_id for row in val.rows}))
    figures = [Derivation(Entity.of_file(paths.metrics / name), inputs) for name in RESULT_FILES]
    panels = [
        Derivation(
            Entity.of_file(paths.panels / f"{name}.png"), (*shown, shards[test.rows[i].study_id])
        )
        for name, i in drawn.items()
    ]
    return (*figures, *panels)
