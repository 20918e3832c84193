"""The rows of one entry of the benchmark over the validation normals and the test split."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from heapq import merge
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from petct_uad.core.files import atomic_folder, write_json
from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.core.store.map_stored import map_stored
from petct_uad.core.store.study_store import StudyStore
from petct_uad.models.benchmark import BenchmarkEntry
from petct_uad.models.build import ModelConfig
from petct_uad.models.common.batch import at_side
from petct_uad.models.common.device import name_arithmetic
from petct_uad.models.common.fusion import MapFusion
from petct_uad.models.common.params import AnyModelParams
from petct_uad.scoring.context import smooth_along_z
from petct_uad.scoring.data import ScoringData, ScoringPaths, SplitToScore, StudySlices
from petct_uad.scoring.forward import ScoredSlices, Scorer, ScoringTask
from petct_uad.scoring.inference import (
    Cost,
    Part,
    Scored,
    fused,
    fusion_of_normals,
    gflops_of_one_pair,
    scored_anew,
    scores_its_maps,
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
from petct_uad.slices.store import SliceStore, files_of
from petct_uad.slices.tables import INDEX, shard_path


@dataclass(frozen=True)
class _Member:
    """One seed's model of one trained row on both splits."""

    trained: TrainedModel
    val: Scored
    test: Scored


@dataclass(frozen=True)
class _Row:
    """One seed of a row: what its one member says, or the two that are fused."""

    members: tuple[_Member, ...]
    fusion: MapFusion | None
    data: ScoringData

    @property
    def configs(self) -> list[ModelConfig[AnyModelParams]]:
        return [member.trained.config for member in self.members]

    @property
    def val(self) -> Iterator[Part]:
        """Of the validation normals, study by study."""
        return self._studies([member.val for member in self.members], self.data.val)

    @property
    def test(self) -> Iterator[Part]:
        """Of the test split, study by study."""
        return self._studies([member.test for member in self.members], self.data.test)

    def _studies(self, members: Sequence[Scored], split: SplitToScore) -> Iterator[Part]:
        """Fused where there are two, and smoothed along the body."""
        model, parts = self.members[0].trained.model, [x.parts() for x in members]
        studies = parts[0] if self.fusion is None else fused(model, self.fusion, parts)
        if self.data.params.z_sigma_mm == 0:
            return studies
        smooth = map(self._smoothed, studies, split.studies)
        if self.fusion is None and not scores_its_maps(type(model)):
            return smooth
        return (scored_anew(model, part) for part in smooth)

    def _smoothed(self, part: Part, study: StudySlices) -> Part:
        """Scores too, as a score that is no function of its map must be."""
        z_mm = np.array([self.data.z_mm[row.slice_id] for row in study.rows])
        names = [study.study_id] * len(study.rows)
        sigma_mm = self.data.params.z_sigma_mm
        smooth = partial(smooth_along_z, studies=names, z_mm=z_mm, sigma_mm=sigma_mm)
        scores = smooth(part.scores.astype(np.float32)[:, None, None])[:, 0, 0]
        return Part(scores.astype(np.float64), np.stack([smooth(x) for x in part.planes]))


