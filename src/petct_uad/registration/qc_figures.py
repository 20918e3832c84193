"""One quality-control picture per study: fused views and checkerboards, before and after."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from petct_uad.registration.acceptance import Decision

Plane = NDArray[np.float32]

_CT_WINDOW_HU = (-900.0, 250.0)
_EDGE_HU = -400.0  # skin, lung and airways; organ borders are too noisy to contour
_TILE_MM = 40.0
_MARGIN_MM = 20.0
_PANEL_PX = 315
_GAP_PX = 10
_TEXT_PX = 12
_LINE_PX = 18
_CYAN = (0, 255, 255)
_SUV_PERCENTILE = 99.5
_TITLE_CHARACTERS = 160


@dataclass(frozen=True)
class _View:
    """One plane of the target grid: (rows, columns) with the head up, or the front up."""

    name: str
    ct_hu: Plane
    before_suv: Plane
    after_suv: Plane
    row_mm: float
    column_mm: float

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of its panel."""
        rows, columns = self.ct_hu.shape
        return _PANEL_PX, round(_PANEL_PX * rows * self.row_mm / (columns * self.column_mm))


@dataclass(frozen=True)
class RegisteredStudy:
    """A study on its target grid.

    Attributes:
        ct: HU.
        body: 1 inside the patient.
        before: SUVbw through the identity.
        after: SUVbw through the transform in use.
    """

    study_id: str
    ct: sitk.Image
    body: sitk.Image
    before: sitk.Image
    after: sitk.Image
    decision: Decision


def draw_registration(path: Path, study: RegisteredStudy) -> None:
    """Draw CT and PET on one grid as a PNG; the same images give the same bytes."""
    views = _views(study)
    suv_high = max(float(np.percentile(_array(study.after), _SUV_PERCENTILE)), 0.1)
    title = _title(study.study_id, study.decision)
    head_px = _GAP_PX + _LINE_PX * (title.count("\n") + 1)
    row_px = _LINE_PX + max(view.size_px[1] for view in views) + _GAP_PX
    size = (4 * _PANEL_PX + 5 * _GAP_PX, head_px + 2 * row_px)
    canvas = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(canvas)
    pen.multiline_text((_GAP_PX, _GAP_PX // 2), title, "black", _font(), spacing=3)
    for row, stage in enumerate(("before", "after")):
        y = head_px + row * row_px
        for place, (name, panel) in enumerate(_panels(views, stage, suv_high)):
            x = _GAP_PX + place * (_PANEL_PX + _GAP_PX)
            pen.text((x, y), f"{stage}: {name}", "black", _font())
            canvas.paste(panel, (x, y + _LINE_PX))
    canvas.save(path, format="PNG")


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_TEXT_PX)


def _panels(
    views: tuple[_View, _View], stage: str, suv_high: float
) -> list[tuple[str, Image.Image]]:
    """The four panels of one row, each with its name."""
    found = []
    for view in views:
        pet = view.before_suv if stage == "before" else view.after_suv
        found.append((f"fused, {view.name}", _fused(view, pet / suv_high)))
        tiles = _checkerboard(view, pet / suv_high)
        found.append(("CT and PET tiles, CT contour", _contoured(view, tiles)))
    return found


def _title(study_id: str, decision: Decision) -> str:
    verdict = "accepted" if decision.accepted else "identity"
    before, after = decision.before, decision.after
    reason = textwrap.fill(f"{study_id}: {verdict}, {decision.reason}", _TITLE_CHARACTERS)
    return (
        f"{reason}\n"
        f"mutual information {before.mutual_information:.3f} to {after.mutual_information:.3f} nat,"
        f" body overlap {before.body_overlap:.3f} to {after.body_overlap:.3f},"
        f" displacement {decision.displacement_median_mm:.1f} mm (median)"
    )


def _views(study: RegisteredStudy) -> tuple[_View, _View]:
    box = _around_body(study.body)
    volumes = [_array(image)[box] for image in (study.ct, study.before, study.after)]
    x_mm, y_mm, z_mm = study.ct.GetSpacing()
    middle, row, _ = (count // 2 for count in volumes[0].shape)
    # Head up: the last slice on top where slices run towards the head (LPS z), as they mostly do.
    order = -1 if study.ct.GetDirection()[8] > 0 else 1
    coronal = [volume[::order, row, :] for volume in volumes]
    axial = [volume[middle] for volume in volumes]
    return (
        _View("coronal", coronal[0], coronal[1], coronal[2], z_mm, x_mm),
        _View("axial", axial[0], axial[1], axial[2], y_mm, x_mm),
    )


def _around_body(body: sitk.Image) -> tuple[slice, slice, slice]:
    """All slices, and in-plane the body with a margin; everything where there is no body."""
    inside = sitk.GetArrayViewFromImage(body) > 0
    planes = [np.flatnonzero(inside.any(axis=axes)) for axes in ((0, 2), (0, 1))]
    margins = [
        round(_MARGIN_MM / spacing) for spacing in (body.GetSpacing()[1], body.GetSpacing()[0])
    ]
    rows, columns = (
        slice(max(0, found[0] - margin), found[-1] + margin + 1) if len(found) else slice(None)
        for found, margin in zip(planes, margins, strict=True)
    )
    return slice(None), rows, columns


def _grey(ct_hu: Plane) -> Plane:
    low, high = _CT_WINDOW_HU
    return np.asarray(np.clip((ct_hu - low) / (high - low), 0, 1), dtype=np.float32)


def _fused(view: _View, uptake: Plane) -> Image.Image:
    """CT in grey; PET over it from black through red and yellow to white, clearer where low."""
    strength = np.clip(uptake, 0, 1)
    hot = np.clip(3 * strength[..., None] - np.arange(3), 0, 1)
    opacity = 0.75 * np.sqrt(strength)[..., None]
    return _panel(view, (1 - opacity) * _grey(view.ct_hu)[..., None] + opacity * hot)


def _checkerboard(view: _View, uptake: Plane) -> Image.Image:
    dark = 1 - np.sqrt(np.clip(uptake, 0, 1))
    tiles = np.where(_tiles(view), _grey(view.ct_hu), dark)
    return _panel(view, np.repeat(tiles[..., None], 3, axis=-1))


def _panel(view: _View, colours: NDArray[np.floating]) -> Image.Image:
    """Colours (rows, columns, 3) in [0, 1] at the size of a panel."""
    pixels = np.rint(255 * colours).astype(np.uint8)
    return Image.fromarray(pixels).resize(view.size_px, Image.Resampling.BILINEAR)


def _contoured(view: _View, panel: Image.Image) -> Image.Image:
    """The panel with the edge of all that is denser than -400 HU."""
    ct = Image.fromarray(view.ct_hu).resize(view.size_px, Image.Resampling.BILINEAR)
    dense = np.asarray(ct) > _EDGE_HU
    pixels = np.array(panel)
    pixels[dense & ~ndimage.binary_erosion(dense, border_value=1)] = _CYAN
    return Image.fromarray(pixels)


def _tiles(view: _View) -> NDArray[np.bool_]:
    rows, columns = np.indices(view.ct_hu.shape)
    down = (rows * view.row_mm // _TILE_MM).astype(int)
    across = (columns * view.column_mm // _TILE_MM).astype(int)
    return np.asarray((down + across) % 2 == 0, dtype=np.bool_)


def _array(image: sitk.Image) -> Plane:
    return np.asarray(sitk.GetArrayViewFromImage(image), dtype=np.float32)
