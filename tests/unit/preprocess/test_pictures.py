"""A picture becomes a square, stretched or as QFAE puts LiverCT on a canvas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from petct_uad.preprocess.images import write_image_shard
from petct_uad.slices.store import Shard, read_shard
from petct_uad.slices.tables import shard_path
from tests.unit.preprocess.test_shards import preprocess_params, slice_rows

SIDE = 64


def written(tmp_path: Path, grey: np.ndarray, mask: np.ndarray, **changes: object) -> Shard:
    for name, pixels in (("image", grey), ("mask", mask)):
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{name}.png")
    rows = [replace(slice_rows("S")[0], lesion_area_mm2=float((mask > 0).sum()))]
    params = preprocess_params(image_size_px=SIDE, **changes)
    write_image_shard(rows, tmp_path / "image.png", tmp_path / "mask.png", tmp_path, params)
    return read_shard(shard_path(tmp_path, "S"))


def organ(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A textured organ off the middle of a black picture of 200 by 160, and a lesion in it."""
    grey, mask = np.zeros((2, 200, 160))
    texture = np.random.default_rng(0).integers(90, 110, (height, width))
    grey[10 : 10 + height, 20 : 20 + width] = texture
    mask[15:20, 30:34] = 255
    return grey, mask


def test_a_small_organ_keeps_its_pixels_in_the_middle_of_the_canvas(tmp_path: Path) -> None:
    grey, mask = organ(40, 30)
    shard = written(tmp_path, grey, mask, pictures="canvas")
    found = shard.ct[0]
    rows, columns = np.nonzero(found)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (12, 51, 17, 46)
    assert found[12:52, 17:47] == pytest.approx(grey[10:50, 20:50] / 255, abs=1e-3)
    assert np.count_nonzero(shard.lesion) == 5 * 4
    assert shard.lesion[0, 17:22, 27:31].all()
    assert np.array_equal(shard.ct, shard.pet)


def test_a_large_organ_is_shrunk_to_fit_with_its_aspect_kept(tmp_path: Path) -> None:
    grey, mask = organ(160, 80)
    shard = written(tmp_path, grey, mask, pictures="canvas")
    rows, columns = np.nonzero(shard.ct[0])
    assert np.ptp(rows) + 1 == SIDE
    assert np.ptp(columns) + 1 == SIDE // 2
    assert shard.lesion.any()


def test_a_stretched_picture_is_all_of_it(tmp_path: Path) -> None:
    grey, mask = organ(40, 30)
    shard = written(tmp_path, grey, mask)
    expected = Image.fromarray(grey.astype(np.uint8)).resize((SIDE, SIDE), 2)
    assert shard.ct[0] == pytest.approx(np.asarray(expected) / 255, abs=1e-3)


def test_the_filter_smooths_the_organ_on_a_canvas_and_no_stretched_picture(tmp_path: Path) -> None:
    grey, mask = organ(40, 30)
    plain, smooth = (
        written(tmp_path, grey, mask, pictures="canvas", bilateral_ct=on) for on in (False, True)
    )
    inside = plain.ct[0] > 0
    assert smooth.ct[0][inside].std() < 0.7 * plain.ct[0][inside].std()
    assert not smooth.ct[0][~inside].any()
    stretched = [written(tmp_path, grey, mask, bilateral_ct=on) for on in (False, True)]
    assert np.array_equal(stretched[0].ct, stretched[1].ct)


def test_a_black_picture_is_a_black_canvas(tmp_path: Path) -> None:
    nothing = np.zeros((50, 40))
    assert not written(tmp_path, nothing, nothing, pictures="canvas").ct.any()
