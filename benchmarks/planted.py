"""Is a planted mark told from a change of acquisition? A development set from validation normals.

    PYTHONPATH=src python benchmarks/planted.py models/hdhkd/hdhkd-pet

scores a trained row of one modality in the repository of the working directory. Each validation
normal is copied eight times; half of the copies have a mark, of four kinds, and every copy its own
gain, gamma and sharpness. Marks are drawn at 128 px and brought to the row's size, so that rows of
any size are asked about the same ones. A score that follows brightness or sharpness has an AUROC of
0.5 here. The test split is not opened.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
import typer
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from opensimplex import OpenSimplex
from rich.progress import track
from scipy import ndimage
from skimage.transform import resize
from sklearn.metrics import roc_auc_score

from petct_uad.core.console import console
from petct_uad.core.params.reading import ParamsFile
from petct_uad.models.common.batch import Batch, at_side
from petct_uad.models.common.interface import AnomalyModel
from petct_uad.scoring.trained import load_trained, seeds_of
from petct_uad.slices.store import SliceStore

Image: TypeAlias = NDArray[np.floating]

DRAWN_SIDE_PX = 128
RADIUS_PX = 6, 14  # at that side
SHIFT = 0.12, 0.35  # of grey levels from 0 to 1
SPREAD = 0.25  # of the logarithms of gain and gamma
WAVELENGTH_PX = 16
PART = "part of another"
KINDS = "grey level", "ring", PART, "blob"


def main(row: Path, seed: int = 2024, acquisition: bool = True) -> None:
    """Print the AUROC over all copies, and of each kind of mark against all clean copies."""
    torch.set_num_threads(1)
    model = load_trained(row, seeds_of([row])[0], torch.device("cpu")).model.eval()
    shards = SliceStore.open(Path("data/processed") / ParamsFile.read().dataset, "val")
    store = at_side(shards, getattr(model, "image_size_px", None))
    normal = [i for i, one in enumerate(store.rows) if one.label == 0]
    planes = store.ct if getattr(model, "modality", "pet") == "ct" else store.pet
    slices = planes[normal].astype(np.float32)
    clean: list[float] = []
    marked: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for i in track(range(len(slices)), "validation normals"):
        copies = _copies(slices, i, seed, acquisition)
        found = _scores(model, np.stack(copies)).reshape(len(KINDS), 2)
        clean += found[:, 0].tolist()
        for kind, score in zip(KINDS, found[:, 1].tolist(), strict=True):
            marked[kind].append(score)
    every = [score for scores in marked.values() for score in scores]
    console.print(f"{row}, {len(slices)} normals: AUROC {_auroc(clean, every):.4f}")
    for kind, scores in marked.items():
        console.print(f"  {kind} {_auroc(clean, scores):.3f}")


def _auroc(clean: list[float], marked: list[float]) -> float:
    labels = [0] * len(clean) + [1] * len(marked)
    return float(roc_auc_score(labels, clean + marked))


@torch.no_grad()
def _scores(model: AnomalyModel, images: Image) -> NDArray[np.float32]:
    tensor = torch.from_numpy(images.astype(np.float32))[:, None]
    scores = model.detect(Batch(tensor, tensor, tuple(map(str, range(len(images))))))[1]
    return scores.numpy()


def _copies(slices: Image, i: int, seed: int, acquisition: bool) -> list[Image]:
    """Slice ``i`` without and with a mark of each kind, in turn, each as acquired on its own."""
    copies = []
    for number in range(2 * len(KINDS)):
        image = slices[i]
        if number % 2:
            generator = default_rng([seed, i, number])
            other = slices[(i + 1 + generator.integers(len(slices) - 1)) % len(slices)]
            image = _planted(image, other, KINDS[number // 2], generator)
        drawn = default_rng([seed + 1, i, number])
        copies.append(_reacquired(image, drawn) if acquisition else image)
    return copies


def _reacquired(image: Image, generator: Generator) -> Image:
    """Another gain and gamma, then blurred or sharpened."""
    gain, gamma = np.exp(generator.normal(0, SPREAD)), np.exp(generator.normal(0, SPREAD))
    shown = gain * np.clip(image, 0, 1) ** gamma
    blur = generator.uniform(-1, 1)
    if blur > 0:
        shown = ndimage.gaussian_filter(shown, 1.2 * blur)
    else:
        shown = shown - 1.5 * blur * (shown - ndimage.gaussian_filter(shown, 1.0))
    return np.asarray(np.clip(shown, 0, 1))


def _planted(image: Image, other: Image, kind: str, generator: Generator) -> Image:
    """With one mark, which is drawn at ``DRAWN_SIDE_PX``, whatever the side of the slice."""
    small, small_other = (_at_side(one, DRAWN_SIDE_PX) for one in (image, other))
    change = _marked(small, small_other, kind, generator) - small
    return np.asarray(np.clip(image + _at_side(change, len(image)), 0, 1))


def _at_side(image: Image, side_px: int) -> Image:
    if len(image) == side_px:
        return image
    shrinks = side_px < len(image)
    return np.asarray(resize(image, (side_px, side_px), order=1, anti_aliasing=shrinks))


def _marked(image: Image, other: Image, kind: str, generator: Generator) -> Image:
    """With one mark inside what is not background."""
    radius_px = generator.uniform(*RADIUS_PX)
    row, column = _place(image, generator)
    distance = _ellipse(image.shape[0], row, column, radius_px, generator)
    shift = generator.choice([-1, 1]) * generator.uniform(*SHIFT)
    if kind == PART:
        from_row, from_column = _place(other, generator)
        moved = np.roll(other, (row - from_row, column - from_column), (0, 1))
        inside = _inside(distance, 1, radius_px)
        return image * (1 - inside) + moved * inside
    return np.clip(image + ADDED[kind](distance, radius_px, shift, generator), 0, 1)


def _place(image: Image, generator: Generator) -> tuple[int, int]:
    smooth = ndimage.gaussian_filter(image, 3)
    inside = ndimage.binary_erosion(smooth > 0.1, iterations=6)
    if not inside.any():
        inside = smooth >= np.quantile(smooth, 0.8)
    row, column = generator.choice(np.argwhere(inside))
    return int(row), int(column)


def _ellipse(side_px: int, row: int, column: int, radius_px: float, generator: Generator) -> Image:
    """Distance from the centre, 1 on the rim."""
    rows, columns = np.mgrid[:side_px, :side_px]
    angle, flat = generator.uniform(0, np.pi), generator.uniform(0.6, 1)
    along = (columns - column) * np.cos(angle) + (rows - row) * np.sin(angle)
    across = (rows - row) * np.cos(angle) - (columns - column) * np.sin(angle)
    return np.asarray(np.hypot(along / radius_px, across / (flat * radius_px)))


def _inside(distance: Image, rim: float, radius_px: float) -> Image:
    """1 within the rim, 0 outside, two pixels from one to the other."""
    return np.clip((rim - distance) * radius_px / 2 + 0.5, 0, 1)


def _grey(distance: Image, radius_px: float, shift: float, generator: Generator) -> Image:
    del generator
    return shift * _inside(distance, 1, radius_px)


def _ring(distance: Image, radius_px: float, shift: float, generator: Generator) -> Image:
    """Bright, around a dark centre."""
    del generator
    ring = np.exp(-(((distance - 0.75) * radius_px / 2) ** 2))
    return np.asarray(abs(shift) * (ring - 0.6 * _inside(distance, 0.6, radius_px)))


def _blob(distance: Image, radius_px: float, shift: float, generator: Generator) -> Image:
    """Smooth noise cut at a level, within a soft disc."""
    at = np.arange(len(distance)) / WAVELENGTH_PX
    noise = OpenSimplex(int(generator.integers(1 << 30))).noise2array(at, at)
    smooth = ndimage.gaussian_filter((noise > 0.1).astype(float), 1.5)
    blob = smooth * np.clip((1.3 - distance) * 3, 0, 1)
    return shift * (blob if blob.max() >= 0.3 else _inside(distance, 1, radius_px))


ADDED: dict[str, Callable[[Image, float, float, Generator], Image]] = {
    "grey level": _grey,
    "ring": _ring,
    "blob": _blob,
}

if __name__ == "__main__":
    typer.run(main)
