"""Rendering of an :class:`Anatomy` into tissue labels, organ by organ from the skin inwards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.interpolate import PchipInterpolator

from petct_uad.phantom.anatomy import Anatomy, back_mm, diaphragm_z
from petct_uad.phantom.body import Body, extend_to_body
from petct_uad.phantom.canvas import Canvas, Inside, Labels, ellipsoid, tube
from petct_uad.phantom.grids import Floats, Grid, Mask, Vector
from petct_uad.phantom.tissue import Tissue

_SLAB = 48  # planes that a whole body is rendered at once, to bound memory
_LV_AXIS = np.array([0.64, -0.46, -0.61])  # from the valve plane to the apex


def render(anatomy: Anatomy, grid: Grid, body: Body | None = None) -> Labels:
    """Tissue labels (z, y, x) on a grid in anatomy coordinates; of the whole ``body``, if given."""
    if body is None:
        return _render(anatomy, grid, None)
    starts = range(0, len(grid.z), _SLAB)
    slabs = (Grid(grid.x, grid.y, grid.z[first : first + _SLAB]) for first in starts)
    return np.concatenate([_render(anatomy, slab, body) for slab in slabs])


def _render(anatomy: Anatomy, grid: Grid, body: Body | None) -> Labels:
    canvas = Canvas(anatomy, grid)
    _body_wall(canvas, anatomy)
    _breasts(canvas, anatomy)
    _mediastinum(canvas, anatomy)
    _abdomen(canvas, anatomy)
    _heart(canvas, anatomy)
    _great_vessels(canvas, anatomy)
    _airways(canvas)
    _spine(canvas, anatomy)
    if body is not None:
        extend_to_body(canvas, anatomy, body)
    _couch(canvas, anatomy)
    return canvas.labels


def _body_wall(canvas: Canvas, anatomy: Anatomy) -> None:
    """Lung, pleura, ribs, muscle, fat and skin as shells around the thoracic cavity."""
    distance, angle = canvas.outside, canvas.angle
    muscle, fat = _wall_thickness(canvas, anatomy, angle)
    surface = 11.0 + muscle + fat
    bounds = [distance < 0, distance < 11.0 + muscle, distance < surface - 2.0, distance < surface]
    kinds = [Tissue.LUNG, Tissue.MUSCLE, Tissue.FAT, Tissue.SKIN]
    canvas.labels[:] = np.select(bounds, kinds, Tissue.AIR).astype(np.uint8)
    _fat_planes(canvas, distance, angle, muscle)
    _ribs(canvas, anatomy, distance, angle)
    _sternum(canvas, anatomy)
    _scapulae(canvas, anatomy, distance, angle)


def _wall_thickness(canvas: Canvas, anatomy: Anatomy, angle: Floats) -> tuple[Floats, Floats]:
    """Muscle and subcutaneous fat (mm) by angle and height."""
    z = canvas.grid.z[:, None, None]
    muscle = _by_angle(angle, (20, 24, 15, 12, 11, 7, 2)) * (anatomy.muscle / 12.0)
    upper = np.clip((z + 25.0) / 60.0, 0, 1)
    pectoral = np.exp(-(((angle - 2.55) / 0.35) ** 2)) * 11.0 * upper
    shoulder = np.exp(-(((angle - 1.45) / 0.55) ** 2)) * 30.0
    shoulder = shoulder * np.clip((z - 45.0 + anatomy.arms_up) / 60.0, 0, 1)
    fat = _by_angle(angle, (0.6, 0.75, 1.0, 1.1, 0.9, 0.7, 0.5)) * anatomy.fat
    return (muscle + pectoral + shoulder).astype(np.float32), fat.astype(np.float32)


def _by_angle(angle: Floats, values: Sequence[float]) -> Floats:
    """Smooth values at 0 (back), 25, 60, 95, 125, 155 and 180 (front) degrees."""
    fine = np.linspace(0.0, np.pi, 181)
    smooth = PchipInterpolator(np.radians([0, 25, 60, 95, 125, 155, 180]), values)(fine)
    values_at = np.interp(angle, fine, ndimage.uniform_filter1d(smooth, 15))
    return np.asarray(values_at, dtype=np.float32)


def _fat_planes(canvas: Canvas, distance: Floats, angle: Floats, muscle: Floats) -> None:
    """Thin fat between the muscle layers, and the armpit."""
    between = np.abs(distance - 11.0 - 0.42 * muscle) < 0.09 * muscle
    side = (angle > 0.7) & (angle < 2.7)
    plane = between & side & (muscle > 9.0)
    armpit = (np.abs(angle - 1.75) < 0.28) & (distance > 12.0) & (muscle > 26.0)
    armpit &= distance < 0.75 * muscle
    canvas.labels[(plane | armpit) & (canvas.labels == Tissue.MUSCLE)] = Tissue.FAT


def _ribs(canvas: Canvas, anatomy: Anatomy, distance: Floats, angle: Floats) -> None:
    """Ribs run down and forward, so an axial slice cuts several of them obliquely."""
    along = np.clip((angle - 0.35) / 2.2, 0, 1)
    height = canvas.z + 78.0 * along**1.15 - 40.0 * np.clip((angle - 2.35) / 0.6, 0, 1)
    from_rib = np.mod(height + anatomy.rib_phase, 25.0) - 12.5
    level = ((distance - 5.5) / 4.6) ** 2 + (from_rib / 6.8) ** 2
    rib = (level < 1.0) & (angle > 0.30) & (np.abs(canvas.x) > 20.0)
    labels = canvas.labels
    labels[rib] = np.where(level[rib] > 0.42, Tissue.CORTEX, Tissue.MARROW)
    labels[rib & (angle > 2.45)] = Tissue.CARTILAGE
    gap = (distance > 1.0) & (distance < 10.0) & ~rib & (np.abs(from_rib) > 10.5)
    labels[gap & (labels == Tissue.MUSCLE)] = Tissue.FAT


def _sternum(canvas: Canvas, anatomy: Anatomy) -> None:
    front = -(anatomy.cavity_half_depth + 5.0)
    for tissue, half in ((Tissue.CORTEX, (20.0, 7.0)), (Tissue.MARROW, (16.5, 4.2))):

        def inside(x: Floats, y: Floats, z: Floats, h: tuple[float, float] = half) -> Mask:
            level = ((x / h[0]) ** 2) ** 2 + ((y - front) / h[1]) ** 2
            return np.asarray((level < 1.0) & (z > -95.0))

        canvas.paint(tissue, inside)


def _scapulae(canvas: Canvas, anatomy: Anatomy, distance: Floats, angle: Floats) -> None:
    """Thin plates in the muscle of the upper back, turned outwards since the arms are up."""
    middle = 17.0 + 7.0 * (angle - 0.75)
    plate = (np.abs(distance - middle) < 3.2) & (angle > 0.55) & (angle < 1.35)
    plate &= (canvas.z > 18.0 - anatomy.arms_up * 0.5) & (canvas.labels == Tissue.MUSCLE)
    core = plate & (np.abs(distance - middle) < 1.2)
    canvas.labels[plate] = Tissue.CORTEX
    canvas.labels[core] = Tissue.MARROW


def _breasts(canvas: Canvas, anatomy: Anatomy) -> None:
    if anatomy.breast == 0.0:
        return
    size = anatomy.breast * (1.0 + 0.012 * anatomy.fat)
    front = -(anatomy.cavity_half_depth + 14.0 + 0.5 * anatomy.fat)
    air = (Tissue.AIR,)
    wall = (Tissue.FAT, Tissue.SKIN)
    for x0 in (-74.0, 74.0):
        centre = (x0 * 0.97, front + 6.0, -42.0)
        half = (52.0 * size, 34.0 * size, 50.0 * size)
        grown = (half[0] + 2.0, half[1] + 2.0, half[2] + 2.0)
        gland = (half[0] * 0.6, half[1] * 0.62, half[2] * 0.6)
        canvas.paint(Tissue.SKIN, ellipsoid(centre, grown), centre, max(grown), air)
        canvas.paint(Tissue.FAT, ellipsoid(centre, half), centre, max(half), wall)
        strands = _strands(ellipsoid((centre[0], centre[1] - 7.0, centre[2]), gland))
        canvas.paint(Tissue.GLAND, strands, centre, max(half), (Tissue.FAT,))


def _strands(inside: Inside) -> Inside:
    """Gland within fat: a wavy subset of a region."""

    def chosen(x: Floats, y: Floats, z: Floats) -> Mask:
        pattern = np.sin(0.31 * x + 0.13 * z) + np.sin(0.37 * y - 0.21 * z) + np.sin(0.23 * (x + y))
        return np.asarray(inside(x, y, z) & (pattern > -0.2))

    return chosen


def _mediastinum(canvas: Canvas, anatomy: Anatomy) -> None:
    """The fat between the lungs, and the muscle beside the spine."""
    stations = np.array([-95, -72, -50, -12, 22, 45], dtype=np.float32)
    hx, hy, hz = anatomy.heart
    size = anatomy.heart_scale
    half_axes = (66.0 * size, 54.0 * size, 56.0 * size)
    pericardium = ellipsoid((hx, hy, hz), half_axes)

    def between(x: Floats, y: Floats, z: Floats) -> Mask:
        high = np.interp(y, stations, [14, 12, 30, 37, 30, 18])
        low = np.interp(y, stations, [16, 12, 20, 26, 25, 20])
        share = np.clip((z + 25.0) / 35.0, 0, 1)
        return np.asarray(np.abs(x - 2.0) < low + share * (high - low))

    def beside_spine(x: Floats, y: Floats, z: Floats) -> Mask:
        return np.asarray((x / 24.0) ** 2 + ((y - 66.0) / 34.0) ** 2 < 1.0)

    canvas.paint(Tissue.FAT, between, over=(Tissue.LUNG,))
    canvas.paint(Tissue.FAT, pericardium, (hx, hy, hz), max(half_axes), (Tissue.LUNG,))
    canvas.paint(Tissue.MUSCLE, beside_spine, over=(Tissue.LUNG, Tissue.FAT))


def _abdomen(canvas: Canvas, anatomy: Anatomy) -> None:
    """Liver, stomach and spleen under the two domes of the diaphragm."""
    below = canvas.z - diaphragm_z(anatomy, canvas.x, canvas.y)
    inside = canvas.is_any((Tissue.LUNG, Tissue.FAT)) & (below < 0)
    inside &= canvas.outside < 0
    labels = canvas.labels
    labels[inside] = Tissue.FAT
    liver = inside & (below < -3.0) & (canvas.x < 34.0 - 0.35 * canvas.y) & (canvas.y < 52.0)
    liver |= inside & (below < -3.0) & (canvas.x < -18.0)
    labels[liver] = Tissue.LIVER
    top = anatomy.dome_left
    half = anatomy.cavity_half_width
    stomach = ellipsoid((0.5 * half, -14.0, top - 44.0), (46.0, 48.0, 42.0))
    gas = ellipsoid((0.5 * half, -30.0, top - 30.0), (28.0, 22.0, 18.0))
    spleen = ellipsoid((0.70 * half, 40.0, top - 50.0), (30.0, 42.0, 46.0))
    for tissue, organ in (
        (Tissue.STOMACH, stomach),
        (Tissue.AIRWAY, gas),
        (Tissue.SPLEEN, spleen),
    ):
        chosen = organ(canvas.x, canvas.y, canvas.z) & inside & (below < -3.0)
        labels[chosen & ~liver] = tissue
    labels[inside & (below > -3.0)] = Tissue.MUSCLE


def _heart(canvas: Canvas, anatomy: Anatomy) -> None:
    """Four chambers; the left ventricle is a shell that opens towards the atria."""
    hx, hy, hz = anatomy.heart
    s = anatomy.heart_scale
    chest = (Tissue.FAT, Tissue.BLOOD, Tissue.SOFT)
    chambers: list[tuple[Vector, Vector]] = [
        ((hx - 12 * s, hy - 20 * s, hz - 8 * s), (38 * s, 25 * s, 36 * s)),  # right ventricle
        ((hx - 38 * s, hy + 2 * s, hz - 2 * s), (22 * s, 25 * s, 30 * s)),  # right atrium
        ((hx - 6 * s, hy + 31 * s, hz + 14 * s), (32 * s, 18 * s, 23 * s)),  # left atrium
        ((hx - 12 * s, hy - 4 * s, hz + 20 * s), (18 * s, 18 * s, 24 * s)),  # outflow tracts
    ]
    for centre, half in chambers:
        grown = (half[0] + 2.5, half[1] + 2.5, half[2] + 2.5)
        canvas.paint(Tissue.SOFT, ellipsoid(centre, grown), centre, max(grown), (Tissue.FAT,))
    for centre, half in chambers:
        canvas.paint(Tissue.BLOOD, ellipsoid(centre, half), centre, max(half), chest)
    ventricle = (hx + 20 * s, hy - 2 * s, hz - 10 * s)
    outer, inner = _ventricle(ventricle, (46 * s, 31 * s)), _ventricle(ventricle, (37 * s, 20 * s))
    canvas.paint(Tissue.MYOCARDIUM, outer, ventricle, 48 * s, chest)
    canvas.paint(Tissue.BLOOD, inner, ventricle, 48 * s, (Tissue.MYOCARDIUM,))


def _ventricle(centre: Vector, half: tuple[float, float]) -> Inside:
    """An ellipsoid of revolution about the heart's long axis, cut at the valve plane."""

    def inside(x: Floats, y: Floats, z: Floats) -> Mask:
        dx, dy, dz = x - centre[0], y - centre[1], z - centre[2]
        along = dx * _LV_AXIS[0] + dy * _LV_AXIS[1] + dz * _LV_AXIS[2]
        across = dx**2 + dy**2 + dz**2 - along**2
        return np.asarray(((along / half[0]) ** 2 + across / half[1] ** 2 < 1.0) & (along > -26.0))

    return inside


