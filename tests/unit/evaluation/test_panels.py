from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from petct_uad.evaluation.panels import Panel, write_panel
from petct_uad.evaluation.tables import PANEL_LAYERS

SIZE = 8
RAMP = np.linspace(0, 1, SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE)


def strip(tmp_path: Path, **changed: Any) -> dict[str, np.ndarray]:
    layers = {"ct": RAMP, "pet": np.zeros_like(RAMP), "lesion": RAMP > 0.9, "anomaly_map": RAMP}
    write_panel(tmp_path / "a.png", Panel(**(layers | changed)))
    with Image.open(tmp_path / "a.png") as image:
        tiles = np.split(np.asarray(image), len(PANEL_LAYERS), axis=1)
    return dict(zip(PANEL_LAYERS, tiles, strict=True))


def test_layers_keep_every_pixel_in_place(tmp_path: Path) -> None:
    tiles = strip(tmp_path)
    assert np.array_equal(tiles["ct"][..., 0] / 255, np.round(RAMP * 255) / 255) or (
        np.abs(tiles["ct"][..., 0] / 255 - RAMP).max() < 1 / 255
    )
    assert np.array_equal(tiles["lesion"][..., 0] > 0, RAMP > 0.9)
    assert (tiles["pet"] == 255).all()


def test_the_map_spans_jet_and_viridis_from_its_own_minimum_to_its_own_maximum(
    tmp_path: Path,
) -> None:
    for values in (RAMP, 5 + 0.01 * RAMP):
        tiles = strip(tmp_path, anomaly_map=values)
        assert tiles["jet"][0, 0].tolist() == [0, 0, 127]
        assert tiles["jet"][-1, -1].tolist() == [127, 0, 0]
        assert tiles["viridis"][0, 0].tolist() == [68, 1, 84]
        assert tiles["viridis"][-1, -1].tolist() == [253, 231, 36]


def test_a_map_without_contrast_is_drawn_at_its_lowest_colour(tmp_path: Path) -> None:
    tiles = strip(tmp_path, anomaly_map=np.full_like(RAMP, 3.0))
    assert (tiles["jet"] == [0, 0, 127]).all()


def test_where_nothing_is_taken_up_both_shows_the_ct(tmp_path: Path) -> None:
    tiles = strip(tmp_path)
    assert np.array_equal(tiles["fused"], tiles["ct"])
    assert not np.array_equal(strip(tmp_path, pet=RAMP)["fused"], tiles["ct"])


def test_the_same_slice_gives_the_same_bytes(tmp_path: Path) -> None:
    strip(tmp_path)
    first = (tmp_path / "a.png").read_bytes()
    strip(tmp_path)
    assert (tmp_path / "a.png").read_bytes() == first
