"""One patient's thorax as parameters, and its rendering into tissue labels.

Anatomy coordinates are LPS in mm with the carina at (0, 0, 0): +x left, +y back, +z head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from petct_uad.phantom.grids import Floats, Vector
from petct_uad.phantom.tissue import Tissues, draw_tissues

Sex = Literal["F", "M"]
Wave = tuple[Vector, Vector, Vector]  # amplitudes (mm), wave numbers (1/mm) and phases per axis


@dataclass(frozen=True)
class Anatomy:
    """Everything that sets one patient's body apart; lengths in mm."""

    carina_mm: Vector  # of the carina in the CT frame
    sex: Sex
    age: int
    height_m: float
    weight_kg: float
    breathing: float  # 0 at end-expiration, 1 at end-inspiration
    cavity_half_width: float
    cavity_half_depth: float
    fat: float  # subcutaneous, at the flank
    muscle: float  # at the flank
    heart: Vector
    heart_scale: float
    dome_right: float  # z of the right diaphragm's top
    dome_left: float
    rib_phase: float
    vertebra_phase: float
    aorta_radius: float
    breast: float  # size; 0 in males
    arms_up: float  # how far the shoulders reach down into the stack
    waves: tuple[Wave, ...]
    tissues: Tissues


def draw_anatomy(rng: np.random.Generator, myocardium_suv: float) -> Anatomy:
    """Draw one patient; body size, sex, breathing phase and organ positions vary."""
    sex: Sex = "F" if rng.random() < 0.45 else "M"
    size = 0.94 if sex == "F" else 1.03
    height = float(rng.normal(1.64 if sex == "F" else 1.77, 0.06))
    bmi = float(rng.uniform(19.0, 34.0))
    breathing = float(rng.uniform(0.0, 1.0))
    dome = -66.0 - 22.0 * breathing + float(rng.uniform(-5, 5))
    return Anatomy(
        carina_mm=_triple(rng, (0.0, -6.0, -350.0), (6.0, 6.0, 250.0)),
        sex=sex,
        age=int(rng.integers(45, 82)),
        height_m=round(height, 2),
        weight_kg=round(bmi * height**2, 1),
        breathing=breathing,
        cavity_half_width=size * float(rng.uniform(126, 140)) + 3.0 * breathing,
        cavity_half_depth=size * float(rng.uniform(80, 90)) + 3.0 * breathing,
        fat=2.0 + (bmi - 18.0) * 1.5,
        muscle=(9.0 if sex == "F" else 13.0) + float(rng.uniform(-2, 4)),
        heart=_triple(rng, (17.0, -27.0, -56.0 - 8.0 * breathing), (4.0, 3.0, 4.0)),
        heart_scale=size * float(rng.uniform(0.92, 1.1)),
        dome_right=dome,
        dome_left=dome - float(rng.uniform(6, 18)),
        rib_phase=float(rng.uniform(0, 25)),
        vertebra_phase=float(rng.uniform(0, 24)),
        aorta_radius=float(rng.uniform(11.0, 14.5)),
        breast=float(rng.uniform(0.75, 1.25)) if sex == "F" else 0.0,
        arms_up=float(rng.uniform(10, 30)),
        waves=tuple(_wave(rng) for _ in range(5)),
        tissues=draw_tissues(rng, breathing, myocardium_suv),
    )


def diaphragm_z(anatomy: Anatomy, x: Floats, y: Floats) -> Floats:
    """Height of the diaphragm at (x, y), in mm: two domes that fall off towards the chest wall."""
    width, depth = anatomy.cavity_half_width, anatomy.cavity_half_depth
    tops = ((anatomy.dome_right, -0.47 * width), (anatomy.dome_left, 0.52 * width))
    domes = [
        top - 58.0 * (((x - x0) / (0.56 * width)) ** 2 + ((y + 8.0) / (0.95 * depth)) ** 2)
        for top, x0 in tops
    ]
    return np.asarray(np.maximum(*domes), dtype=np.float32)


def back_mm(anatomy: Anatomy) -> float:
    """Distance from the carina to the skin of the back, in mm."""
    return anatomy.cavity_half_depth + 11.0 + 20.0 + 0.6 * anatomy.fat


def _triple(rng: np.random.Generator, centre: Vector, spread: Vector) -> Vector:
    x, y, z = (float(c + rng.uniform(-s, s)) for c, s in zip(centre, spread, strict=True))
    return x, y, z


def _wave(rng: np.random.Generator) -> Wave:
    none = (0.0, 0.0, 0.0)
    return (
        _triple(rng, none, (2.0, 2.0, 2.0)),
        _triple(rng, (0.05, 0.05, 0.05), (0.03, 0.03, 0.03)),
        _triple(rng, none, (3.14, 3.14, 3.14)),
    )