def _great_vessels(canvas: Canvas, anatomy: Anatomy) -> None:
    """Aorta, pulmonary arteries, cavae, azygos and the oesophagus behind them."""
    r = anatomy.aorta_radius
    hx, hy, hz = anatomy.heart
    root: Vector = (hx - 14, hy + 2, hz + 28)
    ascending: list[Vector] = [root, (-20, -26, -6), (-17, -24, 20), (-4, -14, 36)]
    arch: list[Vector] = [(-4, -14, 36), (10, 4, 41), (22, 22, 32), (25, 32, 10)]
    descending: list[Vector] = [(25, 32, 10), (24, 36, -40), (20, 38, -90), (14, 38, -160)]
    trunk: list[Vector] = [(hx - 2, hy - 18, hz + 34), (14, -22, -8), (20, -6, -6), (34, 10, -8)]
    right: list[Vector] = [(12, -14, -8), (-14, -6, -12), (-36, 4, -14)]
    cava: list[Vector] = [(-27, -18, 75), (-27, -20, 10), (-30, -14, -34)]
    brachiocephalic: list[Vector] = [(-27, -20, 55), (0, -36, 62), (30, -34, 75)]
    branches: list[Vector] = [(-6, -16, 44), (-14, -16, 80)]
    carotid: list[Vector] = [(8, 0, 46), (16, -4, 80)]
    azygos: list[Vector] = [(-4, 32, -110), (-7, 34, 2), (-20, 20, 10), (-26, -6, 10)]
    fat = (Tissue.FAT, Tissue.LUNG, Tissue.SOFT, Tissue.MUSCLE)
    for path, radius in (
        (ascending, r + 2.0), (arch, r), (descending, r - 1.0), (trunk, 12.0), (right, 9.5),
        (cava, 9.0), (brachiocephalic, 6.5), (branches, 6.0), (carotid, 5.0), (azygos, 4.0),
    ):  # fmt: skip
        tube(canvas, Tissue.FAT, path, radius + 3.0, (Tissue.LUNG,))
        tube(canvas, Tissue.BLOOD, path, radius, fat)
    oesophagus: list[Vector] = [(4, 26, 90), (3, 27, 0), (8, 24, -60), (20, 18, -130)]
    tube(canvas, Tissue.SOFT, oesophagus, 7.5, (Tissue.FAT, Tissue.MUSCLE))
    for node in ((-22.0, 0.0, 4.0), (4.0, -22.0, 22.0), (3.0, 12.0, -14.0), (-14.0, 4.0, 24.0)):
        canvas.paint(Tissue.SOFT, ellipsoid(node, (5.0, 4.0, 6.0)), node, 6.0, (Tissue.FAT,))


