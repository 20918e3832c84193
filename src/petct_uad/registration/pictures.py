"""One quality-control picture per study: fused views and checkerboards, before and after."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from petct_uad.registration.decision import Decision

Plane = NDArray[np.float32]

_CT_WINDOW_HU = (-900.0, 250.0)
_EDGE_LEVELS_HU = (-400.0,)  # skin, lung and airways; organ borders are too noisy to contour
_TILE_MM = 40.0
_MARGIN_MM = 20.0
_PANEL_INCH = 3.5
_TEXT_INCH = 0.3
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
    def extent(self) -> tuple[float, float, float, float]:
        rows, columns = self.ct_hu.shape
        return (0.0, columns * self.column_mm, rows * self.row_mm, 0.0)


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
    # The Agg canvas comes with Figure.savefig: no pyplot, no display, no global state.
    with mpl.rc_context({"font.size": 9, "figure.facecolor": "white"}):
        figure = Figure(figsize=_size_inch(views), dpi=90, layout="constrained")
        figure.suptitle(_title(study.study_id, study.decision))
        for row, (stage, axes) in enumerate(zip(("before", "after"), _axes(figure), strict=True)):
            for column, view in enumerate(views):
                pet = view.before_suv if row == 0 else view.after_suv
                _draw_fused(axes[2 * column], view, pet, suv_high)
                _draw_checkerboard(axes[2 * column + 1], view, pet, suv_high)
                axes[2 * column].set_title(f"{stage}: fused, {view.name}")
                axes[2 * column + 1].set_title(f"{stage}: CT and PET tiles, CT contour")
        figure.savefig(path, format="png", metadata={"Software": None})


def _size_inch(views: tuple[_View, _View]) -> tuple[float, float]:
    tallest = max(view.extent[2] / view.extent[1] for view in views)
    return (4 * _PANEL_INCH, 2 * (tallest * _PANEL_INCH + _TEXT_INCH) + 2 * _TEXT_INCH)


def _axes(figure: Figure) -> list[list[Axes]]:
    return [list(line) for line in figure.subplots(2, 4)]


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
    inside = _array(body) > 0
    planes = [np.flatnonzero(inside.any(axis=axes)) for axes in ((0, 2), (0, 1))]
    margins = [
        round(_MARGIN_MM / spacing) for spacing in (body.GetSpacing()[1], body.GetSpacing()[0])
    ]
    rows, columns = (
        slice(max(0, found[0] - margin), found[-1] + margin + 1) if len(found) else slice(None)
        for found, margin in zip(planes, margins, strict=True)
    )
    return slice(None), rows, columns


def _draw_fused(axes: Axes, view: _View, pet: Plane, suv_high: float) -> None:
    low, high = _CT_WINDOW_HU
    axes.imshow(view.ct_hu, cmap="gray", vmin=low, vmax=high, extent=view.extent)
    strength = np.clip(pet / suv_high, 0, 1)
    axes.imshow(
        pet, cmap="hot", vmin=0, vmax=suv_high, alpha=0.75 * np.sqrt(strength), extent=view.extent
    )
    axes.set_axis_off()


def _draw_checkerboard(axes: Axes, view: _View, pet: Plane, suv_high: float) -> None:
    low, high = _CT_WINDOW_HU
    ct = np.clip((view.ct_hu - low) / (high - low), 0, 1)
    uptake = 1 - np.sqrt(np.clip(pet / suv_high, 0, 1))
    tiles = np.where(_tiles(view), ct, uptake)
    axes.imshow(tiles, cmap="gray", vmin=0, vmax=1, extent=view.extent)
    rows, columns = ct.shape
    x = (np.arange(columns) + 0.5) * view.column_mm
    y = (np.arange(rows) + 0.5) * view.row_mm
    axes.contour(x, y, view.ct_hu, levels=_EDGE_LEVELS_HU, colors="cyan", linewidths=0.7)
    axes.set_axis_off()


def _tiles(view: _View) -> NDArray[np.bool_]:
    rows, columns = np.indices(view.ct_hu.shape)
    down = (rows * view.row_mm // _TILE_MM).astype(int)
    across = (columns * view.column_mm // _TILE_MM).astype(int)
    return np.asarray((down + across) % 2 == 0, dtype=np.bool_)


def _array(image: sitk.Image) -> Plane:
    return np.asarray(sitk.GetArrayFromImage(image), dtype=np.float32)
