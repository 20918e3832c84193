"""One quality-control picture per study: what was taken for lung, and the slices that are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Plane = NDArray[np.float32]

_WINDOW_HU = (-1000.0, 300.0)
_PX_PER_MM = 0.8
_GAP_PX = 10
_TEXT_PX = 12
_HEAD_PX = 24
_LUNG, _ENDS, _KEPT = (0, 255, 255), (255, 255, 0), (255, 140, 0)


@dataclass(frozen=True)
class ThoraxFigure:
    """What is drawn of one study.

    Attributes:
        study_id: named in the title.
        ct: HU, on the grid of ``lungs``.
        lungs: 1 inside them.
        ends_mm: z of base and apex; None where no lungs were found.
        margin_mm: what is kept beyond both ends.
    """

    study_id: str
    ct: sitk.Image
    lungs: sitk.Image
    ends_mm: tuple[float, float] | None
    margin_mm: float


def draw_thorax(path: Path, figure: ThoraxFigure) -> None:
    """Draw a coronal and two sagittal planes as a PNG; the same images give the same bytes.

    Lungs are outlined in cyan, their ends are yellow lines, and the kept slices' are orange.
    """
    ct = figure.ct
    hu, mask = sitk.GetArrayFromImage(ct), sitk.GetArrayFromImage(figure.lungs) > 0
    ends = [ct.TransformIndexToPhysicalPoint((0, 0, k))[2] for k in (0, len(hu) - 1)]
    if ends[0] < ends[1]:  # head up
        hu, mask = hu[::-1], mask[::-1]
    x_mm, _, z_mm = ct.GetSpacing()
    panels = [_panel(*planes, x_mm, z_mm) for planes in _planes(hu, mask)]
    width = sum(panel.width for panel in panels) + _GAP_PX * (len(panels) + 1)
    canvas = Image.new("RGB", (width, panels[0].height + _HEAD_PX + _GAP_PX), "white")
    pen = ImageDraw.Draw(canvas)
    pen.text((_GAP_PX, 4), _title(figure), "black", ImageFont.load_default(_TEXT_PX))
    x = _GAP_PX
    for panel in panels:
        canvas.paste(panel, (x, _HEAD_PX))
        x += panel.width + _GAP_PX
    for z, colour in _lines(figure):
        y = _HEAD_PX + round((max(ends) - z) * _PX_PER_MM)
        pen.line((_GAP_PX, y, width - _GAP_PX, y), colour)
    canvas.save(path, format="PNG")


def _title(figure: ThoraxFigure) -> str:
    if figure.ends_mm is None:
        return f"{figure.study_id}: no lungs found"
    return f"{figure.study_id}: lungs from {figure.ends_mm[0]:.1f} to {figure.ends_mm[1]:.1f} mm"


def _lines(figure: ThoraxFigure) -> list[tuple[float, tuple[int, int, int]]]:
    if figure.ends_mm is None:
        return []
    low, high = figure.ends_mm
    kept = [(low - figure.margin_mm, _KEPT), (high + figure.margin_mm, _KEPT)]
    return [*kept, (low, _ENDS), (high, _ENDS)]


def _planes(hu: Plane, mask: NDArray[np.bool_]) -> list[tuple[Plane, NDArray[np.bool_]]]:
    """The coronal plane with most lung, and the sagittal one of each half."""
    row = int(mask.sum(axis=(0, 2)).argmax()) if mask.any() else mask.shape[1] // 2
    half = max(mask.shape[2] // 2, 1)
    columns = mask.sum(axis=(0, 1))
    right = int(columns[:half].argmax()) if columns[:half].any() else half // 2
    left = half + int(columns[half:].argmax()) if columns[half:].any() else 3 * half // 2
    left = min(left, mask.shape[2] - 1)
    return [
        (hu[:, row, :], mask[:, row, :]),
        *((hu[:, :, column], mask[:, :, column]) for column in (right, left)),
    ]


def _panel(hu: Plane, mask: NDArray[np.bool_], across_mm: float, z_mm: float) -> Image.Image:
    low, high = _WINDOW_HU
    grey = (np.clip((hu - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    rgb = np.repeat(grey[..., None], 3, axis=2)
    rgb[mask & ~ndimage.binary_erosion(mask)] = _LUNG
    rows, columns = hu.shape
    size = (
        max(1, round(columns * across_mm * _PX_PER_MM)),
        max(1, round(rows * z_mm * _PX_PER_MM)),
    )
    return Image.fromarray(rgb).resize(size, Image.Resampling.NEAREST)
