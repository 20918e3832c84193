"""Where a model has normal and abnormal slices, by t-SNE (``petct embed``).

t-SNE (van der Maaten & Hinton 2008) of slices as vectors, twice: as the model's encoder describes
them (Hetero-AE's Fig. 5 (a), by slice instead of by patch), and as its map shows them, which is
what encoder and decoder differ by at each place (Fig. 5 (b)). It shows neighbours only: neither
distances between groups nor their sizes mean anything, and no figure of merit comes from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from skimage.measure import block_reduce
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

from petct_uad.core.errors import EvaluationError, did_you_mean
from petct_uad.core.files import atomic_path
from petct_uad.evaluation.metrics import in_chunks
from petct_uad.models.benchmark import BenchmarkEntry, rows_of
from petct_uad.models.common.batch import Batch, at_side
from petct_uad.scoring.tables import ScoredRow
from petct_uad.scoring.trained import load_trained
from petct_uad.slices.store import SliceStore

_BATCH = 16
_MAP_SIDE = 16  # of a map as a vector
_MOST_COMPONENTS = 50  # before t-SNE, as its authors do
_PERPLEXITY = 30.0
_SEED = 0
_DPI = 150
Points = NDArray[np.float64]


@dataclass(frozen=True)
class EmbeddingPaths:
    """Where slices, models and maps lie."""

    processed: Path  # data/processed/<dataset>
    models: Path  # models
    scores: Path  # data/scores

    @classmethod
    def of(cls, dataset: str) -> Self:
        """Those of a data set, below the repository's root."""
        return cls(Path("data/processed") / dataset, Path("models"), Path("data/scores"))


@dataclass(frozen=True)
class Embedding:
    """The test slices in the plane.

    Attributes:
        labels: (n,) 0 normal, 1 abnormal.
        points: by what describes the slices: (n, 2).
    """

    labels: NDArray[np.int64]
    points: Mapping[str, Points]


def embed_row(
    row: str, benchmark: Mapping[str, BenchmarkEntry], paths: EmbeddingPaths, device: torch.device
) -> Embedding:
    """Place the test slices by a row's first seed; a model without an encoder has its map only.

    Raises:
        EvaluationError: there is no such row, or it was not scored.
        TrainingError: its model is missing.
    """
    known = rows_of(benchmark)
    if row not in known:
        near, rows = did_you_mean(row, known), ", ".join(known)
        raise EvaluationError(f"{row}: no row of the benchmark.{near} There are: {rows}.")
    name = known[row]
    scored = ScoredRow.read(paths.scores / name / row)
    test = SliceStore.open(paths.processed, "test")
    maps = scored.maps(scored.seeds[0], test.rows)
    trained = [paths.models / name / part for part in benchmark[name].rows[row]]
    described = _described(trained, scored.seeds[0], test, device)
    vectors = {"encoder": described} if described is not None else {}
    small = [_small(maps[some]) for some in in_chunks(len(test))]
    vectors["map"] = np.concatenate(small).reshape(len(test), -1)
    labels = np.array([x.label for x in test.rows], dtype=np.int64)
    return Embedding(labels, {of: in_the_plane(x) for of, x in vectors.items()})


def in_the_plane(vectors: NDArray[np.float32]) -> Points:
    """(n, D) to (n, 2): standardised, to their principal components, then t-SNE from the first two.

    The same vectors give the same points.
    """
    standard = StandardScaler().fit_transform(vectors.astype(np.float64))
    count = min(_MOST_COMPONENTS, *standard.shape)
    components = PCA(count, svd_solver="full").fit_transform(standard)
    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=_SEED, n_jobs=1)
    points: Points = tsne.fit_transform(components).astype(np.float64)
    return points


def draw_embedding(path: Path, row: str, embedding: Embedding) -> None:
    """Write a PNG: the slices by encoder and map, normal and abnormal; the same, the same bytes."""
    count = len(embedding.points)
    figure = Figure(figsize=(3.6 * count, 3.6), dpi=_DPI, layout="constrained")
    squares = figure.subplots(1, count, squeeze=False)[0]
    for axes, (of, points) in zip(squares, embedding.points.items(), strict=True):
        _scatter(axes, points, embedding.labels)
        axes.set_title(f"{row}: by its {of}", fontsize=8)
    squares[0].legend(fontsize=7)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _scatter(axes: Axes, points: Points, labels: NDArray[np.int64]) -> None:
    for label, name, colour in ((0, "normal", "tab:blue"), (1, "abnormal", "tab:red")):
        x, y = points[labels == label].T
        axes.scatter(x, y, s=8, alpha=0.7, color=colour, label=name, linewidths=0)
    axes.set(xticks=[], yticks=[])


def _described(
    trained: Sequence[Path], seed: int, store: SliceStore, device: torch.device
) -> NDArray[np.float32] | None:
    """(n, D) of one model, or of the two whose maps are fused, one after the other."""
    found = [_of_model(folder, seed, store, device) for folder in trained]
    known = [x for x in found if x is not None]
    return np.concatenate(known, axis=1) if len(known) == len(trained) else None


def _of_model(
    folder: Path, seed: int, store: SliceStore, device: torch.device
) -> NDArray[np.float32] | None:
    loaded = load_trained(folder, seed, device)
    images = at_side(store, loaded.config.image_size_px)
    chunks = torch.split(torch.arange(len(images)), _BATCH)
    with torch.inference_mode():
        vectors = [
            loaded.model.described(Batch.of(images, chunk.tolist()).to(device)) for chunk in chunks
        ]
    known = [x.float().cpu().numpy() for x in vectors if x is not None]
    return np.concatenate(known) if len(known) == len(vectors) else None


def _small(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, S, S) to (n, s, s) of s at most 16: the means of squares."""
    block = max(-(-maps.shape[-1] // _MAP_SIDE), 1)
    small: NDArray[np.float32] = block_reduce(maps, (1, block, block), np.mean)
    return small
