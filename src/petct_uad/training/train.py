"""The train stage: one benchmark row, from shards to weights."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import torch
from safetensors.torch import save_file

from petct_uad.console import console
from petct_uad.errors import ParamsError, TrainingError
from petct_uad.files import atomic_path, write_json, write_table
from petct_uad.models.build import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    ModelConfig,
    build_model,
    teacher_sha256,
)
from petct_uad.models.interface import AnomalyModel, FittedModel, GradientModel
from petct_uad.params import CmadParams, PatchcoreParams, RunParams, TeacherParams, TrainParams
from petct_uad.slices.store import SliceStore, shard_path
from petct_uad.training.data import Normals
from petct_uad.training.tables import TrainingRow


@dataclass(frozen=True)
class TrainedRun:
    """What a training run read and wrote, for its lineage."""

    inputs: tuple[Path, ...]  # index and shards of the training and validation studies
    outputs: tuple[Path, ...]
    teacher_sha256: str


def train_run(
    *,
    run: RunParams,
    params: CmadParams | PatchcoreParams,
    teacher: TeacherParams,
    train: TrainParams,
    processed: Path,
    model_folder: Path,
    curve_file: Path,
) -> TrainedRun:
    """Train or fit one model on training normals; validation normals choose and calibrate.

    The test split is never opened, and nothing of a slice but its PET and CT pixels is used.

    Args:
        run: which model, on which modalities.
        params: that model's own section.
        teacher: the frozen network.
        train: seed, device, iterations between validations.
        processed: ``data/processed/<dataset>``.
        model_folder: takes ``weights.safetensors`` and ``config.json``.
        curve_file: takes the training curve, ``training.csv``.

    Raises:
        DatasetError: a split is empty or a shard is missing.
        TeacherError: the teacher's weights are missing or do not fit.
        TrainingError: no normal slice, or training diverged.
    """
    stores = [SliceStore.open(processed, split) for split in ("train", "val")]
    device = choose_device(train.device)
    started = monotonic()
    with deterministic(train.seed):
        model = build_model(run, params, teacher, stores[0].image_size_px).to(device)
        size = params.schedule.batch_size if isinstance(params, CmadParams) else params.batch_size
        normals, held_out = (Normals(store, size, device) for store in stores)
        rows = learn(model, params, train, normals, held_out)
    _report_cost(model, monotonic() - started, rows[-1], device)
    config = _describe(model, run, params, teacher, image_size_px=stores[0].image_size_px)
    save_model(model, config, model_folder)
    write_table(curve_file, TrainingRow, rows)
    studies = sorted({row.study_id for store in stores for row in store.rows})
    return TrainedRun(
        (processed / "index.csv", *(shard_path(processed, study) for study in studies)),
        (model_folder / WEIGHTS_FILE, model_folder / CONFIG_FILE, curve_file),
        config.teacher_sha256,
    )


def learn(
    model: AnomalyModel,
    params: CmadParams | PatchcoreParams,
    train: TrainParams,
    normals: Normals,
    held_out: Normals,
) -> list[TrainingRow]:
    """Train or fit ``model`` in place, then calibrate it on ``held_out``.

    Raises:
        TrainingError: training diverged, or the params have no schedule for this model.
    """
    if isinstance(model, GradientModel) and isinstance(params, CmadParams):
        from petct_uad.training.gradient import GradientTraining

        training = GradientTraining(model, params.schedule, normals, held_out)
        rows = training.run(train.seed, train.validate_every)
    elif isinstance(model, FittedModel):
        points = model.fit(normals, held_out)
        rows = [TrainingRow(point.size, point.train, point.held_out, None) for point in points]
    else:
        raise TrainingError(f"{type(model).__name__}: its params hold no schedule")
    model.eval().calibrate(held_out)
    return rows


def save_model(model: AnomalyModel, config: ModelConfig, folder: Path) -> None:
    """Write weights and configuration atomically; the same state gives the same bytes."""
    state = {name: x.detach().cpu().contiguous() for name, x in model.student_state().items()}
    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        save_file(state, temporary)
    write_json(folder / CONFIG_FILE, config.model_dump(mode="json"))


def choose_device(name: str) -> torch.device:
    """``auto`` is a GPU where there is one.

    Raises:
        ParamsError: ``cuda`` is asked for and absent.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ParamsError("train.device = 'cuda': torch sees no GPU here. Set it to auto or cpu.")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Seed torch and forbid algorithms whose result depends on timing; both end with the block."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is otherwise not
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


def _describe(
    model: AnomalyModel,
    run: RunParams,
    params: CmadParams | PatchcoreParams,
    teacher: TeacherParams,
    *,
    image_size_px: int,
) -> ModelConfig:
    learnt = model.student_state()
    frozen = [x for name, x in model.state_dict(keep_vars=True).items() if name not in learnt]
    return ModelConfig(
        run=run,
        params=params,
        teacher=teacher,
        teacher_sha256=teacher_sha256(model),
        image_size_px=image_size_px,
        scan_backend=_scan_backend(params, next(iter(learnt.values())).device),
        teacher_parameters=sum({id(x): x.numel() for x in frozen}.values()),
        learnt_values=sum(x.numel() for x in learnt.values()),
    )


def _scan_backend(params: CmadParams | PatchcoreParams, device: torch.device) -> str:
    if not (isinstance(params, CmadParams) and params.gfr):
        return "none"
    from petct_uad.ops.selective_scan.scan import resolve_backend

    return resolve_backend(params.scan, device)


def _report_cost(
    model: AnomalyModel, seconds: float, last: TrainingRow, device: torch.device
) -> None:
    """Say what it took; not part of any output, since it differs from run to run."""
    unit = "s per iteration" if isinstance(model, GradientModel) else "s per bank patch"
    peak = (
        torch.cuda.max_memory_allocated() / 2**20
        if device.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    )
    console.print(
        f"{type(model).__name__} on {device}: {seconds:.1f} s, "
        f"{seconds / last.iteration:.3g} {unit}, "
        f"validation {last.val_loss:.4f}, peak {peak:.0f} MiB"
    )
