"""The four lesion kinds of CMAD section 4.1: where they sit and how they look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from petct_uad.phantom.canvas import Labels, depth_in_tube
from petct_uad.phantom.grids import Floats, Grid, Mask, Vector
from petct_uad.phantom.tissue import Tissue
from petct_uad.phantom.truth import LesionKind, Site, Visibility


@dataclass(frozen=True)
class LesionPlan:
    """What the cohort's design asks for."""

    kind: LesionKind
    visibility: Visibility
    height: float  # of its centre, as a fraction of the stack
    index: int  # among the cohort's lesions


@dataclass(frozen=True)
class Look:
    """Ranges that make a kind; lengths in mm."""

    diameter: tuple[float, float]
    suv: tuple[float, float]
    hu: tuple[float, float]
    lobulation: float  # relative depth of the lobes
    spicules: int
    flattening: float  # shortest over longest axis
    halo: float  # width of the ground-glass rim
    site: Site


LOOKS: dict[LesionKind, Look] = {
    "small-cell carcinoma": Look((30, 44), (4.5, 9.0), (34, 48), 0.16, 0, 0.85, 0, "central lung"),
    "adenocarcinoma": Look((24, 38), (3.5, 8.0), (15, 40), 0.12, 16, 0.85, 5, "peripheral lung"),
    "fibrous hyperplasia": Look((22, 34), (2.2, 4.0), (0, 35), 0.28, 6, 0.5, 0, "peripheral lung"),
    "granuloma": Look((18, 30), (3.0, 7.0), (60, 110), 0.03, 0, 0.95, 0, "peripheral lung"),
}

_OUTSIDE_LUNG: tuple[Site, ...] = ("marrow", "node", "chest wall")
_GROUND_GLASS_HU = -560.0
_SOFT_WALL = (Tissue.MUSCLE, Tissue.FAT, Tissue.CORTEX, Tissue.MARROW, Tissue.CARTILAGE)
_ORGANS = (Tissue.FAT, Tissue.BLOOD, Tissue.MYOCARDIUM, Tissue.SOFT, Tissue.LIVER, Tissue.AIRWAY)
_HOSTS: dict[Site, tuple[Tissue, ...]] = {
    "peripheral lung": (Tissue.LUNG,),
    "central lung": (Tissue.LUNG,),
    "marrow": (Tissue.MARROW, Tissue.CORTEX, Tissue.DISC, Tissue.CARTILAGE, Tissue.MUSCLE),
    "node": (Tissue.FAT, Tissue.SOFT),
    "chest wall": (Tissue.MUSCLE, Tissue.FAT, Tissue.CORTEX, Tissue.MARROW),
}


@dataclass(frozen=True)
class Lesion:
    """One lesion in anatomy coordinates (mm)."""

    kind: LesionKind
    visibility: Visibility
    site: Site
    centre: Vector
    diameter: float
    suv: float
    hu: float | None  # None where the CT looks normal
    lobes: tuple[tuple[Vector, float], ...]  # unit direction, relative height
    squeeze: Vector  # unit direction along which the lesion is flattened
    flattening: float
    spicules: tuple[tuple[Vector, float], ...]  # unit direction, length beyond the surface (mm)
    halo: float
    ground_glass: bool
    calcified: float  # radius of the calcified core, relative

    @property
    def hosts(self) -> tuple[Tissue, ...]:
        """The tissues that the lesion may replace."""
        return _HOSTS[self.site]


def draw_lesion(
    rng: np.random.Generator, plan: LesionPlan, labels: Labels, grid: Grid, z_mm: float
) -> Lesion:
    """Draw a lesion whose centre lies at ``z_mm``, in tissue that can hold it.

    Args:
        labels: rendered tissue on ``grid``, both in anatomy coordinates.
    """
    look = LOOKS[plan.kind]
    site = _site(plan, look)
    diameter = float(rng.uniform(*_diameters(plan, look, site)))
    shown_on_ct = plan.visibility in ("both", "ct")
    return Lesion(
        kind=plan.kind,
        visibility=plan.visibility,
        site=site,
        centre=_place(
            rng,
            site,
            plan.visibility == "mismatch",
            diameter / 2,
            labels=labels,
            grid=grid,
            z_mm=z_mm,
        ),
        diameter=diameter,
        suv=float(rng.uniform(*_suvs(plan, look))),
        hu=float(rng.uniform(*look.hu)) if shown_on_ct else None,
        lobes=tuple((_direction(rng), look.lobulation * rng.uniform(-1, 1)) for _ in range(9)),
        squeeze=_direction(rng),
        flattening=look.flattening * float(rng.uniform(0.9, 1.05)),
        spicules=tuple(
            (_direction(rng), float(rng.uniform(4, 11)))
            for _ in range(look.spicules if shown_on_ct else 0)
        ),
        halo=look.halo,
        ground_glass=plan.kind == "adenocarcinoma" and plan.visibility == "ct",
        calcified=float(rng.uniform(0.35, 0.6)) if plan.kind == "granuloma" else 0.0,
    )


