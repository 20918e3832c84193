"""The rigid motion between the CT frame and the PET frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydantic import ConfigDict

Vector = tuple[float, float, float]

_ORIGIN: Vector = (0.0, 0.0, 0.0)
_DECIMALS = 6


@dataclass(frozen=True)
class RigidTransform:
    """Maps a point of the CT frame to the PET frame: ``y = R (x - centre) + centre + translation``.

    This is the direction in which SimpleITK resamples the PET onto the CT's grid. All in DICOM's
    patient frame (LPS).

    Attributes:
        rotation_deg: Euler angles about x, y and z; R = Rz Rx Ry, ITK's default order.
        translation_mm: along x, y and z.
        centre_mm: point about which R turns.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    rotation_deg: Vector = _ORIGIN
    translation_mm: Vector = _ORIGIN
    centre_mm: Vector = _ORIGIN
    kind: Literal["rigid"] = "rigid"

    def to_sitk(self) -> sitk.Euler3DTransform:
        """The same motion for SimpleITK."""
        angles = [math.radians(angle) for angle in self.rotation_deg]
        return sitk.Euler3DTransform(self.centre_mm, *angles, self.translation_mm)

    def inverse_sitk(self) -> sitk.Transform:
        """From the PET frame to the CT frame."""
        return self.to_sitk().GetInverse()

    @classmethod
    def from_sitk(cls, transform: sitk.Euler3DTransform) -> RigidTransform:
        """The motion that SimpleITK holds, rounded to six decimals so that it survives JSON."""
        angles = (transform.GetAngleX(), transform.GetAngleY(), transform.GetAngleZ())
        return cls(
            vector([math.degrees(angle) for angle in angles]),
            vector(transform.GetTranslation()),
            vector(transform.GetCenter()),
        )

    def apply(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map points of the CT frame, (n, 3) in mm, to the PET frame, (n, 3) in mm."""
        rotation = np.array(self.to_sitk().GetMatrix()).reshape(3, 3)
        centre = np.array(self.centre_mm)
        moved = (points_mm - centre) @ rotation.T + centre + np.array(self.translation_mm)
        return np.asarray(moved, dtype=np.float64)


def vector(values: object) -> Vector:
    """Three numbers rounded to six decimals, without a negative zero."""
    x, y, z = (round(float(value), _DECIMALS) + 0.0 for value in values)  # type: ignore[attr-defined]
    return (x, y, z)
