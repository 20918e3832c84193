"""Lesions planted into normal slices, in CT and PET alike, as the scanner would show them.

A lesion is a ball of soft tissue with an uptake above that of its surroundings. Its PET is blurred
by the scanner's resolution, so that a small one loses uptake to partial volume, as a real one does;
its CT by a CT's. Everything happens on the model's input, whose grey levels are linear in SUV and
HU within their windows, and is clipped where these end.

Shapes: D planes of one study, S image side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage, special

from petct_uad.volumes.resample import FWHM_PER_SIGMA

Place = Literal["lung", "soft tissue"]
PLACES: tuple[Place, ...] = get_args(Place)
Floats = NDArray[np.floating]

_LUNG_HU, _SOFT_TISSUE_HU = (-950.0, -600.0), (-50.0, 100.0)
_LESION_HU = 40.0
_CT_FWHM_MM = 1.5
_SHELL_MM = 5.0  # around a lesion, where its surroundings' uptake is read


@dataclass(frozen=True)
class Lesion:
    """What is planted.

    Attributes:
        diameter_mm: of the ball, before any blur.
        contrast: its SUV over that of its surroundings, before the PET's blur.
        place: the tissue that it lies in.
    """

    diameter_mm: float
    contrast: float
    place: Place

    @property
    def radius_mm(self) -> float:
        """Half of the diameter."""
        return self.diameter_mm / 2


@dataclass(frozen=True)
class Stack:
    """Planes of one study as a model sees them.

    Attributes:
        ct: (D, S, S) windowed HU in [0, 1].
        pet: (D, S, S) SUVbw / suv_high in [0, 1].
        body: (D, S, S) True inside the body.
        z_mm: (D,) of each plane, rising or falling.
        pixel_mm: side of a pixel.
    """

    ct: Floats
    pet: Floats
    body: NDArray[np.bool_]
    z_mm: Floats
    pixel_mm: float

    def distance_mm(self, site: Site) -> Floats:
        """(D, S, S) from a site."""
        rows, columns = np.ogrid[: self.ct.shape[1], : self.ct.shape[2]]
        in_plane = (rows - site.row) ** 2 + (columns - site.column) ** 2
        along = (self.z_mm - self.z_mm[site.plane])[:, None, None]
        return np.asarray(np.sqrt(self.pixel_mm**2 * in_plane + along**2))


@dataclass(frozen=True)
class Site:
    """The middle of a lesion: a plane of a stack, and a pixel."""

    plane: int
    row: int
    column: int


@dataclass(frozen=True)
class Window:
    """What 0 and 1 of the CT's grey levels are, in HU."""

    low_hu: float
    high_hu: float

    def grey(self, hu: float) -> float:
        """The grey level of a value."""
        return (hu - self.low_hu) / (self.high_hu - self.low_hu)


def draw_sites(
    stack: Stack, place: Place, window: Window, count: int, generator: Generator
) -> tuple[Site, ...]:
    """Places in this tissue, as deep inside it as a centimetre, any as likely; fewer if none is.

    Args:
        stack: of a study without lesions.
        place: the tissue, by its HU.
        window: of the CT.
        count: how many.
        generator: that draws them.
    """
    low, high = (window.grey(hu) for hu in (_LUNG_HU if place == "lung" else _SOFT_TISSUE_HU))
    tissue = stack.body & (stack.ct >= low) & (stack.ct <= high)
    margin_px = max(1, round(10.0 / stack.pixel_mm))
    deep = np.stack([ndimage.binary_erosion(plane, iterations=margin_px) for plane in tissue])
    found = np.argwhere(deep)
    if not len(found):
        return ()
    chosen = generator.choice(len(found), size=min(count, len(found)), replace=False)
    return tuple(Site(*map(int, found[i])) for i in np.sort(chosen))


def planted(
    stack: Stack, site: Site, lesion: Lesion, window: Window, fwhm_mm: float
) -> tuple[Floats, Floats]:
    """The stack's CT and PET (D, S, S), with one lesion.

    Args:
        stack: without it.
        site: its middle.
        lesion: its size, uptake and tissue.
        window: of the CT.
        fwhm_mm: resolution of the PET.
    """
    distance = stack.distance_mm(site)
    around = (distance >= lesion.radius_mm) & (distance <= lesion.radius_mm + _SHELL_MM)
    background = float(np.median(stack.pet[around & stack.body]))
    dense = blurred_ball(distance, lesion.radius_mm, _CT_FWHM_MM)
    uptake = blurred_ball(distance, lesion.radius_mm, fwhm_mm)
    ct = stack.ct + (window.grey(_LESION_HU) - stack.ct) * dense
    pet = stack.pet + (lesion.contrast - 1) * background * uptake
    return np.clip(ct, 0, 1), np.clip(pet, 0, 1)


def blurred_ball(distance_mm: Floats, radius_mm: float, fwhm_mm: float) -> Floats:
    """A ball of ones after a Gaussian blur in three dimensions, at distances from its middle.

    The convolution in closed form (Kessler, Ellis & Eden 1984 for the hot sphere in PET).
    """
    sigma = fwhm_mm / FWHM_PER_SIGMA
    r = np.maximum(distance_mm, 1e-6 * sigma)  # the middle is a limit
    near, far = (radius_mm - r) / (math.sqrt(2) * sigma), (radius_mm + r) / (math.sqrt(2) * sigma)
    inside = 0.5 * (special.erf(near) + special.erf(far))
    edge = sigma / (r * math.sqrt(2 * math.pi)) * (np.exp(-(near**2)) - np.exp(-(far**2)))
    return np.asarray(inside - edge)


def planes_within(z_mm: Floats, plane: int, reach_mm: float) -> NDArray[np.intp]:
    """The planes at most this far from one."""
    return np.flatnonzero(np.abs(z_mm - z_mm[plane]) <= reach_mm)


def grid_of(diameters_mm: Sequence[float], contrasts: Sequence[float]) -> tuple[Lesion, ...]:
    """Every size with every contrast in every tissue."""
    return tuple(
        Lesion(diameter, contrast, place)
        for place in PLACES
        for contrast in contrasts
        for diameter in diameters_mm
    )
