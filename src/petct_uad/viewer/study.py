"""What the page of a study shows: volumes, scores, findings and lesions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from petct_uad.core.errors import DatasetError, EvaluationError, did_you_mean
from petct_uad.core.files import read_table
from petct_uad.evaluation.findings import labelled_findings
from petct_uad.evaluation.results import ResultPaths, RunResults, read_results
from petct_uad.evaluation.stacks import NEIGHBOURS
from petct_uad.preprocess.params import PreprocessParams
from petct_uad.preprocess.shards import model_grid
from petct_uad.scoring.tables import ScoredRow, scored_rows
from petct_uad.scoring.tables import read_study as read_scores
from petct_uad.slices.tables import INDEX, SLICES, ImageRow, SliceRow
from petct_uad.viewer.grids import view_grid, within
from petct_uad.viewer.nifti import ct_nifti, map_nifti, mask_nifti, pet_nifti
from petct_uad.volumes.resample import (
    antialias,
    interpolate,
    resample_ct,
    resample_mask,
    resample_pet,
)
from petct_uad.volumes.study import StudyFolder, StudyVolumes, VolumeFolders, read_study

# So that a page stays below 30 MB, whatever the study: CT and PET compress to about half of their
# two bytes per voxel, maps to about half of their one, and base64 adds a third.
MOST_VOXELS, MOST_MAP_VOXELS = 5_000_000, 12_000_000
_VAL, _TEST = "val", "test"
_MOST_PLACES = 20
Point = tuple[float, float, float]


@dataclass(frozen=True)
class ViewPaths:
    """Where the page's data lie."""

    interim: Path  # data/interim/<dataset>
    processed: Path  # data/processed/<dataset>
    scores: Path  # data/scores
    metrics: Path  # metrics

    @classmethod
    def of(cls, dataset: str) -> Self:
        """Those of a data set, below the repository's root."""
        interim, processed = (Path("data", kind, dataset) for kind in ("interim", "processed"))
        return cls(interim, processed, Path("data/scores"), Path("metrics"))

    def folder(self, study_id: str) -> StudyFolder:
        """The volumes of one study."""
        return VolumeFolders.of(self.interim).study(study_id)


@dataclass(frozen=True)
class Place:
    """A spot that a button leads to.

    Attributes:
        mm: right, anterior, superior, as NIfTI has it.
        value: the map's peak of a finding; SUVmax of a lesion.
    """

    mm: Point
    value: float


@dataclass(frozen=True)
class SliceScore:
    """What one row says of one slice."""

    slice_index: int
    score: float


@dataclass(frozen=True)
class RowView:
    """One row of the benchmark, by its first seed.

    Attributes:
        run: its name.
        auroc: on all test slices; None before evaluate.
        threshold: of a slice's score, from validation normals; None before evaluate.
        map_threshold: of the map, likewise.
        low, high: ends of its map.
        scores: of the slices that were scored.
        findings: where the map exceeds its threshold, the hottest first.
        nifti: its map.
    """

    run: str
    auroc: float | None
    threshold: float | None
    map_threshold: float | None
    low: float
    high: float
    scores: tuple[SliceScore, ...]
    findings: tuple[Place, ...]
    nifti: bytes


@dataclass(frozen=True)
class StudyView:
    """One study.

    Attributes:
        split: of its slices; excluded where the benchmark has none of them.
        slice_ids: every slice of register, by its place along the body.
        to_slice: (4,) weights of right, anterior, superior in mm and 1, whose sum is that place.
        ct, pet: gzip NIfTI, HU and SUV.
        label: likewise; None where there is no lesion to show.
        label_note: what is shown of the label, and why not more.
        lesions: by falling SUVmax.
        rows: by falling AUROC.
        no_map_note: why there is no map to show; empty where there is one.
    """

    study_id: str
    split: str
    slice_ids: tuple[str, ...]
    to_slice: tuple[float, ...]
    ct: bytes
    pet: bytes
    label: bytes | None
    label_note: str
    lesions: tuple[Place, ...]
    rows: tuple[RowView, ...]
    no_map_note: str


@dataclass(frozen=True)
class _Scored:
    """A row that was scored, and its results where evaluate ran."""

    row: ScoredRow
    results: RunResults | None

    @property
    def rank(self) -> tuple[float, str]:
        auroc = self.results.metrics.auroc.value if self.results else 0.0
        return -auroc, self.row.identity.run