def body_fraction(lesion: Lesion, grid: Grid, box: tuple[slice, slice, slice]) -> Floats:
    """How much of each voxel in ``box`` the lesion's body fills, 0 to 1."""
    part = grid.part(box)
    softness = max(part.spacing[1:])
    return np.asarray(np.clip(0.5 + _depth(lesion, part) / softness, 0, 1), dtype=np.float32)


def lesion_box(lesion: Lesion, grid: Grid) -> tuple[slice, slice, slice]:
    """The part of ``grid`` that the lesion and its spicules can reach."""
    return grid.box(lesion.centre, 0.8 * lesion.diameter + 14.0)


def host_mask(lesion: Lesion, labels: Labels) -> Mask:
    """Where ``labels`` hold tissue that the lesion may replace."""
    return np.isin(labels, lesion.hosts)


def add_to_ct(lesion: Lesion, hu: Floats, labels: Labels, grid: Grid) -> None:
    """Blend the lesion's density, rim, spicules and calcification into ``hu``, in place."""
    if lesion.hu is None:
        return
    box = lesion_box(lesion, grid)
    part = grid.part(box)
    depth = _depth(lesion, part)
    host = host_mask(lesion, labels[box])
    for target, fraction in _layers(lesion, part, depth):
        hu[box] += np.where(host, fraction * (target - hu[box]), 0.0)


def add_to_activity(lesion: Lesion, suv: Floats, labels: Labels, grid: Grid) -> None:
    """Blend the lesion's uptake into ``suv``, in place; lesions unseen on PET keep a little."""
    box = lesion_box(lesion, grid)
    fraction = body_fraction(lesion, grid, box) * host_mask(lesion, labels[box])
    suv[box] += fraction * (lesion.suv - suv[box])


def _layers(lesion: Lesion, part: Grid, depth: Floats) -> list[tuple[float, Floats]]:
    """(HU, voxel fraction) from the outermost layer inwards."""
    softness = max(part.spacing[1:])
    solid = np.clip(0.5 + depth / softness, 0, 1)
    if lesion.ground_glass:
        part_solid = np.clip((depth - 0.33 * lesion.diameter) / 5.0, 0, 0.4)
        return [(_GROUND_GLASS_HU, 0.9 * solid), (lesion.hu or 0.0, part_solid)]
    layers = [(-100.0, _spicule_fraction(lesion, part)), (lesion.hu or 0.0, solid)]
    if lesion.halo:
        layers.insert(0, (_GROUND_GLASS_HU - 100, np.clip(1 + depth / lesion.halo, 0, 1)))
    if lesion.calcified:
        core = depth - (1.0 - lesion.calcified) * lesion.diameter / 2
        layers.append((420.0, np.clip(0.5 + core / softness, 0, 0.8)))
    return layers


def _spicule_fraction(lesion: Lesion, part: Grid) -> Floats:
    points = part.x[None, None, :], part.y[None, :, None], part.z[:, None, None]
    fraction = np.zeros(part.shape, dtype=np.float32)
    softness = max(part.spacing[1:])
    for direction, length in lesion.spicules:
        tip = np.array(lesion.centre) + np.array(direction) * (lesion.diameter / 2 + length)
        depth = depth_in_tube(points, lesion.centre, (tip[0], tip[1], tip[2]), (1.8, 0.4))
        np.maximum(fraction, np.clip(0.4 + depth / softness, 0, 1), out=fraction)
    return fraction


