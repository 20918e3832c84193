"""What the phantom is made of, and how each tissue looks on CT and on FDG PET."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from petct_uad.phantom.grids import Floats


class Tissue(IntEnum):
    """Labels of the rendered anatomy."""

    AIR = 0
    FAT = 1
    MUSCLE = 2
    SKIN = 3
    CORTEX = 4
    MARROW = 5
    CARTILAGE = 6
    LUNG = 7
    BLOOD = 8
    MYOCARDIUM = 9
    AIRWAY = 10
    SOFT = 11  # oesophagus, nodes, airway walls, thymus rests
    LIVER = 12
    SPLEEN = 13
    STOMACH = 14
    GLAND = 15
    DISC = 16
    CORD = 17
    COUCH_SHELL = 18
    COUCH_FOAM = 19
    BRAIN = 20
    KIDNEY = 21
    URINE = 22
    BOWEL = 23


# Attenuation of tissues without contrast at 120 kV, in HU; mean and spread between patients.
_HU: dict[Tissue, tuple[float, float]] = {
    Tissue.AIR: (-1000, 0),
    Tissue.FAT: (-102, 5),
    Tissue.MUSCLE: (52, 6),
    Tissue.SKIN: (5, 10),
    Tissue.CORTEX: (560, 70),
    Tissue.MARROW: (170, 45),
    Tissue.CARTILAGE: (95, 20),
    Tissue.LUNG: (-850, 15),
    Tissue.BLOOD: (42, 4),
    Tissue.MYOCARDIUM: (47, 3),
    Tissue.AIRWAY: (-985, 3),
    Tissue.SOFT: (36, 5),
    Tissue.LIVER: (57, 8),
    Tissue.SPLEEN: (48, 4),
    Tissue.STOMACH: (25, 10),
    Tissue.GLAND: (25, 12),
    Tissue.DISC: (85, 10),
    Tissue.CORD: (32, 3),
    Tissue.COUCH_SHELL: (-180, 0),
    Tissue.COUCH_FOAM: (-900, 0),
}
# Beyond the thorax; drawn from a stream of their own, so that the thorax stays as it is.
_BODY_HU: dict[Tissue, tuple[float, float]] = {
    Tissue.BRAIN: (35, 2),
    Tissue.KIDNEY: (32, 3),
    Tissue.URINE: (5, 4),
    Tissue.BOWEL: (30, 10),
}

# SUVbw one hour after FDG; the myocardium is drawn apart, since it varies most.
_SUV: dict[Tissue, tuple[float, float]] = {
    Tissue.AIR: (0, 0),
    Tissue.FAT: (0.28, 0.03),
    Tissue.MUSCLE: (0.62, 0.07),
    Tissue.SKIN: (0.45, 0.05),
    Tissue.CORTEX: (0.6, 0.08),
    Tissue.MARROW: (1.25, 0.2),
    Tissue.CARTILAGE: (0.5, 0.05),
    Tissue.LUNG: (0.44, 0.04),
    Tissue.BLOOD: (1.8, 0.12),
    Tissue.MYOCARDIUM: (3, 0),
    Tissue.AIRWAY: (0.1, 0.02),
    Tissue.SOFT: (1.25, 0.2),
    Tissue.LIVER: (2.4, 0.22),
    Tissue.SPLEEN: (1.85, 0.15),
    Tissue.STOMACH: (1.4, 0.35),
    Tissue.GLAND: (0.65, 0.12),
    Tissue.DISC: (0.6, 0.05),
    Tissue.CORD: (1.1, 0.1),
    Tissue.COUCH_SHELL: (0, 0),
    Tissue.COUCH_FOAM: (0, 0),
}
_BODY_SUV: dict[Tissue, tuple[float, float]] = {
    Tissue.BRAIN: (8.0, 1.5),
    Tissue.KIDNEY: (3.2, 0.5),
    Tissue.URINE: (22.0, 9.0),
    Tissue.BOWEL: (1.6, 0.4),
}
# What an intravenous contrast agent adds in the portal venous phase, in HU.
_CONTRAST_HU: dict[Tissue, float] = {
    Tissue.BLOOD: 110,
    Tissue.MYOCARDIUM: 60,
    Tissue.LIVER: 48,
    Tissue.SPLEEN: 65,
    Tissue.KIDNEY: 130,
    Tissue.BOWEL: 35,
    Tissue.MUSCLE: 8,
    Tissue.SOFT: 25,
}


@dataclass(frozen=True)
class Tissues:
    """One patient's values, indexed by :class:`Tissue`."""

    hu: tuple[float, ...]
    suv: tuple[float, ...]

    def hu_table(self) -> Floats:
        """HU by label."""
        return np.array(self.hu, dtype=np.float32)

    def suv_table(self) -> Floats:
        """SUVbw by label."""
        return np.array(self.suv, dtype=np.float32)


def draw_tissues(rng: np.random.Generator, breathing: float, myocardium_suv: float) -> Tissues:
    """Draw a patient's values; the lung is denser at expiration (``breathing`` 0) than at 1."""
    hu = _draw(rng, _HU)
    suv = _draw(rng, _SUV)
    hu[Tissue.LUNG] += 45.0 * (1.0 - breathing)
    suv[Tissue.MYOCARDIUM] = myocardium_suv
    return Tissues(tuple(hu), tuple(suv))


def with_body(tissues: Tissues, rng: np.random.Generator, contrast: bool) -> Tissues:
    """The values of a patient whose whole body is seen, with or without contrast in the CT."""
    hu = [*tissues.hu, *_draw(rng, _BODY_HU)]
    suv = [*tissues.suv, *_draw(rng, _BODY_SUV)]
    if contrast:
        hu = [value + _CONTRAST_HU.get(Tissue(label), 0.0) for label, value in enumerate(hu)]
    return Tissues(tuple(hu), tuple(suv))


def _draw(rng: np.random.Generator, table: dict[Tissue, tuple[float, float]]) -> list[float]:
    spread = rng.uniform(-1.7, 1.7, len(table))
    return [mean + sd * float(s) for (mean, sd), s in zip(table.values(), spread, strict=True)]
