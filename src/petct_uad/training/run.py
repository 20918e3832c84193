"""The train stage: the rows of one model, from shards to weights."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Self

import torch

from petct_uad.core.console import console
from petct_uad.core.errors import TrainingError
from petct_uad.core.files import sha256_file, write_json, write_table
from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.models.benchmark import BenchmarkEntry, RunParams
from petct_uad.models.build import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    ModelConfig,
    build_model,
    seed_folder,
    teacher_sha256,
)
from petct_uad.models.common.batch import at_side
from petct_uad.models.common.device import choose_device, deterministic, peak_memory_mib
from petct_uad.models.common.interface import AnomalyModel, FitPoint, FittedModel, GradientModel
from petct_uad.models.common.params import AnyModelParams, FittedParams, GradientParams
from petct_uad.slices.store import SliceStore, files_of
from petct_uad.slices.tables import TRAINING
from petct_uad.teachers.params import TeacherParams
from petct_uad.teachers.weights import save_state
from petct_uad.training.loop.checkpoints import CheckpointFile, checkpoint_key
from petct_uad.training.loop.data import Normals
from petct_uad.training.loop.gradient import GradientTraining, TrainingSetup
from petct_uad.training.loop.ranks import ALONE, Ranks
from petct_uad.training.loop.tables import LoggedRow, TrainingRow
from petct_uad.training.params import TrainParams
from petct_uad.training.together import Tell, train_at_once, trainings_at_once

LOGGED_FILE = "logged.csv"
_SLICES = 1000  # of a small cohort


@dataclass(frozen=True)
class TrainedRun:
    """What a training run read and wrote."""

    inputs: tuple[Path, ...]  # index and shards of training and validation studies, a PDN teacher
    outputs: tuple[Path, ...]  # of every seed, and the curve
    teacher: Entity

    @property
    def derivations(self) -> list[Derivation]:
        """Every output from every input."""
        inputs = (self.teacher, *map(Entity.of_file, self.inputs))
        return [Derivation(Entity.of_file(path), inputs) for path in self.outputs]


@dataclass(frozen=True)
class Learnt:
    """The curve of one training, and further figures where the model has any."""

    rows: list[TrainingRow]
    logged: list[LoggedRow]
    precision: torch.dtype = torch.float32  # of matrix products; a fitted model knows no other
    iterations: int = 0  # gradient steps of the schedule; a fitted model takes none


@dataclass(frozen=True)
class TrainingPaths:
    """Where the rows of an entry of the benchmark are trained from and to."""

    processed: Path  # data/processed/<dataset>
    models: Path  # models/<entry>, a folder per row
    curves: Path  # metrics/training/<entry>, a file per row
    checkpoints: Path  # .checkpoints/<entry>, a folder per row until all are trained

    @classmethod
    def of(cls, dataset: str, entry: str) -> Self:
        """Those of a data set and an entry, below the repository's root."""
        return cls(
            processed=Path("data/processed") / dataset,
            models=Path("models") / entry,
            curves=Path("metrics/training") / entry,
            checkpoints=Path(".checkpoints") / entry,
        )


def train_entry(
    *,
    entry: BenchmarkEntry,
    params: AnyModelParams,
    teacher: TeacherParams,
    train: TrainParams,
    paths: TrainingPaths,
    ranks: Ranks = ALONE,
) -> dict[str, TrainedRun]:
    """Train or fit the rows of one model, each as :func:`train_run` does.

    When killed it resumes at the next call; rows that were done by then come from their
    checkpoints, since DVC deletes the outputs of a stage before it starts it again.

    Raises:
        PetctError: as :func:`train_run`.
    """
    tasks = {
        row: TrainingTask(
            run=run,
            params=params,
            teacher=teacher,
            train=train,
            image_size_px=entry.image_size_px,
            processed=paths.processed,
            model_folder=paths.models / row,
            curve_file=paths.curves / f"{row}.csv",
            checkpoint_folder=paths.checkpoints / row,
        )
        for row, run in entry.trained.items()
    }
    trained = _train(tasks, ranks)
    if ranks.first:
        shutil.rmtree(paths.checkpoints, ignore_errors=True)
    return trained


@dataclass(frozen=True)
class TrainingTask:
    """One row to train, with every seed.

    Attributes:
        run: which model, on which modalities.
        params: that model's own section.
        teacher: the frozen network.
        train: seeds, device, precision, iterations between validations.
        processed: ``data/processed/<dataset>``.
        model_folder: takes ``seed-<n>/weights.safetensors`` and ``config.json`` of each seed, and
            ``logged.csv`` where a model has more to say than its loss.
        curve_file: takes the training curves, as CSV.
        image_size_px: side of the model's input; by default that of the shards.
        checkpoint_folder: keeps the state of the run, also when it has ended, if
            ``train.checkpoint_every``.
    """

    run: RunParams
    params: AnyModelParams
    teacher: TeacherParams
    train: TrainParams
    processed: Path
    model_folder: Path
    curve_file: Path
    image_size_px: int | None = None
    checkpoint_folder: Path | None = None