def _airways(canvas: Canvas) -> None:
    paths: list[tuple[list[Vector], float]] = [
        ([(-2, -2, 90), (0, 4, 2)], 8.8),
        ([(0, 4, 2), (-24, 8, -14), (-34, 10, -24), (-40, 16, -50)], 6.6),
        ([(0, 4, 2), (30, 10, -20), (38, 14, -30), (44, 20, -54)], 5.8),
    ]
    anything = tuple(t for t in Tissue if t not in (Tissue.AIR, Tissue.MARROW, Tissue.CORTEX))
    for path, radius in paths:
        tube(canvas, Tissue.SOFT, path, radius + 1.8, (Tissue.FAT, Tissue.LUNG))
    for path, radius in paths:
        tube(canvas, Tissue.AIRWAY, path, radius, anything)


def _spine(canvas: Canvas, anatomy: Anatomy) -> None:
    """Vertebrae every 24 mm with discs between, the canal, and their processes."""
    x, y = canvas.x, canvas.y
    z = np.mod(canvas.z + anatomy.vertebra_phase, 24.0)
    labels = canvas.labels
    not_air = labels != Tissue.AIR
    body = (x / 17.5) ** 2 + ((y - 50.0) / 14.5) ** 2
    ring = np.hypot(x, (y - 70.0) * 1.1)
    side = (
        (np.abs(y - 72.0 - 0.12 * np.abs(x)) < 4.2) & (np.abs(x) < 33.0) & (z > 10.0) & (z < 19.0)
    )
    side |= (np.abs(x) < 3.2) & (y > 74.0) & (y < 103.0) & (z > 2.0) & (z < 20.0)
    rim = (ring > 8.5) & (ring < 13.0) & (z > 4.0) & (z < 20.0)
    labels[(side | rim) & not_air] = Tissue.CORTEX
    labels[body < 1.0] = Tissue.CORTEX
    labels[(body < 0.74) & (z > 6.5) & (z < 22.5)] = Tissue.MARROW
    labels[(body < 0.95) & (z < 4.5)] = Tissue.DISC
    labels[ring < 8.5] = Tissue.CORD


def _couch(canvas: Canvas, anatomy: Anatomy) -> None:
    """A shallow carbon-fibre shell over foam; it does not follow the patient's warp."""
    x, y = canvas.grid.x[None, None, :], canvas.grid.y[None, :, None]
    depth = y - (back_mm(anatomy) + 3.0 - 0.0008 * x**2)
    inside = (depth > 0) & (depth < 26.0) & (np.abs(x) < 205.0)
    shell = inside & ((depth < 2.6) | (depth > 23.4) | (np.abs(x) > 202.0))
    empty = canvas.labels == Tissue.AIR
    canvas.labels[inside & empty] = Tissue.COUCH_FOAM
    canvas.labels[shell & empty] = Tissue.COUCH_SHELL
