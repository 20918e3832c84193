"""A test slice and what a run made of it, as one picture of several layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from petct_uad.core.files import atomic_path
from petct_uad.evaluation.tables import PANEL_LAYERS
from petct_uad.slices.store import Shard

_MOST_UPTAKE = 0.7  # how far the PET's colour covers the CT


@dataclass(frozen=True)
class Panel:
    """One test slice as a person looks at it; all images (S, S).

    Attributes:
        ct: windowed HU in [0, 1].
        pet: SUVbw / suv_high in [0, 1].
        lesion: True inside the lesion.
        anomaly_map: higher is more abnormal.
    """

    ct: NDArray[np.float32]
    pet: NDArray[np.float32]
    lesion: NDArray[np.bool_]
    anomaly_map: NDArray[np.float32]


def panel_of(shard: Shard, shard_row: int, anomaly_map: NDArray[np.float32]) -> Panel:
    """The panel of one slice of a study."""
    return Panel(
        ct=shard.ct[shard_row].astype(np.float32),
        pet=shard.pet[shard_row].astype(np.float32),
        lesion=shard.lesion[shard_row] > 0,
        anomaly_map=anomaly_map,
    )


def write_panel(path: Path, panel: Panel) -> None:
    """Write the slice's layers side by side, pixel by pixel; the same panel, the same bytes.

    A PNG of S by S squares from left to right, as ``PANEL_LAYERS`` names them: CT; PET, dark where
    the uptake is; PET in colour on CT; the map with jet, from its own minimum to its own maximum,
    as in the figures of CMAD (section 5.2); the map with viridis, whose steps look as large as they
    are; and the lesion, white on black.
    """
    layers = {
        "ct": _coloured(panel.ct, "gray"),
        "pet": _coloured(panel.pet, "gray_r"),
        "fused": fused(panel.ct, panel.pet),
        "jet": _coloured(_min_max(panel.anomaly_map), "jet"),
        "viridis": _coloured(_min_max(panel.anomaly_map), "viridis"),
        "lesion": _coloured(panel.lesion.astype(np.float32), "gray"),
    }
    strip = np.concatenate([layers[name] for name in PANEL_LAYERS], axis=1)
    with atomic_path(path) as temporary:
        Image.fromarray(strip).save(temporary, "PNG", optimize=True)


def _coloured(image: NDArray[np.float32], colours: str) -> NDArray[np.uint8]:
    """(S, S) in [0, 1] to (S, S, 3)."""
    coloured: NDArray[np.uint8] = mpl.colormaps[colours](np.clip(image, 0, 1), bytes=True)
    return coloured[..., :3]


def fused(ct: NDArray[np.float32], pet: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Uptake in the colours of hot iron, the more of it the denser, on the CT: (S, S, 3)."""
    density = np.clip(2 * pet, 0, _MOST_UPTAKE)[..., None]
    mixed = density * _coloured(pet, "hot") + (1 - density) * _coloured(ct, "gray")
    return np.round(mixed).astype(np.uint8)


def _min_max(image: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = image.min(), image.max()
    return (image - low) / (high - low) if high > low else np.zeros_like(image)
