"""The rows of one entry of the benchmark, and the trivial baselines: measured, drawn, written."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from petct_uad.core.errors import DatasetError
from petct_uad.core.files import atomic_folder, read_table, write_json
from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.evaluation.classes import read_kinds
from petct_uad.evaluation.metrics import choose_panels
from petct_uad.evaluation.panels import panel_of, write_panel
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.results import ResultPaths, RunResults, measure, write_results
from petct_uad.evaluation.stacks import Grid, Stack, stacks_of
from petct_uad.evaluation.tables import MeasuredOn, RunIdentity, RunMetrics
from petct_uad.evaluation.trivial import (
    SUVMAX,
    TRIVIAL,
    Readings,
    baselines_of,
    score_trivial,
)
from petct_uad.ingest.tables import STUDIES
from petct_uad.scoring.tables import (
    ROW_FILE,
    RowIdentity,
    ScoredRow,
    SeedScores,
    scored_rows,
)
from petct_uad.slices.store import ImageStack, lesions_of, read_shard
from petct_uad.slices.tables import INDEX, SLICES, ImageRow, shard_path

AUROC = "auroc"  # metrics/auroc/<entry>.json: a line of ``dvc metrics show``
_DIGITS = 4


@dataclass(frozen=True)
class EvaluationPaths:
    """Where the rows of an entry are read from and written to, a folder or file per row."""

    processed: Path  # data/processed/<dataset>
    slices: Path  # data/interim/<dataset>/split/slices.csv
    studies: Path  # data/interim/<dataset>/ingest/studies.csv
    scores: Path  # data/scores/<entry>
    metrics: Path  # metrics
    panels: Path  # reports/panels/<entry>

    @classmethod
    def of(cls, dataset: str, entry: str) -> EvaluationPaths:
        """Those of a data set and an entry, below the repository's root."""
        return cls(
            processed=Path("data/processed") / dataset,
            slices=Path("data/interim") / dataset / "split" / SLICES,
            studies=Path("data/interim") / dataset / "ingest" / STUDIES,
            scores=Path("data/scores") / entry,
            metrics=Path("metrics"),
            panels=Path("reports/panels") / entry,
        )

    @property
    def index(self) -> Path:
        """What splits and labels the slices."""
        return self.processed / INDEX

    @property
    def auroc(self) -> Path:
        """What ``dvc metrics show`` has of the entry."""
        return self.metrics / AUROC / f"{self.scores.name}.json"

    def results(self, run: str) -> ResultPaths:
        """The results of one row."""
        return ResultPaths.of(self.metrics, self.scores.name, run)


@dataclass(frozen=True)
class _Slices:
    """The slices that choose a threshold, and those that every row is measured on."""

    normals: tuple[ImageRow, ...]  # of validation
    test: tuple[ImageRow, ...]
    kinds: Mapping[str, str]  # what labels call the lesions of each study

    @classmethod
    def read(cls, index: Path, studies: Path) -> _Slices:
        rows = read_table(index, ImageRow)
        test = tuple(row for row in rows if row.split == "test")
        if not test:
            raise DatasetError(f"{index}: no slice in split 'test'")
        normals = tuple(x for x in rows if x.split == "val" and x.label == 0)
        return cls(normals, test, read_kinds(studies, test))


@dataclass(frozen=True)
class _Lesions:
    """The truth of the test slices."""

    masks: ImageStack  # (n, S, S), in the shards until they are taken
    stacks: tuple[Stack, ...]  # the same as volumes

    @classmethod
    def read(cls, paths: EvaluationPaths, test: Sequence[ImageRow]) -> _Lesions:
        masks = lesions_of(paths.processed, test)
        _, owners = np.unique([row.patient for row in test], return_inverse=True)
        grid = Grid.read(paths.processed, paths.slices, test)
        return cls(masks, stacks_of(test, owners, masks, grid))


def evaluate_entry(
    paths: EvaluationPaths, params: EvaluateParams, on: MeasuredOn
) -> dict[str, tuple[Derivation, ...]]:
    """Measure and draw every scored row by the labels and lesion masks of the test split.

    Returns:
        For each row, what each written file was made from.

    Raises:
        DatasetError: there is no test slice, or a shard is missing.
        EvaluationError: scores are missing, not finite or of other slices; no validation normals,
            or test slices of one class.
    """
    rows, slices = scored_rows(paths.scores), _Slices.read(paths.index, paths.studies)
    lesions = _Lesions.read(paths, slices.test)
    derived: dict[str, tuple[Derivation, ...]] = {}
    measured: dict[str, RunMetrics] = {}
    for row in rows:
        results = _measure(row, slices, lesions, _identity(row.identity, on), params)
        run = row.identity.run
        write_results(paths.results(run), results)
        shown = _write_panels(paths, row, slices.test, results)
        derived[run] = _derivations(paths, row, slices.test, shown)
        measured[row.identity.modality] = results.metrics
    _write_auroc(paths.auroc, measured)
    return derived