def view_study(
    study_id: str, paths: ViewPaths, params: PreprocessParams, runs: Sequence[str] = ()
) -> StudyView:
    """Read one study and bring it to the page's grids.

    Args:
        study_id: of the split stage's ``slices.csv``.
        paths: where to.
        params: of preprocess, whose grid the maps lie on.
        runs: which rows of the benchmark; by default all.

    Raises:
        DatasetError: there is no such study, it has no volumes, or one cannot be read.
        EvaluationError: a row is unknown, or its scores are stale.
    """
    slices = _slices(paths, study_id)
    volumes = _volumes(paths.folder(study_id))
    images = [x for x in read_table(paths.processed / INDEX, ImageRow) if x.study_id == study_id]
    scored = _scored(paths, runs)
    split = images[0].split if images else "excluded"
    opened = _opened(study_id, split, scored)
    grid = view_grid(volumes.body, MOST_VOXELS)
    pet = resample_pet(volumes.pet, grid, volumes.transform)
    label = resample_mask(_only(volumes.lesion, slices, opened), grid)
    lesions = _lesions(label, pet)
    most = MOST_MAP_VOXELS // max(len(scored), 1)
    maps = _Maps(slices, images, model_grid(volumes.body, params), most)
    rows = tuple(view for x in scored if (view := maps.of(x)))
    return StudyView(
        study_id=study_id,
        split=split,
        slice_ids=tuple(row.slice_id for row in slices),
        to_slice=_to_slice(volumes.body),
        ct=ct_nifti(resample_ct(volumes.ct, grid)),
        pet=pet_nifti(pet),
        label=mask_nifti(label) if lesions else None,
        label_note=_label_note(split, opened, bool(lesions), paths.folder(study_id)),
        lesions=lesions,
        rows=rows,
        no_map_note="" if rows else _no_map_note(images, scored, paths.scores),
    )


def _slices(paths: ViewPaths, study_id: str) -> list[SliceRow]:
    """Every slice of the study, along the body."""
    table = paths.interim / "split" / SLICES
    if not table.is_file():
        raise DatasetError(f"{table}: not found. Run `dvc repro split`.")
    rows = read_table(table, SliceRow)
    found = [row for row in rows if row.study_id == study_id]
    if not found:
        known = sorted({row.study_id for row in rows})
        raise DatasetError(
            f"{study_id}: no study of {table}.{did_you_mean(study_id, known)} Its column study_id "
            "has all."
        )
    return sorted(found, key=lambda row: row.slice_index)


def _volumes(folder: StudyFolder) -> StudyVolumes:
    if folder.flat_image:
        raise DatasetError(
            f"{folder.flat_image}: the study is one flat image; petct view shows volumes, and "
            "`petct panels` shows images."
        )
    return read_study(folder)


def _scored(paths: ViewPaths, runs: Sequence[str]) -> list[_Scored]:
    """The rows that are asked for, by falling AUROC; none before the stage score has run."""
    entries = sorted(path for path in paths.scores.glob("*") if any(path.glob("*/row.json")))
    found = {
        row.identity.run: _Scored(row, _results(paths.metrics, entry.name, row.identity.run))
        for entry in entries
        for row in scored_rows(entry)
    }
    for run in runs:
        if run not in found:
            raise EvaluationError(
                f"{run}: no row in {paths.scores}.{did_you_mean(run, found)} There are: "
                f"{', '.join(sorted(found)) or 'none; run `dvc repro`'}."
            )
    return sorted((found[run] for run in runs or found), key=lambda x: x.rank)


def _results(metrics: Path, entry: str, run: str) -> RunResults | None:
    paths = ResultPaths.of(metrics, entry, run)
    return read_results(paths) if paths.metrics.is_file() else None


def _opened(study_id: str, split: str, scored: Iterable[_Scored]) -> frozenset[str] | None:
    """The slices whose label may be shown; None for all of a study that is not tested on.

    Labels of the test split are those of evaluate to open, so that the page of a test study shows
    them on the slices in its results and on no other.
    """
    if split in ("train", _VAL):
        return None
    results = [x.results for x in scored if x.results]
    return frozenset(
        row.slice_id for found in results for row in found.scores if row.study_id == study_id
    )


def _only(
    lesion: sitk.Image, slices: Sequence[SliceRow], opened: frozenset[str] | None
) -> sitk.Image:
    """The lesion on the slices whose label may be shown."""
    if opened is None:
        return lesion
    mask = sitk.GetArrayFromImage(lesion)
    mask[[row.slice_index for row in slices if row.slice_id not in opened]] = 0
    kept = sitk.GetImageFromArray(mask)
    kept.CopyInformation(lesion)
    return kept


def _label_note(
    split: str, opened: frozenset[str] | None, has_lesions: bool, folder: StudyFolder
) -> str:
    if opened is not None and not opened:
        if split == _TEST:
            return "Label not shown: only evaluate opens labels of the test split, and has not."
        return "Label not shown: every slice of this study is left out of the benchmark."
    where = "" if opened is None else f" on the {len(opened)} slices that evaluate has opened"
    if has_lesions:
        return f"Label shown{where or ' on all slices'}."
    return f"No lesion is labelled{where}." if folder.label else "The study has no label."


def _no_map_note(images: Sequence[ImageRow], scored: Sequence[_Scored], scores: Path) -> str:
    if not scored:
        return f"No map shown: {scores} holds no scores of any model. Run `dvc repro`."
    if any(map(_to_be_scored, images)):
        return f"No map shown: {scores} holds no scores of this study. Run `dvc repro`."
    return (
        "No map shown: only validation normals and test slices are scored, and this study has none "
        "of them."
    )


