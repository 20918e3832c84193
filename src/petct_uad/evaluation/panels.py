"""Pictures of the abnormal slices that a run scored highest, in the middle and lowest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from petct_uad.evaluation.tables import PANELS
from petct_uad.files import atomic_path
from petct_uad.slices.store import SliceStore


@dataclass(frozen=True)
class Panel:
    """One test slice as a person looks at it; all images (S, S).

    Attributes:
        ct: windowed HU in [0, 1].
        pet: SUVbw / suv_high in [0, 1].
        lesion: True inside the lesion.
        anomaly_map: higher is more abnormal.
    """

    slice_id: str
    score: float
    threshold: float
    suv_max: float
    ct: NDArray[np.float32]
    pet: NDArray[np.float32]
    lesion: NDArray[np.bool_]
    anomaly_map: NDArray[np.float32]


def choose_panels(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> dict[str, int]:
    """Indices of the best, median and worst scored abnormal slices; the first of equals."""
    abnormal = np.flatnonzero(labels == 1)
    ranked = abnormal[np.argsort(-scores[abnormal], kind="stable")]
    chosen = (ranked[0], ranked[(len(ranked) - 1) // 2], ranked[-1])
    return dict(zip(PANELS, map(int, chosen), strict=True))


def panel_of(
    store: SliceStore,
    index: int,
    score: float,
    threshold: float,
    anomaly_map: NDArray[np.float32],
) -> Panel:
    """The panel of the slice at ``index`` of the test split."""
    row = store.rows[index]
    return Panel(
        slice_id=row.slice_id,
        score=score,
        threshold=threshold,
        suv_max=row.suv_max,
        ct=store.ct[index].astype(np.float32),
        pet=store.pet[index].astype(np.float32),
        lesion=store.lesions([index])[0],
        anomaly_map=anomaly_map,
    )


def write_panel(path: Path, panel: Panel) -> None:
    """Draw CT, PET, the lesion's outline on both, and the map; the same panel, the same bytes.

    The map is scaled from its own minimum to its own maximum and coloured with jet, as in the
    figures of CMAD (section 5.2).
    """
    figure = Figure(figsize=(5.2, 5.9), dpi=120, layout="constrained")
    figure.suptitle(_title(panel), fontsize=9)
    (ct, pet), (both, anomaly) = figure.subplots(2, 2)
    _image(ct, "CT").imshow(panel.ct, cmap="gray", vmin=0, vmax=1)
    _image(pet, "PET").imshow(panel.pet, cmap="gray_r", vmin=0, vmax=1)
    _draw_fused(_image(both, "CT + PET, lesion outlined"), panel)
    shown = _image(anomaly, "anomaly map").imshow(panel.anomaly_map, cmap="jet")
    _outline(anomaly, panel.lesion, "white")
    bar = figure.colorbar(shown, ax=anomaly, location="bottom", fraction=0.05, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    with atomic_path(path) as temporary:
        # Without the version of matplotlib in the file, upgrades that draw alike keep its hash.
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _title(panel: Panel) -> str:
    verdict = "found" if panel.score > panel.threshold else "missed"
    figures = f"score {panel.score:.3f}, threshold {panel.threshold:.3f}: {verdict}"
    return f"{panel.slice_id}\n{figures}\nSUVmax {panel.suv_max:.1f}"


def _image(axes: Axes, title: str) -> Axes:
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()
    return axes


def _draw_fused(axes: Axes, panel: Panel) -> None:
    axes.imshow(panel.ct, cmap="gray", vmin=0, vmax=1)
    axes.imshow(panel.pet, cmap="hot", vmin=0, vmax=1, alpha=np.clip(panel.pet * 2, 0, 0.6))
    _outline(axes, panel.lesion, "cyan")


def _outline(axes: Axes, lesion: NDArray[np.bool_], colour: str) -> None:
    if lesion.any() and not lesion.all():
        axes.contour(lesion, levels=[0.5], colors=colour, linewidths=1)