def train_run(task: TrainingTask, ranks: Ranks = ALONE) -> TrainedRun:
    """Train or fit one model per seed on training normals; validation normals choose, calibrate.

    The test split is never opened, and nothing of a slice but its PET and CT pixels is used.

    Args:
        task: the row.
        ranks: the processes that train together; only the first writes.

    Raises:
        DatasetError: a split is empty or a shard is missing.
        ParamsError: the device is absent or lacks the precision, or the model's params do not fit.
        TeacherError: the teacher's weights are missing or do not fit.
        TrainingError: no normal slice, or training diverged.
    """
    return _train({"": task}, ranks)[""]


def _train(tasks: Mapping[str, TrainingTask], ranks: Ranks) -> dict[str, TrainedRun]:
    """Every seed of every row, several at once where that is faster."""
    seeds = [_SeedTask(task, seed) for task in tasks.values() for seed in sorted(task.train.seeds)]
    device = choose_device(seeds[0].row.train.device)
    count = trainings_at_once(device, [seed.iterations for seed in seeds], ranks.count)
    if count == 1:
        trained = [_train_seed(seed, ranks=ranks) for seed in seeds]
    else:
        names = [seed.name for seed in seeds]
        trained = train_at_once(_train_seed, seeds, names, count)
    return {
        row: _finish(
            task,
            [done for seed, done in zip(seeds, trained, strict=True) if seed.row is task],
            ranks,
        )
        for row, task in tasks.items()
    }


def _finish(task: TrainingTask, trained: Sequence[_TrainedSeed], ranks: Ranks) -> TrainedRun:
    """Write the curves of a row, and say what was read and written."""
    if ranks.first:
        write_table(task.curve_file, TrainingRow, [row for one in trained for row in one.rows])
    outputs = [path for one in trained for path in one.files]
    network = Entity(f"teacher:{task.teacher.name}", trained[0].teacher_sha256)
    return TrainedRun(trained[0].inputs, (*outputs, task.curve_file), network)


def learn(
    model: AnomalyModel,
    params: AnyModelParams,
    setup: TrainingSetup,
    normals: Normals,
    held_out: Normals,
) -> Learnt:
    """Train or fit ``model`` in place, then calibrate it on ``held_out``.

    Raises:
        ParamsError: the device lacks the precision, or a batch is too small for the processes.
        TrainingError: training diverged, or the params have no schedule for this model.
    """
    if isinstance(model, GradientModel) and isinstance(params, GradientParams):
        training = GradientTraining(model, params.schedule, setup, normals, held_out)
        progress = training.run()
        steps = training.schedule.iterations
        learnt = Learnt(progress.rows, progress.logged, training.precision, steps)
    elif isinstance(model, FittedModel):
        points = model.fit(normals, held_out)
        learnt = Learnt([_fit_row(setup.seed, point) for point in points], [])
    else:
        raise TrainingError(f"{type(model).__name__}: its params hold no schedule")
    model.eval().calibrate(held_out)
    return learnt


def save_model(model: AnomalyModel, config: ModelConfig[AnyModelParams], folder: Path) -> None:
    """Write weights and configuration atomically; the same state gives the same bytes."""
    save_state(folder / WEIGHTS_FILE, model.student_state())
    write_json(folder / CONFIG_FILE, config.model_dump(mode="json"))


@dataclass(frozen=True)
class _SeedTask:
    """One training of a row."""

    row: TrainingTask
    seed: int

    @property
    def name(self) -> str:
        return f"{self.row.run.model}-{self.row.run.modality}, seed {self.seed}"

    @property
    def iterations(self) -> int:
        """Of its schedule, roughly where that counts passes; 0 for a model that is fitted."""
        params = self.row.params
        if isinstance(params, FittedParams):
            return 0
        return params.schedule.counted(_SLICES).iterations


@dataclass(frozen=True)
class _Job:
    """A training with what it reads."""

    task: TrainingTask
    seed: int
    data_sha256: tuple[str, ...]  # training.csv, which hashes every slice; a distilled teacher
    stores: tuple[SliceStore, ...]  # training, validation
    device: torch.device
    ranks: Ranks

    @property
    def image_size_px(self) -> int:
        return self.stores[0].image_size_px

    @property
    def batch_size(self) -> int:
        params = self.task.params
        return params.batch_size if isinstance(params, FittedParams) else params.schedule.batch_size


@dataclass(frozen=True)
class _TrainedSeed:
    rows: list[TrainingRow]
    inputs: tuple[Path, ...]
    files: tuple[Path, ...]
    teacher_sha256: str


def _silent(_done: int, _total: int) -> None:
    """For a training that shows its own bar."""


