"""The rows of one entry of the benchmark over the validation normals and the test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch

from petct_uad.core.files import atomic_folder, write_json
from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.models.benchmark import BenchmarkEntry
from petct_uad.models.build import ModelConfig
from petct_uad.models.common.batch import at_side
from petct_uad.models.common.device import deterministic, peak_memory_mib
from petct_uad.models.common.params import AnyModelParams
from petct_uad.scoring.context import smooth_along_z, z_positions_mm
from petct_uad.scoring.inference import (
    Cost,
    Scored,
    fused,
    fusion_of_normals,
    gflops_of_one_pair,
    score_slices,
    scored_anew,
    scores_its_maps,
    together,
)
from petct_uad.scoring.params import ScoreParams
from petct_uad.scoring.tables import (
    ROW_FILE,
    RowIdentity,
    ScoredRow,
    SeedScores,
    StudyScores,
    write_study,
)
from petct_uad.scoring.trained import TrainedModel, load_trained, model_files, seeds_of
from petct_uad.slices.store import SliceStore, files_of, shard_path
from petct_uad.slices.tables import ImageRow

_SEED = 0  # of torch's generator; no model draws anything once it is trained


@dataclass(frozen=True)
class ScoringPaths:
    """Where the rows of an entry are read from and written to, a folder or file per row."""

    processed: Path  # data/processed/<dataset>
    slices: Path  # slices.csv of the split stage; read where slices are seen in context
    models: Path  # models/<entry>
    scores: Path  # data/scores/<entry>
    costs: Path  # metrics/cost; differs between machines, so no output of a stage

    @classmethod
    def of(cls, dataset: str, entry: str) -> ScoringPaths:
        """Those of a data set and an entry, below the repository's root."""
        return cls(
            processed=Path("data/processed") / dataset,
            slices=Path("data/interim") / dataset / "split/slices.csv",
            models=Path("models") / entry,
            scores=Path("data/scores") / entry,
            costs=Path("metrics/cost"),
        )


@dataclass(frozen=True)
class _Data:
    """What every row is scored on."""

    paths: ScoringPaths
    params: ScoreParams
    val: SliceStore
    test: SliceStore
    device: torch.device

    @property
    def normals(self) -> list[int]:
        return [i for i, row in enumerate(self.val.rows) if row.label == 0]

    @property
    def scored_rows(self) -> tuple[ImageRow, ...]:
        """The slices that are scored: the validation normals, then the test split."""
        return (*self.val_rows, *self.test.rows)

    @property
    def val_rows(self) -> tuple[ImageRow, ...]:
        return tuple(self.val.rows[i] for i in self.normals)

    @cached_property
    def z_mm(self) -> dict[str, float]:
        """Of each scored slice, by its name."""
        rows = self.scored_rows
        z_mm = z_positions_mm(self.paths.slices, rows)
        return {row.slice_id: float(z) for row, z in zip(rows, z_mm, strict=True)}


@dataclass(frozen=True)
class _Member:
    """One seed's model of one trained row on both splits."""

    trained: TrainedModel
    val: Scored  # the normals
    test: Scored


@dataclass(frozen=True)
class _Row:
    """One seed of a row: what its one member says, or the two that are fused."""

    members: tuple[_Member, ...]
    val: Scored
    test: Scored

    @property
    def configs(self) -> list[ModelConfig[AnyModelParams]]:
        return [member.trained.config for member in self.members]


