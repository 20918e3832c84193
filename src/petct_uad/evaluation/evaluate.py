"""The rows of one model on the validation normals and, once, on the test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from petct_uad.core.files import atomic_folder, write_json
from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.evaluation.metrics import PixelFigures, choose_panels
from petct_uad.evaluation.panels import panel_of, write_panel
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.results import ResultPaths, RunResults, SeedScores, measure, write_results
from petct_uad.evaluation.tables import RunIdentity
from petct_uad.models.benchmark import BenchmarkEntry
from petct_uad.models.common.device import deterministic, peak_memory_mib
from petct_uad.scoring.fusion import LateFusion
from petct_uad.scoring.inference import Cost, Scored, gflops_of_one_pair, join, score_slices
from petct_uad.scoring.trained import TrainedModel, load_trained, model_files, seeds_of
from petct_uad.slices.store import SliceStore, shard_path


@dataclass(frozen=True)
class EvaluationPaths:
    """Where a family of rows is read from and written to, a folder or file per row."""

    processed: Path  # data/processed/<dataset>
    models: Path  # models/<family>
    metrics: Path  # metrics
    panels: Path  # reports/panels/<family>

    def results(self, run: str) -> ResultPaths:
        """The results of one row."""
        return ResultPaths.of(self.metrics, self.models.name, run)

    def cost(self, run: str) -> Path:
        """Differs between machines, so apart from the rest, and no output of a stage."""
        return self.metrics / f"cost/{run}.json"


@dataclass(frozen=True)
class _Data:
    """What every row is scored on."""

    paths: EvaluationPaths
    val: SliceStore
    test: SliceStore
    device: torch.device

    @property
    def normals(self) -> list[int]:
        return [i for i, row in enumerate(self.val.rows) if row.label == 0]


@dataclass(frozen=True)
class _Member:
    """One seed's model of one trained row on both splits."""

    trained: TrainedModel
    val: Scored  # the normals
    test: Scored


@dataclass(frozen=True)
class _Trial:
    """One seed of a row: its one member, or the two that are fused."""

    members: tuple[_Member, ...]
    scores: SeedScores
    maps: NDArray[np.float32]  # (n, S, S) of the test slices


def evaluate_family(
    family: BenchmarkEntry,
    paths: EvaluationPaths,
    params: EvaluateParams,
    *,
    dataset: str,
    protocol: Literal["patient", "cmad"],
    device: torch.device,
) -> dict[str, tuple[Derivation, ...]]:
    """Score, measure and draw every row of a model; the only function that opens the test split.

    Every seed's model is scored once, and a fused row joins the maps of two others. Maps take the
    memory of two seeds at most: panels are drawn from those of the first.

    Returns:
        For each row, what each written file was made from.

    Raises:
        TrainingError: weights or a config are missing or do not fit.
        DatasetError: the splits hold nothing, or a shard is missing.
        EvaluationError: no validation normals, one class of test slices, or scores not finite.
    """
    val, test = SliceStore.open(paths.processed, "val"), SliceStore.open(paths.processed, "test")
    data = _Data(paths, val, test, device)
    first, *others = seeds_of([paths.models / row for row in family.trained])
    with deterministic(params.seed, tf32=False):  # whatever train.tf32 says
        shown = _try_seed(family, first, data)
        scores = {run: [trial.scores] for run, trial in shown.items()}
        for seed in others:
            for run, trial in _try_seed(family, seed, data).items():
                scores[run].append(trial.scores)
    derived = {}
    for run, trial in shown.items():
        gflops = _gflops(trial, data)
        identity = _identity(run, family, trial, dataset, protocol, gflops=gflops)
        results = measure(identity, seeds=scores[run], test_rows=test.rows, params=params)
        write_results(paths.results(run), results)
        write_json(paths.cost(run), asdict(_cost(run, trial, data, gflops)))
        drawn = _write_panels(paths.panels / run, test, trial.maps, results)
        derived[run] = _derivations(run, family.rows[run], (first, *others), data, drawn)
    return derived