def _to_be_scored(image: ImageRow) -> bool:
    """As the stage score has it: the validation normals, and all of the test split."""
    return image.split == _TEST or (image.split == _VAL and image.label == 0)


def _lesions(label: sitk.Image, pet: sitk.Image) -> tuple[Place, ...]:
    """Connected lesions at the voxel of their SUVmax."""
    suv, mask = sitk.GetArrayViewFromImage(pet), sitk.GetArrayViewFromImage(label)
    labelled, count = ndimage.label(mask, NEIGHBOURS)
    return _peaks(suv, labelled, count, label)


def _peaks(
    values: NDArray[np.float32], labelled: NDArray[np.int32], count: int, grid: sitk.Image
) -> tuple[Place, ...]:
    """The highest voxel of each part, the highest first."""
    at = ndimage.maximum_position(values, labelled, range(1, count + 1)) if count else []
    places = [Place(_mm(grid, zyx), round(float(values[tuple(zyx)]), 6)) for zyx in at]
    return tuple(sorted(places, key=lambda x: (-x.value, x.mm))[:_MOST_PLACES])


def _mm(grid: sitk.Image, zyx: Sequence[int]) -> Point:
    """A voxel's centre in the axes of NIfTI, which point right to left and back to front."""
    left, back, up = grid.TransformIndexToPhysicalPoint([int(x) for x in reversed(zyx)])
    return round(-left, 3), round(-back, 3), round(up, 3)


def _to_slice(body: sitk.Image) -> tuple[float, ...]:
    direction = np.array(body.GetDirection()).reshape(3, 3)
    along = np.linalg.inv(direction)[2] / body.GetSpacing()[2]
    first = -float(along @ np.array(body.GetOrigin()))
    return tuple(round(float(x), 9) for x in (-along[0], -along[1], along[2], first))


@dataclass(frozen=True)
class _Maps:
    """What the maps of a study are brought from and to."""

    slices: Sequence[SliceRow]
    images: Sequence[ImageRow]
    grid: sitk.Image  # of the shard, over all slices of register
    most_voxels: int

    def of(self, scored: _Scored) -> RowView | None:
        """One row; None where the study was not scored, as none of the training split is."""
        row, seed = scored.row, scored.row.seeds[0]
        if not self.images or not row.file(seed, self.images[0].study_id).is_file():
            return None
        study = read_scores(row.file(seed, self.images[0].study_id))
        levels = self._levels(study.shard_rows)
        volume, inside = self._volume(study.maps, levels, row)
        low, high = float(study.maps.min()), float(study.maps.max())
        metrics = scored.results.metrics if scored.results else None
        threshold = metrics.map_thresholds[0] if metrics and metrics.map_thresholds else None
        return RowView(
            run=row.identity.run,
            auroc=metrics.auroc.value if metrics else None,
            threshold=metrics.thresholds[0] if metrics else None,
            map_threshold=threshold,
            low=low,
            high=high,
            scores=tuple(
                SliceScore(level, round(float(score), 6))
                for level, score in sorted(zip(levels, study.scores, strict=True))
            ),
            findings=self._findings(volume, inside, threshold),
            nifti=map_nifti(self._on_the_page(volume), low, high),
        )

    def _levels(self, shard_rows: NDArray[np.int64]) -> list[int]:
        """Which slices of register they are."""
        index = {row.slice_id: row.slice_index for row in self.slices}
        by_row = {image.shard_row: index[image.slice_id] for image in self.images}
        return [by_row[row] for row in shard_rows.tolist()]

    def _volume(
        self, maps: NDArray[np.float32], levels: Sequence[int], row: ScoredRow
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The maps over all slices (z, y, x), and where they are; elsewhere the lowest value."""
        shape = self.grid.GetSize()[::-1]
        if maps.shape[1:] != shape[1:]:
            raise EvaluationError(
                f"{row.folder}: maps of {maps.shape[1]} pixels, but params.yaml asks for "
                f"{shape[1]}. Run `dvc repro`."
            )
        volume = np.full(shape, maps.min(), dtype=np.float32)
        volume[levels] = maps
        inside = np.zeros(shape[0], dtype=np.bool_)
        inside[levels] = True
        return volume, inside

    def _findings(
        self, volume: NDArray[np.float32], inside: NDArray[np.bool_], threshold: float | None
    ) -> tuple[Place, ...]:
        """What evaluate counts as findings: connected parts above the threshold."""
        if threshold is None:
            return ()
        above = (volume > threshold) & inside[:, None, None]
        return _peaks(volume, *labelled_findings(above), self.grid)

    def _on_the_page(self, volume: NDArray[np.float32]) -> sitk.Image:
        image = sitk.GetImageFromArray(volume)
        image.CopyInformation(self.grid)
        grid = within(self.grid, self.most_voxels)
        if grid.GetSize() == image.GetSize():
            return image
        return interpolate(antialias(image, grid.GetSpacing()), grid)