def score_entry(
    entry: BenchmarkEntry,
    params: ScoreParams,
    paths: ScoringPaths,
    device: torch.device,
    store: StudyStore | None = None,
) -> tuple[Derivation, ...]:
    """Score every row of an entry; the only function that runs a network on the test split.

    Neither labels of test slices nor lesion masks are read. Every seed's model runs once, and a
    row of two joins their float32 maps. Those wait on the disk of ``paths.scores``; the maps of one
    study are in memory at a time. With a ``store`` a model sees only what it has not seen before.

    Returns:
        What each written file was made from.

    Raises:
        TrainingError: weights or a config are missing or do not fit.
        DatasetError: the splits hold nothing, or a shard is missing.
    """
    stores = [SliceStore.open(paths.processed, split) for split in ("val", "test")]
    data = ScoringData.of(paths, params, stores, device, store)
    seeds = seeds_of([paths.models / row for row in entry.trained])
    with atomic_folder(paths.scores) as out:
        for seed in seeds:
            with ExitStack() as files:
                for run, row in _score_seed(entry, seed, data, out, files).items():
                    identity = _identity(run, entry.model, row) if seed == seeds[0] else None
                    _write_seed(out / run / f"seed-{seed}", row)
                    if identity:
                        ScoredRow(out / run, identity, seeds).write()
                        write_json(paths.costs / f"{run}.json", asdict(_cost(identity, row)))
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
        other: what is scored in the test split's place, study by study; its slices are in
            ``slices.csv``.
        paths: of the entry; nothing is written.
        params: how maps are fused and smoothed.
        device: that the networks run on.

    Returns:
        By row: scores of the validation normals and of the other slices; no maps.
    """
    data = ScoringData.of(paths, params, (val, other), device)
    with ExitStack() as files:
        rows = _score_seed(entry, seed, data, None, files)
        return {run: SeedScores(seed, _scores(x.val), _scores(x.test)) for run, x in rows.items()}


def _scores(parts: Iterable[Part]) -> NDArray[np.float64]:
    return np.concatenate([np.empty(0), *(part.scores for part in parts)])


def _score_seed(
    entry: BenchmarkEntry, seed: int, data: ScoringData, folder: Path | None, files: ExitStack
) -> dict[str, _Row]:
    """Every row of one seed; maps wait in files below ``folder``, which ``files`` removes."""
    members = {row: _score_member(row, seed, data, folder, files) for row in entry.trained}
    return {
        run: _joined(tuple(members[part] for part in parts), data)
        for run, parts in entry.rows.items()
    }


def _score_member(
    row: str, seed: int, data: ScoringData, folder: Path | None, files: ExitStack
) -> _Member:
    trained = load_trained(data.paths.models / row, seed, data.device)
    read = model_files([data.paths.models / row], [seed])

    def scored(split: SplitToScore, what: str) -> Scored:
        waiting = Path(files.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        tasks = _tasks(split, data, read, waiting)
        side_px = trained.config.image_size_px
        found = map_stored(
            Scorer(trained.model, split.store, side_px, data.device).score,
            tasks,
            ScoredSlices,
            f"{row}, seed {seed}: {what}",
            workers=None,
            store=data.store,
        )
        sizes = tuple(tuple(map(len, task.shard_rows)) for task in tasks)
        return Scored(tuple(found), tuple(task.planes for task in tasks), sizes)

    return _Member(trained, scored(data.val, "val normals"), scored(data.test, "test"))


def _tasks(
    split: SplitToScore, data: ScoringData, trained: tuple[Path, ...], waiting: Path
) -> list[ScoringTask]:
    places, arithmetic = iter(split.indices), name_arithmetic(data.device)
    return [
        ScoringTask(
            trained=trained,
            shards=tuple(shard_path(data.paths.processed, study.study_id) for study in group),
            shard_rows=tuple(tuple(row.shard_row for row in study.rows) for study in group),
            places=tuple(islice(places, sum(len(study.rows) for study in group))),
            side_px=data.test.store.image_size_px,
            seen=split.seen,
            arithmetic=arithmetic,
            planes=waiting / f"{group[0].study_id}.safetensors",
        )
        for group in split.groups
    ]


def _joined(members: tuple[_Member, ...], data: ScoringData) -> _Row:
    """One member as it is; several with their maps fused, scored as the first scores its own."""
    if len(members) == 1:
        return _Row(members, None, data)
    fusion = fusion_of_normals(data.params.fusion, [member.val.parts() for member in members])
    return _Row(members, fusion, data)


def _name(scored: tuple[StudySlices, Part]) -> str:
    return scored[0].study_id


def _write_seed(folder: Path, row: _Row) -> None:
    """A study in both splits, as the papers' leaking protocol has them, is one file too."""
    splits = [
        zip(split.studies, parts, strict=True)
        for split, parts in ((row.data.val, row.val), (row.data.test, row.test))
    ]
    for study_id, group in groupby(merge(*splits, key=_name), _name):
        studies, parts = zip(*group, strict=True)
        whole = Part.joined(parts)
        shard_rows = np.array([x.shard_row for study in studies for x in study.rows], np.int64)
        study_scores = StudyScores(shard_rows, whole.scores, whole.maps, whole.pet_parts)
        write_study(folder / f"{study_id}.safetensors", study_scores)


def _identity(run: str, model: str, row: _Row) -> RowIdentity:
    first = row.configs[0]
    return RowIdentity(
        run=run,
        model=model,
        modality=first.run.modality if len(row.configs) == 1 else "petct",
        teacher=first.teacher.name,
        image_size_px=first.image_size_px,
        parameters=sum(config.learnt_values for config in row.configs),
        scan=first.scan_backend,
        gflops_per_pair=_gflops(row),
        as_published=first.params.is_as_published(),
        claims=first.params.claims,
    )


def _gflops(row: _Row) -> float:
    """A fused row takes what its members do; joining two maps is next to nothing."""
    test = row.data.test.store
    one = replace(test, rows=test.rows[:1], ct=test.ct[[0]], pet=test.pet[[0]])
    return sum(
        gflops_of_one_pair(
            member.trained.model, at_side(one, member.trained.config.image_size_px), row.data.device
        )
        for member in row.members
    )


def _cost(identity: RowIdentity, row: _Row) -> Cost:
    device = row.data.device
    return Cost(
        run=identity.run,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        threads=torch.get_num_threads(),
        scan=identity.scan,
        parameters=identity.parameters,
        gflops_per_pair=identity.gflops_per_pair,
        pairs=len(row.data.test.indices),
        seconds_per_pair=sum(member.test.seconds_per_pair for member in row.members),
        process_peak_memory_mib=max(member.test.peak_memory_mib for member in row.members),
    )


def _derivations(row: ScoredRow, parts: Sequence[str], data: ScoringData) -> list[Derivation]:
    """A study's scores from the models of its seed and its own shard.

    Joined maps are calibrated on the validation normals, so they come from those shards too.
    """
    processed, models = data.paths.processed, [data.paths.models / part for part in parts]
    tables = [processed / INDEX]
    if data.params.z_sigma_mm:
        tables.append(data.paths.slices)
    index = tuple(map(Entity.of_file, tables))
    calibrated = files_of(processed, [data.val.store])[1:] if len(parts) > 1 else ()
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
