"""Contours become masks on the CT's voxels."""

from __future__ import annotations

import numpy as np
from skimage.draw import polygon2mask

from petct_uad.ingest.dicom.drawing import rasterise
from petct_uad.ingest.dicom.geometry import Grid

GRID = Grid((0.0, 0.0, 0.0), (1.0, 1.0, 2.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), (20, 20, 10))


def square(low: float, high: float, z_mm: float) -> np.ndarray:
    return np.array(
        [[low, low, z_mm], [high, low, z_mm], [high, high, z_mm], [low, high, z_mm]], float
    )


def filled(mask: np.ndarray) -> list[int]:
    """The slices that hold any of it."""
    found: list[int] = np.flatnonzero(mask.any(axis=(1, 2))).tolist()
    return found


def test_area_is_that_of_the_contour() -> None:
    mask, outside = rasterise([square(4.5, 12.5, 6.0)], GRID, 2.0)
    assert mask[3].sum() == 64
    assert mask.sum() == 64
    assert outside == 0


def test_contour_inside_a_contour_is_a_hole() -> None:
    mask, _ = rasterise([square(4.5, 12.5, 6.0), square(7.5, 9.5, 6.0)], GRID, 2.0)
    assert mask[3].sum() == 60
    assert mask[3, 8, 8] == 0


def test_wider_planes_fill_the_slices_between() -> None:
    contours = [square(4.5, 12.5, z) for z in (4.0, 8.0)]
    narrow, _ = rasterise(contours, GRID, 2.0)
    wide, _ = rasterise(contours, GRID, 4.0)
    assert filled(narrow) == [2, 4]
    assert filled(wide) == [1, 2, 3, 4, 5]


def test_planes_closer_than_the_slices_reach_half_a_slice() -> None:
    mask, _ = rasterise([square(4.5, 12.5, 6.8)], GRID, 1.0)
    assert filled(mask) == [3]


def test_lesions_far_apart_stay_apart() -> None:
    mask, _ = rasterise([square(4.5, 12.5, 2.0), square(4.5, 12.5, 16.0)], GRID, 2.0)
    assert filled(mask) == [1, 8]


def test_contours_beyond_the_grid_are_counted() -> None:
    beyond = [square(4.5, 12.5, 40.0), square(30.0, 35.0, 6.0)]
    mask, outside = rasterise(beyond, GRID, 2.0)
    assert not mask.any()
    assert outside == 2


def test_voxels_whose_centres_lie_on_the_contour_belong_to_it() -> None:
    mask, _ = rasterise([square(4.0, 12.0, 6.0)], GRID, 2.0)
    assert mask[3, 4:13, 4:13].all()
    assert mask.sum() == 81


def test_any_polygon_is_filled_as_scikit_image_fills_it() -> None:
    random = np.random.default_rng(5)
    for _ in range(100):
        corners = random.uniform(-5, 25, (random.integers(3, 20), 2))
        mask, _ = rasterise([np.insert(corners, 2, 6.0, axis=1)], GRID, 2.0)
        assert (mask[3] == polygon2mask((20, 20), corners[:, ::-1])).all()
