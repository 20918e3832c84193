"""The rest of the body around the thorax: head, neck, arms, abdomen, pelvis and thighs.

What :mod:`petct_uad.phantom.render` draws is a chest that continues in both directions; this module
closes its lungs at the apices and replaces what no chest has. Coordinates are those of
:mod:`petct_uad.phantom.anatomy`: LPS in mm with the carina at (0, 0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from petct_uad.phantom.anatomy import Anatomy
from petct_uad.phantom.canvas import Canvas, ellipsoid, tube
from petct_uad.phantom.grids import Floats, Mask, Vector
from petct_uad.phantom.tissue import Tissue

_NECK_MM = 150.0  # z from which on there is a neck and no shoulder
_NECK_Y_MM = 24.0  # of its axis
_COSTAL_MARGIN_MM = -205.0  # no rib lies below
_CROTCH_MM = -450.0
_SKIN_MM = 2.0
_BONES = (Tissue.CORTEX, Tissue.MARROW, Tissue.CARTILAGE)


@dataclass(frozen=True)
class Body:
    """What sets one patient's body apart beyond the thorax; lengths in mm."""

    apex_right: float  # z of the right lung's top, before the warp
    apex_left: float
    vertex: float  # z of the top of the head
    arms_down: bool
    contrast: bool  # in the CT, intravenous
    bladder: float  # size
    gas: float  # radius of the gas in the colon
    gas_phase: float


def draw_body(rng: np.random.Generator, arms_down: bool, contrast: bool) -> Body:
    """Draw the body of one patient."""
    apex = float(rng.uniform(98, 118))
    return Body(
        apex_right=apex,
        apex_left=apex + float(rng.uniform(-4, 4)),
        vertex=float(rng.uniform(345, 365)),
        arms_down=arms_down,
        contrast=contrast,
        bladder=float(rng.uniform(0.7, 1.25)),
        gas=float(rng.uniform(6, 15)),
        gas_phase=float(rng.uniform(0, 6.28)),
    )


def extend_to_body(canvas: Canvas, anatomy: Anatomy, body: Body) -> None:
    """Make a whole body of a canvas on which the chest, but no couch, has been drawn."""
    below, above = float(canvas.grid.z[0]), float(canvas.grid.z[-1])
    if above > 0.0:
        _close_lungs(canvas, body)
    _end_ribs(canvas)
    if below < -100.0:
        _abdomen(canvas, anatomy, body)
    if below < -250.0:
        _pelvis(canvas, body)
    _cut_outline(canvas, anatomy)
    if above > 80.0:
        _head(canvas, body)
    _arms(canvas, anatomy, body)


def _close_lungs(canvas: Canvas, body: Body) -> None:
    """Each lung ends in a dome; above it lie the muscles of shoulder and neck."""
    x, y, z = canvas.x, canvas.y, canvas.z
    lost = _is(canvas, Tissue.LUNG) & (canvas.grid.z > 20.0)[:, None, None]
    fall = 60.0 * (((np.abs(x) - 52.0) / 82.0) ** 2 + ((y - 8.0) / 88.0) ** 2)
    lost &= z > np.where(x < 0, body.apex_right, body.apex_left) - fall
    canvas.labels[lost] = Tissue.MUSCLE
    canvas.labels[lost & (np.sin(0.16 * x + 0.21 * y) > 0.75)] = Tissue.FAT


def _end_ribs(canvas: Canvas) -> None:
    """The chest's bones, all but the spine, end at the costal margin and below the neck."""
    z = canvas.grid.z[:, None, None]
    wall = (canvas.outside > 0) & ~_spine(canvas) & ((z < _COSTAL_MARGIN_MM) | (z > 125.0))
    canvas.labels[wall & _is(canvas, *_BONES)] = Tissue.MUSCLE


def _abdomen(canvas: Canvas, anatomy: Anatomy, body: Body) -> None:
    """The liver's lower edge, kidneys, bowel with gas in places, and the great vessels."""
    top = anatomy.dome_right
    edge = top - 160.0 + 0.5 * (canvas.x + 100.0)
    canvas.labels[_is(canvas, Tissue.LIVER) & (canvas.z < edge)] = Tissue.FAT
    low: Vector = (14, 38, -155)
    for path, radius in (
        ([low, (4, 30, -290)], 10.0), ([(4, 30, -290), (42, 10, -400)], 6.0),
        ([(4, 30, -290), (-38, 10, -400)], 6.0), ([(-20, 24, -150), (-14, 30, -300)], 10.0),
    ):  # fmt: skip
        tube(canvas, Tissue.BLOOD, path, radius, (Tissue.FAT,))
    for side in (-1.0, 1.0):
        psoas: list[Vector] = [(side * 38, 46, -230), (side * 70, 12, -430)]
        tube(canvas, Tissue.MUSCLE, psoas, 20.0, (Tissue.FAT,))
        kidney = (side * 62.0, 42.0, top - 150.0 + 8.0 * side)
        _blob(canvas, Tissue.KIDNEY, kidney, (27.0, 24.0, 52.0), (Tissue.FAT, Tissue.MUSCLE))
        _blob(canvas, Tissue.URINE, kidney, (8.0, 7.0, 18.0), (Tissue.KIDNEY,))
    _small_bowel(canvas)
    _colon(canvas, body)


