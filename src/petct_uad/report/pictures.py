"""Pictures inside the page: the layers of a test slice, and those of the registration."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import find_contours

from petct_uad.core.errors import EvaluationError
from petct_uad.evaluation.metrics import choose_panels
from petct_uad.evaluation.results import RunResults
from petct_uad.evaluation.tables import PANEL_LAYERS, FindingRow
from petct_uad.slices.tables import ImageRow

_PICTURE_WIDTH_PX = 1000
_LESION = "lesion"


@dataclass(frozen=True)
class Picture:
    """An image inside the page."""

    caption: str
    uri: str
    flag: str = ""


@dataclass(frozen=True)
class Layers:
    """One test slice as layers of one size: where the score is, and why."""

    kind: str  # best, median or worst
    slice_id: str
    study_id: str
    score: float
    threshold: float
    suv_max: float
    size_px: int
    uris: Mapping[str, str]  # by name of PANEL_LAYERS, without the lesion
    outline: str  # of the lesion, as an SVG path in pixels
    findings: tuple[FindingRow, ...]  # that go through the slice, the highest first

    @property
    def found(self) -> bool:
        """Did the score exceed the threshold from validation normals?"""
        return self.score > self.threshold


def panel_files(folder: Path) -> tuple[Path, ...]:
    """The pictures of a run that are there; a trivial baseline has none."""
    return tuple(sorted(folder.glob("*.png")))


def read_layers(
    folder: Path, run: RunResults, images: Mapping[str, ImageRow]
) -> tuple[Layers, ...]:
    """The pictures of one run, from best to worst.

    Args:
        folder: ``reports/panels/<family>/<run>``.
        images: the rows of ``index.csv`` by slice_id.

    Raises:
        EvaluationError: a picture is not as ``evaluate`` writes it.
    """
    present = {file.stem: file for file in panel_files(folder)}
    if not present:
        return ()
    scores, rows = run.scores_by_seed[0], run.by_seed[0]
    return tuple(
        _layers(kind, present[kind], rows[index].score, run, images[rows[index].slice_id])
        for kind, index in choose_panels(scores.labels, scores.scores).items()
        if kind in present
    )


def _layers(kind: str, file: Path, score: float, run: RunResults, image: ImageRow) -> Layers:
    tiles = _tiles(file)
    lesion = np.asarray(tiles.pop(_LESION).convert("L")) > 0
    return Layers(
        kind=kind,
        slice_id=image.slice_id,
        study_id=image.study_id,
        score=score,
        threshold=run.metrics.thresholds[0],
        suv_max=image.suv_max,
        size_px=len(lesion),
        uris={name: _lossless_uri(tile) for name, tile in tiles.items()},
        outline=_outline(lesion),
        findings=run.findings_on(image.slice_id),
    )


def _tiles(file: Path) -> dict[str, Image.Image]:
    with Image.open(file) as strip:
        size = strip.height
        if strip.width != size * len(PANEL_LAYERS):
            raise EvaluationError(
                f"{file}: {strip.width} by {size} pixels, expected {len(PANEL_LAYERS)} squares. "
                "Another version wrote it: run `dvc repro compare`."
            )
        return {
            name: strip.crop((size * place, 0, size * (place + 1), size))
            for place, name in enumerate(PANEL_LAYERS)
        }


def _outline(mask: NDArray[np.bool_]) -> str:
    """The mask's edge as an SVG path; pixel i spans i to i + 1."""
    closed = np.pad(mask, 1).astype(float)
    lines = (contour[:, ::-1] - 0.5 for contour in find_contours(closed, 0.5))
    return "".join(f"M{_points(line)}Z" for line in lines)


def _points(line: NDArray[np.float64]) -> str:
    return "L".join(f"{x:g} {y:g}" for x, y in line)


def qc_pictures(files: Iterable[Path], flags: Mapping[str, str]) -> tuple[Picture, ...]:
    """Quality-control pictures at report size, a fraction of the PNGs' bytes."""
    return tuple(Picture(file.stem, _small_uri(file), flags.get(file.stem, "")) for file in files)


def _small_uri(path: Path) -> str:
    with Image.open(path) as image:
        small = image.convert("RGB")
        small.thumbnail((_PICTURE_WIDTH_PX, _PICTURE_WIDTH_PX))
        return _webp_uri(small, quality=80, method=2)


def _lossless_uri(image: Image.Image) -> str:
    # Of a lossless picture, quality is the encoder's effort.
    return _webp_uri(image, lossless=True, quality=50, method=1)


def _webp_uri(image: Image.Image, **options: int) -> str:
    out = io.BytesIO()
    image.save(out, "WEBP", **options)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