def score_entry(
    entry: BenchmarkEntry, params: ScoreParams, paths: ScoringPaths, device: torch.device
) -> tuple[Derivation, ...]:
    """Score every row of an entry; the only function that runs a network on the test split.

    Neither labels of test slices nor lesion masks are read. Every seed's model runs once, and a
    row of two joins their float32 maps; one seed's are in memory at a time.

    Returns:
        What each written file was made from.

    Raises:
        TrainingError: weights or a config are missing or do not fit.
        DatasetError: the splits hold nothing, or a shard is missing.
    """
    val, test = (SliceStore.open(paths.processed, split) for split in ("val", "test"))
    data = _Data(paths, params, val, test, device)
    seeds = seeds_of([paths.models / row for row in entry.trained])
    # In float32, whatever train.tf32 says.
    with deterministic(_SEED, tf32=False), atomic_folder(paths.scores) as out:
        for seed in seeds:
            for run, row in _score_seed(entry, seed, data).items():
                identity = _identity(run, entry.model, row, data) if seed == seeds[0] else None
                _write_seed(out / run / f"seed-{seed}", row, data)
                if identity:
                    ScoredRow(out / run, identity, seeds).write()
                    write_json(paths.costs / f"{run}.json", asdict(_cost(identity, row, data)))
    return tuple(
        item
        for run, parts in entry.rows.items()
        for item in _derivations(ScoredRow.read(paths.scores / run), parts, data)
    )


def score_stores(
    entry: BenchmarkEntry,
    seed: int,
    *,
    val: SliceStore,
    other: SliceStore,
    paths: ScoringPaths,
    params: ScoreParams,
    device: torch.device,
) -> Mapping[str, SeedScores]:
    """What one seed's models of an entry say of other slices, exactly as in the pipeline.

    Args:
        entry: of the benchmark.
        seed: of the training.
        val: the validation split, on whose normals maps are calibrated.
        other: what is scored in the test split's place; its slices stand in ``slices.csv``.
        paths: of the entry; nothing is written.
        params: how maps are fused and smoothed.
        device: that the networks run on.

    Returns:
        By row: scores of the validation normals and of the other slices; no maps.
    """
    data = _Data(paths, params, val, other, device)
    with deterministic(_SEED, tf32=False):
        rows = _score_seed(entry, seed, data)
    return {run: SeedScores(seed, row.val.scores, row.test.scores) for run, row in rows.items()}


def _score_seed(entry: BenchmarkEntry, seed: int, data: _Data) -> dict[str, _Row]:
    members = {row: _score_member(row, seed, data) for row in entry.trained}
    return {
        run: _in_context(_joined([members[part] for part in parts], data), data)
        for run, parts in entry.rows.items()
    }


def _score_member(row: str, seed: int, data: _Data) -> _Member:
    trained = load_trained(data.paths.models / row, seed, data.device)
    val, test = (at_side(x, trained.config.image_size_px) for x in (data.val, data.test))
    normals, every = data.normals, list(range(len(test)))
    model, what, side = trained.model, f"{row}, seed {seed}", data.test.image_size_px
    return _Member(
        trained,
        score_slices(model, val, normals, data.device, f"{what}: val normals").at_side(side),
        score_slices(model, test, every, data.device, f"{what}: test").at_side(side),
    )


def _joined(members: Sequence[_Member], data: _Data) -> _Row:
    """One member as it is; several with their maps fused, scored as the first scores its own."""
    first = members[0]
    if len(members) == 1:
        return _Row((first,), first.val, first.test)
    val, test = [x.val for x in members], [x.test for x in members]
    fusion = fusion_of_normals(data.params.fusion, val)
    model = first.trained.model
    return _Row(tuple(members), fused(model, fusion, val), fused(model, fusion, test))


def _in_context(row: _Row, data: _Data) -> _Row:
    """Maps smoothed along the body, validation normals' too, and scores of what comes of it."""
    if data.params.z_sigma_mm == 0:
        return row
    val = _smoothed(row, row.val, data.val_rows, data)
    return replace(row, val=val, test=_smoothed(row, row.test, data.test.rows, data))


