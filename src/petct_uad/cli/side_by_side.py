"""Chosen slices over all models side by side, as papers show them (``petct panels``).

CMAD Figs. 4 and 5, HDHKD Figs. 3 and 4, Hetero-AE Figs. 4 to 6, SCRD4AD Fig. 2. Here nobody picks
the slices but the person who asks, and each map says whether its score was above the threshold, and
what each modality gave to what was found there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from petct_uad.core.errors import EvaluationError, did_you_mean
from petct_uad.core.files import atomic_path, read_table
from petct_uad.evaluation.panels import fused
from petct_uad.evaluation.results import ResultPaths, RunResults, read_results
from petct_uad.scoring.tables import ScoredRow, scored_rows
from petct_uad.slices.store import Shard, read_shard
from petct_uad.slices.tables import INDEX, ImageRow, shard_path

_INCH = 1.5  # side of one picture
_DPI = 150
_SCORED = ("val", "test")


@dataclass(frozen=True)
class _Judged:
    """A row of the benchmark with the threshold of its first seed, and its AUROC."""

    row: ScoredRow
    results: RunResults

    @property
    def threshold(self) -> float:
        return self.results.metrics.thresholds[0]

    @property
    def auroc(self) -> float:
        return self.results.metrics.auroc.value

    @property
    def title(self) -> str:
        return f"{self.row.identity.run}\nAUROC {self.auroc:.3f}"


def write_side_by_side(
    slice_ids: Sequence[str],
    path: Path,
    *,
    processed: Path,
    scores: Path,
    metrics: Path,
    runs: Sequence[str] = (),
) -> None:
    """Write a PNG: a line per slice, with CT, PET, PET on CT, and each row's map beside them.

    Maps are the first seed's, in jet from their own minimum to their own maximum as in the papers;
    the lesion is outlined as labelled. The same files give the same bytes.

    Args:
        slice_ids: of ``index.csv``, of the validation or the test split.
        path: of the picture.
        processed: ``data/processed/<dataset>``.
        scores: ``data/scores``.
        metrics: ``metrics``.
        runs: which rows of the benchmark; by default all that see PET and CT, by falling AUROC.

    Raises:
        EvaluationError: a slice or a row is unknown or was not scored, or scores are missing.
    """
    images = _images(processed, slice_ids)
    judged = _judged(scores, metrics, runs)
    shards = {x.study_id: read_shard(shard_path(processed, x.study_id)) for x in images}
    columns = 3 + len(judged)
    figure = Figure(figsize=(_INCH * columns, (_INCH + 0.3) * len(images) + 0.5), dpi=_DPI)
    axes = figure.subplots(len(images), columns, squeeze=False)
    for line, image in zip(axes, images, strict=True):
        _draw_images(line[:3], image, shards[image.study_id])
        for place, found in zip(line[3:], judged, strict=True):
            _draw_map(place, image, shards[image.study_id], found)
    for place, title in zip(axes[0], ("CT", "PET", "PET on CT", *(x.title for x in judged)),
                            strict=True):  # fmt: skip
        place.set_title(title, fontsize=6)
    figure.tight_layout(pad=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _images(processed: Path, slice_ids: Sequence[str]) -> list[ImageRow]:
    index = processed / INDEX
    if not index.is_file():
        raise EvaluationError(f"{index}: not found. Run `dvc repro`.")
    rows = {row.slice_id: row for row in read_table(index, ImageRow)}
    for slice_id in slice_ids:
        if slice_id not in rows:
            raise EvaluationError(
                f"{slice_id}: no slice of {index}.{did_you_mean(slice_id, rows)} Its "
                "column slice_id has all that were not excluded."
            )
        if rows[slice_id].split not in _SCORED:
            raise EvaluationError(
                f"{slice_id}: a slice of the {rows[slice_id].split} split. Models are asked about "
                "validation and test slices only; choose one of these from "
                f"{index}."
            )
    return [rows[slice_id] for slice_id in slice_ids]


def _judged(scores: Path, metrics: Path, runs: Sequence[str]) -> list[_Judged]:
    found = {
        row.identity.run: (entry.name, row)
        for entry in sorted(path for path in scores.glob("*") if path.is_dir())
        for row in scored_rows(entry)
    }
    for run in runs:
        if run not in found:
            raise EvaluationError(
                f"{run}: no row in {scores}.{did_you_mean(run, found)} There are: "
                f"{', '.join(sorted(found)) or 'none; run `dvc repro`'}."
            )
    chosen = runs or [run for run, (_, row) in found.items() if row.identity.modality == "petct"]
    if not chosen:
        raise EvaluationError(f"{scores}: no row that sees PET and CT. Name rows, or `dvc repro`.")
    judged = [_with_threshold(metrics, *found[run]) for run in chosen]
    return judged if runs else sorted(judged, key=lambda x: (-x.auroc, x.row.identity.run))


def _with_threshold(metrics: Path, entry: str, row: ScoredRow) -> _Judged:
    return _Judged(row, read_results(ResultPaths.of(metrics, entry, row.identity.run)))


def _draw_images(axes: NDArray[np.object_], image: ImageRow, shard: Shard) -> None:
    ct, pet = (plane[image.shard_row].astype(np.float32) for plane in (shard.ct, shard.pet))
    axes[0].imshow(ct, cmap="gray", vmin=0, vmax=1)
    axes[1].imshow(pet, cmap="gray_r", vmin=0, vmax=1)
    axes[2].imshow(fused(ct, pet))
    for place in axes:
        _outline(place, shard.lesion[image.shard_row])
    axes[0].set_xlabel(image.slice_id, fontsize=4)
    axes[1].set_xlabel(f"SUVmax {image.suv_max:.1f}", fontsize=5)
    axes[2].set_xlabel("abnormal" if image.label else "normal", fontsize=5)


def _draw_map(place: Axes, image: ImageRow, shard: Shard, judged: _Judged) -> None:
    seed = judged.row.seeds[0]
    (anomaly_map,) = judged.row.read_maps(seed, [image])
    (score,) = judged.row.scores(seed, [image])
    place.imshow(anomaly_map, cmap="jet")
    _outline(place, shard.lesion[image.shard_row])
    above = score > judged.threshold
    verdict = "above" if above else "not above"
    lines = [f"{score:.3g}: {verdict} {judged.threshold:.3g}", *_shares(judged, image)]
    place.set_xlabel("\n".join(lines), fontsize=5,
                     color="tab:red" if above else "black")  # fmt: skip


def _shares(judged: _Judged, image: ImageRow) -> list[str]:
    """What each modality gave to the highest finding on the slice, where a row joins two maps."""
    both = judged.row.identity.modality == "petct"
    found = [x.in_words for x in judged.results.findings_on(image.slice_id) if x.in_words]
    return found[:1] if both else []


def _outline(place: Axes, lesion: NDArray[np.uint8]) -> None:
    place.set_xticks([])
    place.set_yticks([])
    if lesion.any():
        place.contour(lesion > 0, levels=[0.5], colors="white", linewidths=0.6)