def _depth(lesion: Lesion, part: Grid) -> Floats:
    """Distance inside the lesion's surface in mm, negative outside."""
    cx, cy, cz = lesion.centre
    points = (
        part.x[None, None, :] - np.float32(cx),
        part.y[None, :, None] - np.float32(cy),
        part.z[:, None, None] - np.float32(cz),
    )
    along = _dot(points, lesion.squeeze)
    squared = points[0] ** 2 + points[1] ** 2 + points[2] ** 2
    squared = squared + along**2 * np.float32(1 / lesion.flattening**2 - 1)
    distance = np.sqrt(squared) + np.float32(1e-3)
    radius = np.ones_like(distance)
    for direction, height in lesion.lobes:
        radius += np.float32(height) * np.exp(4.0 * (_dot(points, direction) / distance - 1.0))
    return np.asarray(radius * np.float32(lesion.diameter / 2) - distance, dtype=np.float32)


def _dot(points: Sequence[Floats], direction: Vector) -> Floats:
    x, y, z = (p * np.float32(d) for p, d in zip(points, direction, strict=True))
    return np.asarray(x + y + z)


def _direction(rng: np.random.Generator) -> Vector:
    vector = rng.standard_normal(3)
    x, y, z = vector / np.linalg.norm(vector)
    return float(x), float(y), float(z)


def _site(plan: LesionPlan, look: Look) -> Site:
    if plan.visibility == "mismatch":
        return "central lung"
    return _OUTSIDE_LUNG[plan.index % 3] if plan.visibility == "pet" else look.site


def _diameters(plan: LesionPlan, look: Look, site: Site) -> tuple[float, float]:
    """Diameters in mm; what hides in a normal structure must fit into it."""
    if plan.visibility == "mismatch":
        return 24.0, 36.0
    return (18.0, 28.0) if site in _OUTSIDE_LUNG else look.diameter


def _suvs(plan: LesionPlan, look: Look) -> tuple[float, float]:
    """SUVbw ranges; a mismatch is as hot as some normal organ, and PET alone must stand out."""
    if plan.visibility == "ct":
        return 0.6, 1.1
    if plan.visibility == "pet":
        return max(look.suv[0], 3.5), max(look.suv[1], 5.5)
    return (3.0, 6.5) if plan.visibility == "mismatch" else look.suv


def _place(
    rng: np.random.Generator,
    site: Site,
    mismatch: bool,
    radius: float,
    *,
    labels: Labels,
    grid: Grid,
    z_mm: float,
) -> Vector:
    """A random point of the slice at ``z_mm`` that suits the site."""
    plane = labels[int(np.argmin(np.abs(grid.z - z_mm)))]
    suits = _lung_sites(plane, grid, site, mismatch, radius) if "lung" in site else None
    candidates = np.argwhere(_other_sites(plane, grid, site) if suits is None else suits)
    row, column = candidates[rng.integers(len(candidates))]
    return float(grid.x[column]), float(grid.y[row]), float(z_mm)


def _lung_sites(
    plane: npt.NDArray[np.uint8], grid: Grid, site: Site, mismatch: bool, radius: float
) -> Mask:
    """Lung at the right depth from the chest wall (peripheral) or from an organ (central)."""
    lung = plane == Tissue.LUNG
    depth, nearest = ndimage.distance_transform_edt(
        lung, sampling=grid.spacing[1:], return_indices=True
    )
    beside = plane[tuple(nearest)]
    inner = (np.abs(grid.x) < 95.0)[None, :] & (grid.y > -45.0)[:, None]
    central = inner & np.isin(beside, _ORGANS)
    peripheral = np.isin(beside, _SOFT_WALL) & (np.abs(grid.x) > 60.0)[None, :]
    low, high = (0.55, 0.95) if mismatch else (0.45, 1.0)
    deep = (depth > low * radius) & (depth < high * radius)
    wanted = lung & deep & (central if site == "central lung" else peripheral)
    for fallback in (wanted, lung & deep, lung & (depth > 0.7 * depth.max())):
        if fallback.sum() > 4:
            return np.asarray(fallback)
    return np.asarray(lung)


def _other_sites(plane: npt.NDArray[np.uint8], grid: Grid, site: Site) -> Mask:
    x, y = np.abs(grid.x)[None, :], grid.y[:, None]
    core = ndimage.binary_erosion(np.isin(plane, _HOSTS[site]), iterations=2)
    if site == "node":
        wanted = core & (x < 42) & (y > -55) & (y < 40)
    elif site == "chest wall":
        wanted = (plane == Tissue.MUSCLE) & core & (x > 60)
    else:
        wanted = (plane == Tissue.MARROW) & core
    spine = (x < 12) & (y > 42) & (y < 58)
    return wanted if wanted.sum() > 4 else np.asarray(spine & (plane != Tissue.AIR))