def _smoothed(row: _Row, scored: Scored, slices: Sequence[ImageRow], data: _Data) -> Scored:
    """A score that is no function of its map is smoothed as maps are."""
    studies = [x.study_id for x in slices]
    z_mm = np.array([data.z_mm[x.slice_id] for x in slices])
    smooth = partial(smooth_along_z, studies=studies, z_mm=z_mm, sigma_mm=data.params.z_sigma_mm)
    in_context, model = scored.reshaped(smooth), row.members[0].trained.model
    if len(row.members) > 1 or scores_its_maps(type(model)):
        return scored_anew(model, in_context)
    scores = smooth(scored.scores.astype(np.float32)[:, None, None])[:, 0, 0]
    return replace(in_context, scores=scores.astype(np.float64))


def _write_seed(folder: Path, row: _Row, data: _Data) -> None:
    rows = data.scored_rows
    scored = together([row.val, row.test])
    for study_id in sorted({x.study_id for x in rows}):
        chosen = [i for i, x in enumerate(rows) if x.study_id == study_id]
        parts = None if scored.pet_parts is None else scored.pet_parts[chosen]
        study = StudyScores(
            np.array([rows[i].shard_row for i in chosen], dtype=np.int64),
            scored.scores[chosen],
            scored.maps[chosen],
            parts,
        )
        write_study(folder / f"{study_id}.safetensors", study)


def _identity(run: str, model: str, row: _Row, data: _Data) -> RowIdentity:
    first = row.configs[0]
    return RowIdentity(
        run=run,
        model=model,
        modality=first.run.modality if len(row.configs) == 1 else "petct",
        teacher=first.teacher.name,
        image_size_px=first.image_size_px,
        parameters=sum(config.learnt_values for config in row.configs),
        scan=first.scan_backend,
        gflops_per_pair=_gflops(row, data),
        as_published=first.params.is_as_published(),
        claims=first.params.claims,
    )


def _gflops(row: _Row, data: _Data) -> float:
    """A fused row takes what its members do; joining two maps is next to nothing."""
    one = replace(data.test, rows=data.test.rows[:1], ct=data.test.ct[:1], pet=data.test.pet[:1])
    return sum(
        gflops_of_one_pair(
            member.trained.model, at_side(one, member.trained.config.image_size_px), data.device
        )
        for member in row.members
    )


def _cost(identity: RowIdentity, row: _Row, data: _Data) -> Cost:
    device = data.device
    return Cost(
        run=identity.run,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        threads=torch.get_num_threads(),
        scan=identity.scan,
        parameters=identity.parameters,
        gflops_per_pair=identity.gflops_per_pair,
        pairs=len(row.test.scores),
        seconds_per_pair=sum(member.test.seconds_per_pair for member in row.members),
        process_peak_memory_mib=peak_memory_mib(device),
    )


def _derivations(row: ScoredRow, parts: Sequence[str], data: _Data) -> list[Derivation]:
    """A study's scores from the models of its seed and its own shard.

    Joined maps are calibrated on the validation normals, so they come from those shards too.
    """
    processed, models = data.paths.processed, [data.paths.models / part for part in parts]
    tables = [processed / "index.csv"]
    if data.params.z_sigma_mm:
        tables.append(data.paths.slices)
    index = tuple(map(Entity.of_file, tables))
    calibrated = files_of(processed, [data.val])[1:] if len(parts) > 1 else ()
    shards = {x.study_id: shard_path(processed, x.study_id) for x in data.scored_rows}
    entities = {path: Entity.of_file(path) for path in {*calibrated, *shards.values()}}
    trained = {seed: tuple(map(Entity.of_file, model_files(models, [seed]))) for seed in row.seeds}
    every_model = tuple(entity for entities in trained.values() for entity in entities)
    found = [Derivation(Entity.of_file(row.folder / ROW_FILE), every_model)]
    for seed in row.seeds:
        for study_id, shard in sorted(shards.items()):
            read = sorted({*calibrated, shard})
            inputs = (*index, *trained[seed], *(entities[path] for path in read))
            found.append(Derivation(Entity.of_file(row.file(seed, study_id)), inputs))
    return found