def _try_seed(family: BenchmarkEntry, seed: int, data: _Data) -> dict[str, _Trial]:
    members = {row: _score_member(row, seed, data) for row in family.trained}
    lesions = data.test.lesions(range(len(data.test)))
    return {
        run: _try_row(seed, [members[part] for part in parts], lesions)
        for run, parts in family.rows.items()
    }


def _score_member(row: str, seed: int, data: _Data) -> _Member:
    trained = load_trained(data.paths.models / row, seed, data.device)
    what = f"{row}, seed {seed}"
    every = list(range(len(data.test)))
    return _Member(
        trained,
        score_slices(trained.model, data.val, data.normals, data.device, f"{what}: val normals"),
        score_slices(trained.model, data.test, every, data.device, f"{what}: test"),
    )


def _try_row(seed: int, members: Sequence[_Member], lesions: NDArray[np.bool_]) -> _Trial:
    val, test = _fused(members) if len(members) > 1 else (members[0].val, members[0].test)
    pixels = PixelFigures.of(test.maps, lesions)
    return _Trial(tuple(members), SeedScores(seed, val.scores, test.scores, pixels), test.maps)


def _fused(members: Sequence[_Member]) -> tuple[Scored, Scored]:
    """The members' maps joined, and scored as the first member scores its own."""
    val, test = ([getattr(x, split) for x in members] for split in ("val", "test"))
    fusion = LateFusion.of_normals([torch.from_numpy(x.maps) for x in val])
    model = members[0].trained.model
    return join(model, fusion, val), join(model, fusion, test)


def _identity(
    run: str,
    family: BenchmarkEntry,
    trial: _Trial,
    dataset: str,
    protocol: Literal["patient", "cmad"],
    *,
    gflops: float,
) -> RunIdentity:
    configs = [member.trained.config for member in trial.members]
    return RunIdentity(
        run=run,
        model=family.model,
        modality=configs[0].run.modality if len(configs) == 1 else "petct",
        trivial=False,
        dataset=dataset,
        protocol=protocol,
        parameters=sum(config.learnt_values for config in configs),
        scan=configs[0].scan_backend,
        gflops_per_pair=gflops,
    )


def _gflops(trial: _Trial, data: _Data) -> float:
    """A fused row takes what its members do; joining two maps is next to nothing."""
    models = (member.trained.model for member in trial.members)
    return sum(gflops_of_one_pair(model, data.test, data.device) for model in models)


def _cost(run: str, trial: _Trial, data: _Data, gflops: float) -> Cost:
    device, members = data.device, trial.members
    configs = [member.trained.config for member in members]
    return Cost(
        run=run,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        threads=torch.get_num_threads(),
        scan=configs[0].scan_backend,
        parameters=sum(config.learnt_values for config in configs),
        gflops_per_pair=gflops,
        pairs=len(trial.scores.test),
        seconds_per_pair=sum(member.test.seconds_per_pair for member in members),
        process_peak_memory_mib=peak_memory_mib(device),
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
    run: str,
    parts: Sequence[str],
    seeds: tuple[int, ...],
    data: _Data,
    drawn: dict[str, int],
) -> tuple[Derivation, ...]:
    """Figures from all models and every shard.

    A panel comes from the first seed's model and its own study's shard. Joined models are
    calibrated on the validation normals, so that their panels come from those shards too.
    """
    paths = data.paths
    index = Entity.of_file(paths.processed / "index.csv")
    rows = [paths.models / part for part in parts]
    models, shown = (
        (index, *map(Entity.of_file, model_files(rows, chosen))) for chosen in (seeds, seeds[:1])
    )
    studies = sorted({row.study_id for row in (*data.val.rows, *data.test.rows)})
    shards = {study: Entity.of_file(shard_path(paths.processed, study)) for study in studies}
    inputs = (*models, *shards.values())
    if len(parts) > 1:
        shown += tuple(shards[study] for study in sorted({row.study_id for row in data.val.rows}))
    figures = [Derivation(Entity.of_file(path), inputs) for path in paths.results(run).files]
    panels = [
        Derivation(
            Entity.of_file(paths.panels / run / f"{name}.png"),
            (*shown, shards[data.test.rows[i].study_id]),
        )
        for name, i in drawn.items()
    ]
    return (*figures, *panels)
