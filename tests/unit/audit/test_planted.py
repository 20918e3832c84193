"""Lesions planted into normal slices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from petct_uad.audit.planted import (
    Lesion,
    Site,
    Stack,
    Window,
    blurred_ball,
    draw_sites,
    planted,
)

WINDOW = Window(-1000.0, 300.0)
LUNG, SOFT, AIR = (WINDOW.grey(hu) for hu in (-800.0, 40.0, -1000.0))


def thorax(planes: int = 9, side: int = 64, pixel_mm: float = 4.0) -> Stack:
    """A square body with one square lung, PET 0.2 in soft tissue and 0.1 in lung."""
    ct = np.full((planes, side, side), AIR)
    ct[:, 4:-4, 4:-4] = SOFT
    ct[:, 16:40, 16:40] = LUNG
    pet = np.where(ct == SOFT, 0.2, np.where(ct == LUNG, 0.1, 0.0))
    return Stack(ct, pet, ct > AIR, 4.0 * np.arange(planes), pixel_mm)


def test_a_blurred_ball_is_what_a_gaussian_filter_makes_of_a_ball() -> None:
    step, radius, fwhm = 0.5, 5.0, 6.0
    at = step * np.arange(-40, 41)
    distance = np.sqrt(at[:, None, None] ** 2 + at[:, None] ** 2 + at**2)
    filtered = ndimage.gaussian_filter((distance <= radius).astype(float), fwhm / 2.3548 / step)
    assert blurred_ball(distance, radius, fwhm) == pytest.approx(filtered, abs=0.01)


def test_a_small_lesion_loses_uptake_to_the_scanners_resolution_and_a_large_one_does_not() -> None:
    middle = np.zeros(1)
    small, large = (blurred_ball(middle, radius, 6.0)[0] for radius in (3.0, 15.0))
    assert small < 0.45
    assert large > 0.999


@pytest.mark.parametrize(("place", "level"), [("lung", 0.1), ("soft tissue", 0.2)])
def test_a_large_lesion_has_the_contrast_that_was_asked_in_its_middle(
    place: str, level: float
) -> None:
    stack = thorax()
    site = Site(4, 28, 28) if place == "lung" else Site(4, 50, 50)
    lesion = Lesion(24.0, 3.0, "lung" if place == "lung" else "soft tissue")
    ct, pet = planted(stack, site, lesion, WINDOW, fwhm_mm=5.0)
    assert pet[4, site.row, site.column] == pytest.approx(3 * level, rel=0.01)
    assert ct[4, site.row, site.column] == pytest.approx(SOFT, abs=0.01)


def test_far_from_a_lesion_nothing_changes() -> None:
    stack = thorax()
    ct, pet = planted(stack, Site(4, 28, 28), Lesion(8.0, 5.0, "lung"), WINDOW, 5.0)
    far = stack.distance_mm(Site(4, 28, 28)) > 25
    assert ct[far] == pytest.approx(stack.ct[far])
    assert pet[far] == pytest.approx(stack.pet[far], abs=1e-6)
    assert pet[~far].max() > stack.pet[~far].max()


def test_grey_levels_stay_within_their_window() -> None:
    ct, pet = planted(thorax(), Site(4, 50, 50), Lesion(30.0, 50.0, "soft tissue"), WINDOW, 5.0)
    assert (pet.max(), ct.max()) == (1.0, pytest.approx(SOFT, abs=1e-6))


def test_sites_lie_deep_in_their_tissue_and_are_the_same_for_the_same_seed() -> None:
    stack = thorax()
    first, again = (
        draw_sites(stack, "lung", WINDOW, 5, np.random.default_rng(3)) for _ in range(2)
    )
    assert first == again
    assert len(set(first)) == 5
    for site in first:
        around = stack.ct[
            site.plane, site.row - 2 : site.row + 3, site.column - 2 : site.column + 3
        ]
        assert (around == LUNG).all()


def test_a_body_without_that_tissue_has_no_sites() -> None:
    stack = thorax()
    solid = Stack(np.full_like(stack.ct, SOFT), stack.pet, stack.body, stack.z_mm, stack.pixel_mm)
    assert draw_sites(solid, "lung", WINDOW, 5, np.random.default_rng(0)) == ()