def _small_bowel(canvas: Canvas) -> None:
    x, y, z = canvas.x, canvas.y, canvas.z
    loops = np.sin(0.11 * x + 0.05 * z) + np.sin(0.12 * y - 0.09 * z) + np.sin(0.1 * (z + x))
    place = ((x / 85.0) ** 2 + ((y + 25.0) / 50.0) ** 2 + ((z + 315.0) / 85.0) ** 2) < 1.0
    canvas.labels[place & (loops > 0.1) & _is(canvas, Tissue.FAT)] = Tissue.BOWEL


def _colon(canvas: Canvas, body: Body) -> None:
    """A frame around the small bowel; gas-filled here and there, and as dark as an airway."""
    path: list[Vector] = [
        (-95, -5, -390), (-98, 0, -235), (-20, -48, -250), (60, -40, -225), (100, 5, -215),
        (100, 5, -380), (25, 20, -430),
    ]  # fmt: skip
    tube(canvas, Tissue.BOWEL, path, body.gas + 5.0, (Tissue.FAT,))
    wall = _is(canvas, Tissue.BOWEL)
    tube(canvas, Tissue.AIRWAY, path, body.gas, (Tissue.BOWEL,))
    solid = np.sin(0.045 * (canvas.x + canvas.z) + body.gas_phase) < -0.1
    canvas.labels[wall & _is(canvas, Tissue.AIRWAY) & solid] = Tissue.BOWEL


def _pelvis(canvas: Canvas, body: Body) -> None:
    """Iliac bones, sacrum, hips, thigh bones and the bladder."""
    distance = canvas.outside
    z = canvas.grid.z[:, None, None]
    plate = (np.abs(distance + 14.0) < 6.0) & (canvas.angle > 0.5) & (canvas.angle < 1.7)
    plate &= (z < -290.0) & (z > -430.0)
    canvas.labels[plate] = Tissue.CORTEX
    canvas.labels[plate & (np.abs(distance + 14.0) < 3.5)] = Tissue.MARROW
    muscle = (distance > -40.0) & (distance < 0.0) & (z < -330.0) & (canvas.y > -40.0)
    canvas.labels[muscle & _is(canvas, Tissue.FAT)] = Tissue.MUSCLE
    _blob(canvas, Tissue.CORTEX, (0.0, 55.0, -370.0), (46.0, 20.0, 55.0))
    _blob(canvas, Tissue.MARROW, (0.0, 55.0, -370.0), (41.0, 15.0, 50.0))
    deep = (distance < 0) & (z < -400.0) & _is(canvas, Tissue.FAT, Tissue.BOWEL)
    canvas.labels[deep & (z < -425.0)] = Tissue.MUSCLE
    size = body.bladder
    bladder = (38.0 * size, 30.0 * size, 26.0 * size)
    _blob(canvas, Tissue.URINE, (0.0, -22.0, -402.0), bladder)
    canvas.labels[(z < _CROTCH_MM) & _is(canvas, *_BONES, Tissue.DISC, Tissue.CORD)] = Tissue.MUSCLE
    for side in (-1.0, 1.0):
        _blob(canvas, Tissue.CORTEX, (side * 88, -2, -425), (24.0, 24.0, 24.0))
        _blob(canvas, Tissue.MARROW, (side * 88, -2, -425), (20.0, 20.0, 20.0))
        shaft: list[Vector] = [(side * 88, -2, -425), (side * 118, 2, -465), (side * 96, 0, -800)]
        tube(canvas, Tissue.CORTEX, shaft, 14.0)
        tube(canvas, Tissue.MARROW, shaft, 7.5)


def _cut_outline(canvas: Canvas, anatomy: Anatomy) -> None:
    """Shoulders that narrow to the neck, and a trunk that parts into two thighs."""
    z = canvas.grid.z[:, None, None]
    x, y = canvas.x, canvas.y
    if canvas.grid.z[-1] > 70.0:
        neck = 56.0 + 0.45 * anatomy.fat
        high = np.clip((_NECK_MM - z) / 80.0, 0, 1) ** 0.6
        half_x, half_y = neck + (190.0 - neck) * high, neck + 4.0 + (130.0 - neck) * high
        level = _ring(x, y - _NECK_Y_MM * (1 - high), half_x, half_y)
        _shave(canvas, z > 70.0, level, 0.4 * anatomy.fat)
    if canvas.grid.z[0] < _CROTCH_MM + 30.0:
        thigh = 86.0 + 0.5 * anatomy.fat
        apart = np.clip((_CROTCH_MM + 30.0 - z) / 30.0, 0, 1)
        half_x, half_y = thigh + (1 - apart) * 110.0, thigh + (1 - apart) * 60.0
        level = _ring(np.abs(x) - (thigh + 2.0) * apart, y, half_x, half_y)
        _shave(canvas, z < _CROTCH_MM + 30.0, level, 0.8 * anatomy.fat)