def _train_seed(seed: _SeedTask, tell: Tell = _silent, ranks: Ranks = ALONE) -> _TrainedSeed:
    started, task = monotonic(), seed.row
    after = _files_below(Path(task.run.after))
    job = _open(seed, after, ranks)
    with deterministic(seed.seed, algorithms=task.train.deterministic, tf32=task.train.tf32):
        model = build_model(task.run, task.params, task.teacher, job.image_size_px).to(job.device)
        normals, held_out = (Normals(store, job.batch_size, job.device) for store in job.stores)
        checkpoints = _checkpoints(job, teacher_sha256(model))
        setup = TrainingSetup(task.train, seed.seed, checkpoints, ranks, tell)
        learnt = learn(model, task.params, setup, normals, held_out)
    _report_cost(model, seed, monotonic() - started, learnt.rows[-1], job.device)
    config = _describe(model, job, learnt)
    inputs = (*files_of(task.processed, job.stores), *after)
    files = _write_seed(job, model, config, learnt)
    return _TrainedSeed(learnt.rows, inputs, files, config.teacher_sha256)


def _open(seed: _SeedTask, after: Sequence[Path], ranks: Ranks) -> _Job:
    task = seed.row
    return _Job(
        task=task,
        seed=seed.seed,
        data_sha256=tuple(map(sha256_file, (task.processed / TRAINING, *after))),
        stores=tuple(
            at_side(SliceStore.open(task.processed, split), task.image_size_px)
            for split in ("train", "val")
        ),
        device=choose_device(task.train.device),
        ranks=ranks,
    )


def _fit_row(seed: int, point: FitPoint) -> TrainingRow:
    return TrainingRow(seed, point.size, point.train, point.held_out, None)


def _checkpoints(job: _Job, teacher_hash: str) -> CheckpointFile | None:
    task = job.task
    if task.checkpoint_folder is None or not task.train.checkpoint_every:
        return None
    sections = (task.run, task.params, task.teacher, task.train)
    key = checkpoint_key(
        *(section.model_dump_json() for section in sections),
        *job.data_sha256,
        teacher_hash,
        f"{job.image_size_px} px, {job.device.type}, {job.ranks.count} processes, seed {job.seed}",
        f"torch {torch.__version__}",
    )
    path = seed_folder(task.checkpoint_folder, job.seed) / "checkpoint.safetensors"
    return CheckpointFile(path, key, task.train.checkpoint_every)


def _write_seed(
    job: _Job, model: AnomalyModel, config: ModelConfig[AnyModelParams], learnt: Learnt
) -> tuple[Path, ...]:
    """The files of one seed; written by the first rank only."""
    folder = seed_folder(job.task.model_folder, config.seed)
    logged = (folder / LOGGED_FILE,) if learnt.logged else ()
    if job.ranks.first:
        save_model(model, config, folder)
        for path in logged:
            write_table(path, LoggedRow, learnt.logged)
    return (folder / WEIGHTS_FILE, folder / CONFIG_FILE, *logged)


def _describe(model: AnomalyModel, job: _Job, found: Learnt) -> ModelConfig[AnyModelParams]:
    learnt, task = model.student_state(), job.task
    frozen = [x for name, x in model.state_dict(keep_vars=True).items() if name not in learnt]
    return ModelConfig(
        run=task.run,
        params=task.params,
        teacher=task.teacher,
        seed=job.seed,
        teacher_sha256=teacher_sha256(model),
        image_size_px=job.image_size_px,
        precision=str(found.precision).removeprefix("torch."),
        iterations=found.iterations,
        scan_backend=_scan_backend(model, task.params, job.device),
        teacher_parameters=sum({id(x): x.numel() for x in frozen}.values()),
        learnt_values=sum(x.numel() for x in learnt.values()),
    )


def _scan_backend(model: AnomalyModel, params: AnyModelParams, device: torch.device) -> str:
    if not hasattr(params, "scan"):
        return "none"
    # Here, since only models with a scan need its compiler.
    from petct_uad.ops.selective_scan.scan import resolve_backend
    from petct_uad.ops.selective_scan.ss2d import SS2D

    used = any(isinstance(module, SS2D) for module in model.modules())
    return resolve_backend(params.scan, device) if used else "none"


def _files_below(folder: Path) -> list[Path]:
    """Every file of a folder, such as a distilled teacher's; none of what is no folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []


def _report_cost(
    model: AnomalyModel, seed: _SeedTask, seconds: float, last: TrainingRow, device: torch.device
) -> None:
    """Say what it took; not part of any output, since it differs from run to run."""
    unit = "iterations" if isinstance(model, GradientModel) else "bank patches"
    console.print(
        f"{seed.name}, on {device}: {last.iteration} {unit} in {seconds:.1f} s, "
        f"validation {last.val_loss:.4f}, peak {peak_memory_mib(device):.0f} MiB"
    )