def evaluate_trivial(
    processed: Path,
    studies: Path,
    *,
    on: MeasuredOn,
    params: EvaluateParams,
    metrics: Path,
) -> dict[str, tuple[Derivation, ...]]:
    """Write the results of each trivial baseline that these slices have below ``metrics``.

    Args:
        processed: ``data/processed/<dataset>``, of which the two tables are read.
        studies: ``studies.csv`` of ingest.
        on: the data set and its split.
        params: of the stage.
        metrics: the folder ``metrics``.

    Returns:
        For each, what its files were made from.

    Raises:
        DatasetError: there is no test slice, or a table lacks one.
        EvaluationError: validation has no normals, or the test split is of one class.
    """
    slices = _Slices.read(processed / INDEX, studies)
    images = (*slices.normals, *slices.test)
    readings = Readings.read(processed, images)
    derived: dict[str, tuple[Derivation, ...]] = {}
    measured: dict[str, RunMetrics] = {}
    for baseline in baselines_of(readings.kinds(images)):
        paths = ResultPaths.of(metrics, TRIVIAL, baseline.name)
        results = measure(
            _identity(baseline.identity, on),
            seeds=[score_trivial(baseline, readings, slices.normals, slices.test)],
            test_rows=slices.test,
            params=params,
            kinds=slices.kinds,
        )
        write_results(paths, results)
        tables = [processed / x for x in sorted({INDEX, baseline.table})]
        source = tuple(map(Entity.of_file, (*tables, studies)))
        files = map(Entity.of_file, paths.files)
        derived[baseline.name] = tuple(Derivation(file, source) for file in files)
        measured[baseline.name] = results.metrics
    _write_auroc(metrics / AUROC / f"{TRIVIAL}.json", measured, shown=(SUVMAX.name,))
    return derived


def _write_auroc(
    path: Path, measured: Mapping[str, RunMetrics], shown: Collection[str] | None = None
) -> None:
    """AUROC by modality or name, and whether the protocol leaks: what fits a terminal's line."""
    aurocs = {
        name: round(metrics.auroc.value, _DIGITS)
        for name, metrics in sorted(measured.items())
        if shown is None or name in shown
    }
    leaking = any(metrics.leaking for metrics in measured.values())
    write_json(path, {**aurocs, "leaking": leaking})


def _identity(row: RowIdentity, on: MeasuredOn) -> RunIdentity:
    return RunIdentity(**vars(row), **vars(on))


def _measure(
    row: ScoredRow,
    slices: _Slices,
    lesions: _Lesions,
    identity: RunIdentity,
    params: EvaluateParams,
) -> RunResults:
    seeds = (
        SeedScores(
            seed,
            row.scores(seed, slices.normals),
            row.scores(seed, slices.test),
            row.maps(seed, slices.test),
            row.peaks(seed, slices.normals),
            row.pet_parts(seed, slices.test),
        )
        for seed in row.seeds
    )
    return measure(
        identity,
        seeds=seeds,
        test_rows=slices.test,
        params=params,
        lesions=lesions.masks,
        stacks=lesions.stacks,
        kinds=slices.kinds,
    )


def _write_panels(
    paths: EvaluationPaths, row: ScoredRow, test: Sequence[ImageRow], results: RunResults
) -> dict[str, ImageRow]:
    """Write the first seed's {best,median,worst}.png; returns which test slice each shows."""
    first = results.scores_by_seed[0]
    chosen = {name: test[i] for name, i in choose_panels(first.labels, first.scores).items()}
    with atomic_folder(paths.panels / row.identity.run) as out:
        for name, image in chosen.items():
            (anomaly_map,) = row.read_maps(row.seeds[0], [image])
            shard = read_shard(shard_path(paths.processed, image.study_id))
            write_panel(out / f"{name}.png", panel_of(shard, image.shard_row, anomaly_map))
    return chosen


def _derivations(
    paths: EvaluationPaths, row: ScoredRow, test: Sequence[ImageRow], shown: dict[str, ImageRow]
) -> tuple[Derivation, ...]:
    """Results from all scores; figures, FROC and findings from the test studies' lesions too."""
    results = paths.results(row.identity.run)
    files = [path for seed in row.seeds for path in row.files(seed)]
    tables = (paths.index, paths.studies, row.folder / ROW_FILE)
    scores = tuple(map(Entity.of_file, (*tables, *files)))
    studies = sorted({x.study_id for x in test})
    shards = {x: Entity.of_file(shard_path(paths.processed, x)) for x in studies}
    with_lesions = (*scores, Entity.of_file(paths.slices), *shards.values())
    of_lesions = {results.metrics, results.froc, results.findings}
    measured = [
        Derivation(Entity.of_file(path), with_lesions if path in of_lesions else scores)
        for path in results.files
    ]
    return (*measured, *_panel_derivations(paths, row, shown, shards))


def _panel_derivations(
    paths: EvaluationPaths,
    row: ScoredRow,
    shown: Mapping[str, ImageRow],
    shards: Mapping[str, Entity],
) -> Iterator[Derivation]:
    """Each panel from the first seed's map and the shard of its own study."""
    index, folder = Entity.of_file(paths.index), paths.panels / row.identity.run
    for name, image in shown.items():
        maps = Entity.of_file(row.file(row.seeds[0], image.study_id))
        panel = Entity.of_file(folder / f"{name}.png")
        yield Derivation(panel, (index, maps, shards[image.study_id]))