def _ring(x: Floats, y: Floats, half_x: Floats, half_y: Floats) -> Floats:
    """Distance outside an ellipse along the radius in mm, as of the cavity's wall."""
    level = np.sqrt((x / half_x) ** 2 + (y / half_y) ** 2)
    return np.asarray(np.sqrt(x**2 + y**2) * (1 - 1 / np.maximum(level, np.float32(1e-3))))


def _shave(canvas: Canvas, where: Mask, level: Floats, fat_mm: float) -> None:
    """Put a new surface, with its skin and fat, where the body goes further than it should."""
    labels = canvas.labels
    inside = where & ~_is(canvas, Tissue.AIR)
    labels[inside & (level > -_SKIN_MM - fat_mm) & ~_is(canvas, *_BONES)] = Tissue.FAT
    labels[inside & (level > -_SKIN_MM)] = Tissue.SKIN
    labels[inside & (level > 0)] = Tissue.AIR


def _head(canvas: Canvas, body: Body) -> None:
    """Skull, brain, jaw, and the air of nose and throat, which continues into the trachea."""
    canvas.labels[canvas.grid.z > body.vertex - 110.0] = Tissue.AIR
    middle: Vector = (0.0, 6.0, body.vertex - 100.0)
    _blob(canvas, Tissue.SKIN, middle, (77.0, 97.0, 100.0))
    _blob(canvas, Tissue.MUSCLE, middle, (74.0, 94.0, 97.0))
    skull: Vector = (0.0, 12.0, body.vertex - 82.0)
    _blob(canvas, Tissue.CORTEX, skull, (71.0, 86.0, 77.0))
    _blob(canvas, Tissue.BRAIN, skull, (65.0, 80.0, 71.0))
    jaw: Vector = (0.0, -42.0, body.vertex - 172.0)
    _blob(canvas, Tissue.CORTEX, jaw, (46.0, 38.0, 12.0), (Tissue.MUSCLE, Tissue.SKIN))
    _blob(canvas, Tissue.SOFT, jaw, (38.0, 30.0, 14.0), (Tissue.CORTEX, Tissue.MUSCLE))
    nose: list[Vector] = [(0, -60, body.vertex - 132), (0, -22, body.vertex - 140)]
    throat: list[Vector] = [(0, -20, body.vertex - 140), (0, 2, _NECK_MM + 30), (-2, -2, 88)]
    tube(canvas, Tissue.AIRWAY, nose, 9.0)
    tube(canvas, Tissue.AIRWAY, throat, 8.6, (Tissue.FAT, Tissue.MUSCLE, Tissue.SOFT, Tissue.BLOOD))
    for side in (-1.0, 1.0):
        sinus = (side * 26.0, -52.0, body.vertex - 126.0)
        _blob(canvas, Tissue.AIRWAY, sinus, (12.0, 13.0, 14.0))


def _arms(canvas: Canvas, anatomy: Anatomy, body: Body) -> None:
    """Beside the head, or beside the trunk: there they reach out of a CT's field of view."""
    width = anatomy.cavity_half_width + anatomy.muscle + 1.15 * anatomy.fat
    for side in (-1.0, 1.0):
        if body.arms_down:
            out = side * (width + 46.0)
            arm: list[Vector] = [
                (side * (width - 8), 18, 72), (out, 22, -40), (out, 10, -180), (out, -8, -420),
            ]  # fmt: skip
        else:
            arm = [(side * 140, 18, 72), (side * 136, 0, 250), (side * 120, -30, 480)]
        bone: list[Vector] = [arm[0], *arm[1:]]
        around = (Tissue.AIR,)
        tube(canvas, Tissue.SKIN, arm, 36.0, around)
        tube(canvas, Tissue.FAT, arm, 34.0, (Tissue.SKIN, Tissue.AIR))
        tube(canvas, Tissue.MUSCLE, arm, 34.0 - 0.35 * anatomy.fat, (Tissue.FAT,))
        tube(canvas, Tissue.CORTEX, bone, 11.0, (Tissue.MUSCLE, Tissue.FAT, Tissue.SKIN))
        tube(canvas, Tissue.MARROW, bone, 6.0, (Tissue.CORTEX,))


def _spine(canvas: Canvas) -> Mask:
    return np.asarray((np.abs(canvas.x) < 36.0) & (canvas.y > 30.0))


def _is(canvas: Canvas, *tissues: Tissue) -> Mask:
    return canvas.is_any(tissues)


def _blob(
    canvas: Canvas,
    tissue: Tissue,
    centre: Vector,
    half_axes: Vector,
    over: tuple[Tissue, ...] = (),
) -> None:
    canvas.paint(tissue, ellipsoid(centre, half_axes), centre, max(half_axes), over)
